"""The moving average of the global parameters: its values, what leaves, and kill -9 in between."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from driver_runs import drive_on
from hypothesis import given
from hypothesis import strategies as st
from toy_federation import (
    ToyTransport,
    initial_arrays,
    make_plan,
    make_run,
)

from server.aggregation.ema import updated_average
from server.checkpoints.run_directory import RunDirectory
from shared_model.protocol.arrays import decode_arrays

PROCESS = Path(__file__).with_name("toy_driver_process.py")
AVERAGED = {"ema_decay": 0.8}


def in_process(path: Path, point: str) -> int:
    command = [sys.executable, str(PROCESS), str(path), point]
    return subprocess.run(command, capture_output=True, timeout=120).returncode


def test_the_average_is_released_and_the_rounds_go_on_from_the_last_parameters(
    tmp_path: Path,
) -> None:
    plain = make_run(tmp_path / "plain", make_plan("a", "b"))
    averaged = make_run(tmp_path / "averaged", make_plan("a", "b", training=AVERAGED))
    transport = ToyTransport("a", "b")
    result = drive_on(averaged, transport)
    drive_on(plain, ToyTransport("a", "b"))
    state = averaged.latest()
    # The sites' rounds do not see the average ...
    assert state.body == plain.latest().body
    # ... and are told nothing else in the end.
    assert result.body == state.release_body != state.body
    assert [site.finalised for site in transport.sites.values()] == [[result.body]] * 2
    expected = {name: value.astype(np.float64) for name, value in initial_arrays().items()}
    sent = [decode_arrays(message.body) for site, message in transport.pushed if site == "a"]
    for number, theta in enumerate([*sent[1:-1], decode_arrays(state.body)], start=1):
        kept = min(0.8, (1 + number) / (10 + number))
        expected = {n: kept * expected[n] + (1 - kept) * theta[n] for n in expected}
    for name, value in result.arrays.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-6, atol=1e-7)


def test_without_a_decay_the_last_parameters_are_released(tmp_path: Path) -> None:
    directory = make_run(tmp_path / "run", make_plan("a"))
    result = drive_on(directory, ToyTransport("a"))
    assert result.body == directory.latest().body
    assert directory.latest().optimiser == {}


@pytest.mark.parametrize("point", ["poll:5", "saved:2", "fsync:9", "finalise"])
def test_kill_and_resume_give_the_same_average(tmp_path: Path, point: str) -> None:
    plan = make_plan("a", "b", training=AVERAGED)
    undisturbed = drive_on(make_run(tmp_path / "other", plan), ToyTransport("a", "b"))
    make_run(tmp_path / "run", plan)
    assert in_process(tmp_path / "run", point) == -signal.SIGKILL
    assert in_process(tmp_path / "run", "never") == 0
    assert RunDirectory.open(tmp_path / "run").latest().release_body == undisturbed.body


@given(
    decay=st.floats(0, 0.9999),
    start=st.integers(0, 100),
    values=st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=6),
)
def test_an_average_stays_between_what_it_averages(
    decay: float, start: int, values: list[float]
) -> None:
    average = {"w": np.array([values[0]], np.float32)}
    for number, value in enumerate(values, start=start + 1):
        average = updated_average(average, {"w": np.array([value], np.float32)}, decay, number)
    assert min(values) <= float(average["w"][0]) <= max(values)
