from __future__ import annotations

import logging
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from toy_federation import (
    COORDINATOR_KEY,
    ToyTransport,
    initial_arrays,
    make_plan,
    make_run,
    site_keys,
)

from server.checkpoints.run_directory import KEPT_ROUNDS, RunDirectory
from server.checkpoints.state import RunState
from server.rounds.driver import RoundDriver, RunResult
from server.rounds.settings import DriverSettings
from shared_model.errors import SmrfedError
from shared_model.protocol.arrays import encode_arrays

NAMES = ("a", "b", "c")
HERE = Path(__file__).parent


def drive(directory: RunDirectory) -> RunResult:
    return RoundDriver(
        directory.plan,
        directory,
        ToyTransport(*directory.plan.weights),
        COORDINATOR_KEY,
        site_keys(directory.plan),
        settings=DriverSettings.in_process(),
    ).run()


def in_process(path: Path, point: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parents[1]}"}
    command = [sys.executable, str(HERE / "toy_driver_process.py"), str(path), point]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def run_to_the_end(path: Path) -> RunDirectory:
    directory = make_run(path, make_plan(*NAMES))
    drive(directory)
    return directory


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return run_to_the_end(tmp_path_factory.mktemp("whole") / "run").latest().body


# Three polls a round, six fsync a checkpoint: inside rounds, between them, and at every fsync of
# the second checkpoint.
KILL_POINTS = ["poll:0", "poll:4", "poll:11", "saved:1", "saved:3", "saved:4", "finalise"] + [
    f"fsync:{n}" for n in range(6, 12)
]


@pytest.mark.parametrize("point", KILL_POINTS)
def test_a_killed_driver_resumes_to_the_same_bytes(
    tmp_path: Path, undisturbed: bytes, point: str
) -> None:
    make_run(tmp_path / "run", make_plan(*NAMES))
    killed = in_process(tmp_path / "run", point)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = in_process(tmp_path / "run", "never")
    assert resumed.returncode == 0, resumed.stderr
    directory = RunDirectory.open(tmp_path / "run")
    state = directory.latest()
    assert state.round == 4
    assert state.body == undisturbed
    assert [record.round for record in state.history] == [1, 2, 3, 4]
    assert directory.finalised().accepted == NAMES
    assert not list((tmp_path / "run" / "rounds").glob(".tmp-*"))


def test_a_driver_killed_at_every_round_still_arrives(tmp_path: Path, undisturbed: bytes) -> None:
    make_run(tmp_path / "run", make_plan(*NAMES))
    for number in range(1, 5):
        assert in_process(tmp_path / "run", f"saved:{number}").returncode == -signal.SIGKILL
    assert in_process(tmp_path / "run", "never").returncode == 0
    assert RunDirectory.open(tmp_path / "run").latest().body == undisturbed


def test_only_the_last_rounds_are_kept(tmp_path: Path) -> None:
    directory = run_to_the_end(tmp_path / "run")
    kept = sorted(folder.name for folder in (tmp_path / "run" / "rounds").iterdir())
    assert kept == ["00002", "00003", "00004"]
    assert len(kept) == KEPT_ROUNDS
    assert (tmp_path / "run" / "latest").read_text() == "00004\n"
    assert len(directory.latest().history) == 4


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink])
@pytest.mark.parametrize("name", ["global.safetensors", "state.json"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, undisturbed: bytes, caplog: pytest.LogCaptureFixture, name: str, damage
) -> None:
    directory = run_to_the_end(tmp_path / "run")
    damage(tmp_path / "run" / "rounds" / "00004" / name)
    with caplog.at_level(logging.WARNING):
        assert directory.latest().round == 3
    assert "00004" in caplog.text
    assert drive(directory).body == undisturbed
    assert directory.latest().round == 4


def test_a_checkpoint_of_another_run_is_passed_over(tmp_path: Path) -> None:
    directory = run_to_the_end(tmp_path / "run")
    other = RunDirectory.create(tmp_path / "other", directory.plan, initial_arrays(), "other-run")
    drive(other)
    (tmp_path / "run" / "rounds" / "00004").rename(tmp_path / "away")
    (tmp_path / "other" / "rounds" / "00004").rename(tmp_path / "run" / "rounds" / "00004")
    assert directory.latest().round == 3


def test_no_usable_checkpoint_is_an_error_and_never_a_silent_restart(tmp_path: Path) -> None:
    directory = run_to_the_end(tmp_path / "run")
    for folder in (tmp_path / "run" / "rounds").iterdir():
        truncate(folder / "global.safetensors")
    with pytest.raises(SmrfedError, match="SMR-E532"):
        directory.latest()
    for folder in (tmp_path / "run" / "rounds").iterdir():
        folder.rename(tmp_path / folder.name)
    with pytest.raises(SmrfedError, match="SMR-E532"):
        directory.latest()
    fresh = make_run(tmp_path / "fresh", directory.plan)
    flip(tmp_path / "fresh" / "initial.safetensors")
    with pytest.raises(SmrfedError, match="SMR-E532"):
        fresh.latest()


def test_a_full_disk_leaves_the_checkpoint_before_intact(tmp_path: Path) -> None:
    plan = make_plan(*NAMES)
    wide = {"w": np.ones(50_000, np.float32)}
    directory = RunDirectory.create(tmp_path / "run", plan, wide, "toy-run")
    directory.save(RunState(1, encode_arrays(wide)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # bytes: half a checkpoint
    try:
        with pytest.raises(SmrfedError) as caught:
            directory.save(RunState(2, encode_arrays({"w": wide["w"] * 2})))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.code == "SMR-E534"
    assert directory.latest().round == 1
    assert [f.name for f in (tmp_path / "run" / "rounds").iterdir()] == ["00001"]
    directory.save(RunState(2, encode_arrays({"w": wide["w"] * 2})))
    assert directory.latest().round == 2


def test_two_drivers_cannot_run_on_one_directory(tmp_path: Path) -> None:
    directory = make_run(tmp_path / "run", make_plan(*NAMES))
    with directory.lock():
        second = in_process(tmp_path / "run", "never")
        assert second.returncode == 1
        assert "SMR-E533" in second.stderr
        assert str(os.getpid()) in second.stderr
    assert in_process(tmp_path / "run", "never").returncode == 0


def test_an_optimisers_memory_survives_and_is_checked(tmp_path: Path) -> None:
    directory = make_run(tmp_path / "run", make_plan(*NAMES))
    memory = {"momentum": encode_arrays({"w": np.ones(3, np.float32)})}
    directory.save(RunState(1, encode_arrays(initial_arrays()), optimiser=memory))
    assert directory.latest().optimiser == memory
    flip(tmp_path / "run" / "rounds" / "00001" / "optimiser-momentum.safetensors")
    with pytest.raises(SmrfedError, match="SMR-E532"):
        directory.latest()


def test_creating_and_opening_refuse_what_is_not_a_new_run(tmp_path: Path) -> None:
    plan = make_plan(*NAMES)
    make_run(tmp_path / "run", plan)
    with pytest.raises(SmrfedError, match="SMR-E531"):
        make_run(tmp_path / "run", plan)
    with pytest.raises(SmrfedError, match="SMR-E530"):
        RunDirectory.open(tmp_path / "nowhere")
    with pytest.raises(SmrfedError, match="SMR-E515"):
        RunDirectory.create(tmp_path / "empty", plan, {}, "toy-run")
    frozen = make_plan(*NAMES, groups={"shared": ["head.*"], "frozen": ["encoder.*"]})
    arrays = {"head.w": np.ones(1, np.float32), "encoder.w": np.ones(1, np.float32)}
    with pytest.raises(SmrfedError, match=r"encoder\.w"):
        RunDirectory.create(tmp_path / "frozen", frozen, arrays, "toy-run")
    plan_file = tmp_path / "run" / "plan.json"
    plan_file.write_bytes(plan_file.read_bytes().replace(b'"rounds":4', b'"rounds":5'))
    with pytest.raises(SmrfedError, match="SMR-E535"):
        RunDirectory.open(tmp_path / "run")
