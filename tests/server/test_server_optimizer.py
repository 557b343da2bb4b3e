"""FedAdam, FedYogi and SCAFFOLD at the server against the papers' lines; kill -9 in between."""

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
from hypothesis.extra.numpy import arrays
from toy_federation import (
    COORDINATOR_KEY,
    SHAPES,
    Answer,
    ToySite,
    ToyTransport,
    initial_arrays,
    make_plan,
    make_run,
    read,
    site_keys,
)

from server.aggregation.control import updated_control
from server.aggregation.next_state import CONTROL
from server.checkpoints.run_directory import RunDirectory
from server.rounds.driver import RoundDriver
from server.rounds.settings import DriverSettings
from shared_model.aggregation.control_wire import without_control
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import decode_arrays
from shared_model.protocol.sealed import Sealed

PROCESS = Path(__file__).with_name("toy_driver_process.py")
NAMES = ("a", "b", "c", "d", "e")
ADAM = {"aggregation": {"server_optimizer": "adam"}, "training": {"server_learning_rate": 0.05}}
YOGI = {"aggregation": {"server_optimizer": "yogi", "tau": 0.01, "beta1": 0.5}} | {
    "training": {"server_learning_rate": 0.05}
}
SCAFFOLD = {
    "aggregation": {"control_variates": True},
    "training": {"local_steps": 3, "learning_rate": 0.1},
}
KRUM = {"aggregation": {"rule": "krum", "faulty_sites": 1}} | {
    "federation": {"weighting": "equal", "min_sites": 5}
}


def plan_of(sections: dict[str, dict[str, object]]) -> FederationPlan:
    return make_plan(*NAMES, **{name: dict(fields) for name, fields in sections.items()})


def weighted_mean(plan: FederationPlan, updates: dict[str, dict[str, np.ndarray]]) -> dict:
    total = sum(plan.weights[site] for site in updates)
    return {
        name: sum(plan.weights[s] * u[name].astype(float) for s, u in updates.items()) / total
        for name in SHAPES
    }


@pytest.mark.parametrize("sections", [ADAM, YOGI], ids=["adam", "yogi"])
def test_the_server_steps_as_in_reddi_et_al(
    tmp_path: Path, sections: dict[str, dict[str, object]]
) -> None:
    plan = plan_of(sections)
    result = drive_on(make_run(tmp_path / "run", plan), ToyTransport(*NAMES))
    section, eta = plan.aggregation, 0.05
    theta = {name: value.astype(np.float64) for name, value in initial_arrays().items()}
    m = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    v = {name: np.full(shape, section.tau**2) for name, shape in SHAPES.items()}
    for number in range(1, 5):
        wire = {n: x.astype(np.float32) for n, x in theta.items()}
        delta = weighted_mean(plan, {s: ToySite(s).update(wire, number) for s in NAMES})
        for name, d in delta.items():
            m[name] = section.beta1 * m[name] + (1 - section.beta1) * d
            if section.server_optimizer == "adam":
                v[name] = section.beta2 * v[name] + (1 - section.beta2) * d * d
            else:
                v[name] -= (1 - section.beta2) * d * d * np.sign(v[name] - d * d)
            theta[name] = theta[name] + eta * m[name] / (np.sqrt(v[name]) + section.tau)
    for name, value in result.arrays.items():
        np.testing.assert_allclose(value, theta[name], rtol=2e-5, atol=1e-6)


def test_the_common_control_is_the_weighted_mean_of_the_sites_own(tmp_path: Path) -> None:
    """Each site keeps option II's c_k by itself; the server, who never sees one, has their mean.

    Site b's answer to round 2 is lost: its control of that round is not part of c, and it goes on
    from that of round 1, as the instruction says.
    """
    plan = plan_of(SCAFFOLD | {"federation": {"min_sites": 3}})
    own: dict[str, dict[int, dict[str, np.ndarray]]] = {s: {} for s in NAMES}
    seen: dict[int, tuple[dict[str, np.ndarray], dict[str, int]]] = {}

    class Watching(ToyTransport):
        def poll(self, handle: str) -> Answer:
            site, message = self._waiting[handle]
            reply = site.handle(message)
            instruction = read(message)
            if instruction.kind != "train":
                return reply
            number = instruction.round
            _, control = without_control(decode_arrays(message.body), plan, number)
            zeros = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
            c, counted = (zeros, {}) if control is None else (control.values, control.counted)
            seen[number] = dict(c), dict(counted)
            last = counted.get(site.name, 0)
            before = own[site.name][last] if last else zeros
            delta = decode_arrays(reply.body)
            own[site.name][number] = {
                n: before[n].astype(float) - c[n] - delta[n].astype(float) / (3 * 0.1)
                for n in SHAPES
            }
            lost = site.name == "b" and number == 2
            return None if lost else reply

    # One look for replies: the lost one counts as late.
    directory = make_run(tmp_path / "run", plan)
    RoundDriver(
        plan, directory, Watching(*NAMES), COORDINATOR_KEY, site_keys(plan),
        settings=DriverSettings.in_process(), clock=iter(range(0, 10**6, 61)).__next__,
        sleep=lambda _: None,
    ).run()  # fmt: skip
    assert "b" not in directory.latest().history[1].accepted
    assert directory.latest().history[2].accepted == NAMES
    for number in range(2, 5):
        c, counted = seen[number]
        assert counted == {s: 1 if s == "b" and number == 3 else number - 1 for s in NAMES}
        mean = weighted_mean(plan, {s: own[s][counted[s]] for s in NAMES})
        for name in SHAPES:
            np.testing.assert_allclose(c[name], mean[name], rtol=1e-5, atol=1e-5)
    assert CONTROL in directory.latest().optimiser


@given(
    arrays(np.float64, 5, elements=st.floats(-10, 10)),
    arrays(np.float32, 5, elements=st.floats(-10, 10, width=32)),
    st.floats(0.1, 1),
)
def test_a_control_moves_by_the_share_that_answered(
    mean: np.ndarray, control: np.ndarray, share: float
) -> None:
    """``c + sum_S p_k (c_k+ - c_k)`` with two sites of which one or both answered."""
    new = updated_control({"w": control}, {"w": mean}, share, 0.5)["w"]
    change = -control.astype(float) - mean / 0.5
    np.testing.assert_allclose(new, control + share * change, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("sections", "point"),
    [(ADAM, "saved:2"), (ADAM, "fsync:21"), (SCAFFOLD, "poll:12"), (SCAFFOLD, "saved:2"),
     (KRUM, "poll:12")],
    ids=["adam-saved", "adam-fsync", "scaffold-poll", "scaffold-saved", "krum-poll"],
)  # fmt: skip
def test_kill_and_resume_give_the_same_bits(
    tmp_path: Path, sections: dict[str, dict[str, object]], point: str
) -> None:
    plan = plan_of(sections)
    whole = make_run(tmp_path / "whole", plan)
    result = drive_on(whole, ToyTransport(*NAMES))
    make_run(tmp_path / "run", plan)
    for what, code in ((point, -signal.SIGKILL), ("never", 0)):
        command = [sys.executable, str(PROCESS), str(tmp_path / "run"), what]
        assert subprocess.run(command, capture_output=True, timeout=120).returncode == code
    resumed = RunDirectory.open(tmp_path / "run").latest()
    assert resumed.body == result.body
    assert resumed.optimiser == whole.latest().optimiser


def test_without_its_memory_a_resumed_run_would_have_other_bits(tmp_path: Path) -> None:
    """The test above can fail: the same rounds, but the moments are forgotten after the second."""
    plan = plan_of(ADAM)
    result = drive_on(make_run(tmp_path / "whole", plan), ToyTransport(*NAMES))
    directory = make_run(tmp_path / "run", plan)
    original = RunDirectory.latest

    with pytest.MonkeyPatch.context() as patch:
        saved: list[object] = []
        keep = RunDirectory.save

        def once(self: RunDirectory, state: object) -> None:
            if len(saved) == 2:
                raise KeyboardInterrupt
            saved.append(state)
            keep(self, state)  # type: ignore[arg-type]

        patch.setattr(RunDirectory, "save", once)
        with pytest.raises(KeyboardInterrupt):
            drive_on(directory, ToyTransport(*NAMES))
    with pytest.MonkeyPatch.context() as patch:

        def forgetful(self: RunDirectory) -> object:
            state = original(self)
            return type(state)(state.round, state.body, state.history)

        patch.setattr(RunDirectory, "latest", forgetful)
        assert drive_on(directory, ToyTransport(*NAMES)).body != result.body


def test_krum_over_the_wire_is_one_site_s_update_and_a_norm_bound_sets_a_liar_aside(
    tmp_path: Path,
) -> None:
    plan = plan_of(KRUM | {"training": {"rounds": 1}})

    def lie(site: ToySite, message: Sealed, reply: Sealed) -> Answer:
        if read(message).kind != "train":
            return reply
        return site.sign(message, {n: np.full(s, 900, np.float32) for n, s in SHAPES.items()})

    result = drive_on(make_run(tmp_path / "krum", plan), ToyTransport(*NAMES, faults={"c": lie}))
    start = initial_arrays()
    honest = [ToySite(s).update(start, 1) for s in NAMES if s != "c"]
    chosen = [
        all(np.allclose(result.arrays[n], start[n] + u[n], atol=1e-6) for n in SHAPES)
        for u in honest
    ]
    assert sum(chosen) == 1
    assert result.history[0].weight == len(NAMES)
    bounded = plan_of({"aggregation": {"norm_bound": 50.0}, "training": {"rounds": 1}})
    result = drive_on(
        make_run(tmp_path / "bound", bounded), ToyTransport(*NAMES, faults={"c": lie})
    )
    assert result.history[0].sites["c"].code == "SMR-E518"
    # Without either, it decides alone.
    plain = plan_of({"training": {"rounds": 1}})
    result = drive_on(make_run(tmp_path / "mean", plain), ToyTransport(*NAMES, faults={"c": lie}))
    assert min(float(np.abs(value).min()) for value in result.arrays.values()) > 100


def test_a_step_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    plan = plan_of(
        {
            "aggregation": {"rule": "median"},
            "federation": {"weighting": "equal", "min_sites": 3},
            "training": {"server_learning_rate": 1e39},
        }
    )
    with pytest.raises(SmrfedError, match="SMR-E521"):
        drive_on(make_run(tmp_path / "run", plan), ToyTransport(*NAMES))
