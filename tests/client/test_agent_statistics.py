"""Evaluation and calibration at a real site: bounded, noised, charged, and answered once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import dp_accounting
import numpy as np
import pytest
import torch
from agent_site import Hospital, build_hospital, everything_below, opened
from dp_accounting import pld
from small_site import FixedRandom, small_atlas, small_model, small_plan, token_patients

from client.agent import agent as agent_module
from client.agent import statistics
from client.agent.agent import SiteAgent
from client.agent.evaluation import probabilities
from client.agent.statistics import released_statistics
from client.commands.outgoing import print_outgoing
from client.egress.receipts import Receipts
from client.privacy.gaussian_release import noise_grid
from client.privacy.ledger import Ledger
from client.training.examples import PatientExamples
from client.training.site_model import SiteModel
from shared_model.errors import SmrfedError
from shared_model.metrics import confusion_matrix
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import decode_arrays
from shared_model.releases.statistics import (
    CONFUSION,
    PROBABILITIES,
    Statistics,
    shapes,
    weight,
)

KINDS: tuple[Statistics, ...] = ("evaluate", "calibrate")
TRAIN, EVALUATE, CALIBRATE = 9.0, 2.0, 5.0
Build = Callable[..., Hospital]


def looking_plan(mode: str = "local", rounds: int = 3, every: int = 2) -> FederationPlan:
    private = mode == "local"
    data = small_plan(
        mode, training={"rounds": rounds}, privacy={"noise_multiplier": TRAIN} if private else {}
    ).model_dump()
    data["evaluation"] |= {"release_every": every}
    data["calibration"] = {"rule": "prior_free"}
    if private:
        data["evaluation"]["release_noise_multiplier"] = EVALUATE
        data["calibration"]["noise_multiplier"] = CALIBRATE
    return FederationPlan.parse(data)


@pytest.fixture
def build(tmp_path: Path, archive: Path) -> Build:
    def make(plan: FederationPlan, policy: str = "", folder: str = "site") -> Hospital:
        hospital = build_hospital(tmp_path / folder, archive, plan)
        with (hospital.folder / "policy.toml").open("a") as file:
            file.write(policy or "allow_evaluation = true\nallow_calibration = true\n")
        return hospital

    return make


@pytest.fixture
def hospital(build: Build) -> Hospital:
    return build(looking_plan())


@pytest.fixture
def agent(hospital: Hospital) -> Iterator[SiteAgent]:
    agent = hospital.agent()
    yield agent
    agent.close()


def initial(plan: FederationPlan) -> dict[str, np.ndarray]:
    return SiteModel.build(plan, small_atlas()).shared_arrays()


def test_looks_are_noised_charged_to_their_patients_sealed_and_answered_once(
    hospital: Hospital, agent: SiteAgent
) -> None:
    plan, arrays = hospital.plan, initial(hospital.plan)
    asked = [
        hospital.instruction(arrays, number, kind)
        for number, kind in ((2, "train"), (2, "evaluate"), (3, "calibrate"), (3, "evaluate"))
    ]
    replies = [agent.handle(instruction) for instruction in asked]
    for instruction, reply in zip(asked[1:], replies[1:], strict=True):
        header, found = opened(agent, reply)
        assert header.instruction_sha256 == instruction.digest.hex()
        assert header.metrics == {}
        expected = shapes(plan, header.kind)  # type: ignore[arg-type]
        assert {name: value.shape for name, value in found.items()} == expected
        assert all(value.dtype == np.float32 for value in found.values())
        # No count can be read off: every number is a multiple of the grid, none an integer share.
        noise = EVALUATE if header.kind == "evaluate" else CALIBRATE
        for value in found.values():
            steps = value.astype(np.float64) / noise_grid(noise)
            np.testing.assert_array_equal(steps, np.round(steps))
            assert np.abs(value).std() > 0
    ledger = Ledger(hospital.state.ledger)
    entries = ledger.entries()
    uses = [(e.purpose, e.round, e.use.noise_multiplier, e.use.sampling_rate) for e in entries]
    assert uses == [
        ("train", 2, TRAIN, 1.0),
        ("evaluate", 2, EVALUATE, 1.0),
        ("calibrate", 3, CALIBRATE, 1.0),
        ("evaluate", 3, EVALUATE, 1.0),
    ]
    assert [e.state for e in entries] == ["seal"] * 4
    assert [e.reply_sha256 for e in entries] == [reply.digest.hex() for reply in replies]
    assert entries[0].cohort == entries[2].cohort != entries[1].cohort == entries[3].cohort
    assert entries[0].patients + entries[1].patients == 12
    # The worst patient pays for one side only; an accountant of its own agrees.
    train, test = pld.PLDAccountant(), pld.PLDAccountant()
    train.compose(dp_accounting.GaussianDpEvent(TRAIN))
    train.compose(dp_accounting.GaussianDpEvent(CALIBRATE))
    test.compose(dp_accounting.GaussianDpEvent(EVALUATE), 2)
    worst = max(train.get_epsilon(1e-5), test.get_epsilon(1e-5))
    assert ledger.spent(1e-5) == pytest.approx(worst, rel=2e-3)
    # Again, also by the next process: the same bytes, and nothing more is spent.
    before = everything_below(hospital.folder)
    assert [agent.handle(instruction) for instruction in asked[1:]] == replies[1:]
    agent.close()
    second = hospital.agent()
    assert [second.handle(instruction) for instruction in asked[1:]] == replies[1:]
    second.close()
    assert Ledger(hospital.state.ledger).entries() == entries
    kept = {path for path in before if path.suffix == ".reply"}
    assert {p: before[p] for p in kept} == {p: everything_below(hospital.folder)[p] for p in kept}
    decisions = [r.decision for r in Receipts(hospital.state.receipts).read()]
    assert [(d.kind, d.round, d.released) for d in decisions][:4] == [
        ("train", 2, True), ("evaluate", 2, True), ("calibrate", 3, True), ("evaluate", 3, True),
    ]  # fmt: skip


def test_what_the_plan_does_not_announce_is_refused_without_a_charge(
    build: Build, hospital: Hospital, agent: SiteAgent
) -> None:
    arrays = initial(hospital.plan)
    for number, kind in ((1, "evaluate"), (1, "calibrate"), (2, "calibrate")):
        with pytest.raises(SmrfedError, match="SMR-E370"):
            agent.handle(hospital.instruction(arrays, number, kind))
    silent = build(small_plan(), folder="silent")
    other = silent.agent()
    for kind in KINDS:
        with pytest.raises(SmrfedError, match="SMR-E370"):
            other.handle(silent.instruction(initial(silent.plan), 3, kind))
    other.close()
    for place in (hospital, silent):
        assert Ledger(place.state.ledger).entries() == ()
        assert not list(place.state.replies.glob("*/*"))


@pytest.mark.parametrize("missing", ["allow_evaluation", "allow_calibration"])
def test_a_policy_that_forbids_it_admits_no_such_plan(build: Build, missing: str) -> None:
    allowed = {"allow_evaluation", "allow_calibration"} - {missing}
    hospital = build(looking_plan(), f"{allowed.pop()} = true\n")
    with pytest.raises(SmrfedError, match="SMR-E364") as caught:
        hospital.agent()
    assert missing in str(caught.value)


def test_a_look_that_would_overspend_is_refused_before_a_patient_is_seen(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital = build(looking_plan())
    agent = hospital.agent()
    arrays = initial(hospital.plan)

    # Six evaluations of noise 2 cost epsilon 5.5, a dozen more than the plan's 8.
    def spend_all() -> None:
        for run in range(100):
            agent.handle(hospital.instruction(arrays, 2, "evaluate", run_id=f"run-{run}"))

    with pytest.raises(SmrfedError, match="SMR-E302"):
        spend_all()
    spent = Ledger(hospital.state.ledger).spent(1e-5)
    assert 6 < spent <= 8
    looked: list[object] = []
    monkeypatch.setattr(agent_module, "released_statistics", lambda *a: looked.append(a))
    with pytest.raises(SmrfedError, match="SMR-E302"):
        agent.handle(hospital.instruction(arrays, 2, "evaluate", run_id="run-x"))
    assert looked == []
    # The test patients' budget is spent; that of the training patients is not.
    monkeypatch.undo()
    agent.handle(hospital.instruction(arrays, 1, run_id="run-y"))
    agent.close()


def test_a_failed_look_is_charged_once_when_the_same_process_repeats_it(
    hospital: Hospital, agent: SiteAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("out of memory")

    instruction = hospital.instruction(initial(hospital.plan), 3, "calibrate")
    with monkeypatch.context() as patch:
        patch.setattr(agent_module, "released_statistics", broken)
        for _ in range(2):
            with pytest.raises(SmrfedError, match="SMR-E410"):
                agent.handle(instruction)
    agent.handle(instruction)
    assert [e.state for e in Ledger(hospital.state.ledger).entries()] == ["seal"]


def test_the_gate_holds_sums_against_what_the_declared_patients_could_make_them(
    hospital: Hospital, agent: SiteAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absurd(*_: object) -> dict[str, np.ndarray]:
        return {PROBABILITIES: np.full((3, 3), 1e4, np.float32)}

    monkeypatch.setattr(agent_module, "released_statistics", absurd)
    with pytest.raises(SmrfedError, match="SMR-E325"):
        agent.handle(hospital.instruction(initial(hospital.plan), 3, "calibrate"))
    assert not list(hospital.state.replies.glob("*/*.reply"))
    assert [r.decision.rule for r in Receipts(hospital.state.receipts).read()] == ["SMR-E325"]
    # Asked again, the agent neither looks nor charges again: a question costs nothing to repeat.
    monkeypatch.undo()
    for _ in range(2):
        with pytest.raises(SmrfedError, match="SMR-E325"):
            agent.handle(hospital.instruction(initial(hospital.plan), 3, "calibrate"))
    assert len(Ledger(hospital.state.ledger).entries()) == 1


def test_a_person_sees_the_sums_before_accepting_the_plan(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    print_outgoing(looking_plan(), {"head.bias": (3,)})
    shown = capsys.readouterr().out
    for name in ("evaluate: confusion", "evaluate: scores", "calibrate: probabilities"):
        assert name in shown
    print_outgoing(small_plan(), {"head.bias": (3,)})
    assert "sum over patients" not in capsys.readouterr().out


def test_without_privacy_the_counts_are_exact(build: Build) -> None:
    plan = looking_plan("none")
    hospital = build(plan)
    agent = hospital.agent()
    arrays = initial(plan)
    _, found = opened(agent, agent.handle(hospital.instruction(arrays, 2, "evaluate")))
    model = SiteModel.build(plan, small_atlas())
    model.load_shared(arrays)
    y, p = probabilities(model, agent._data.test)
    counts = found[CONFUSION] / weight(CONFUSION, 3)
    np.testing.assert_allclose(counts, confusion_matrix(y, p), atol=1e-5)
    _, found = opened(agent, agent.handle(hospital.instruction(arrays, 3, "calibrate")))
    y, p = probabilities(model, agent._data.train)
    expected = np.stack([p[y == k].sum(0) for k in range(3)])
    np.testing.assert_allclose(found[PROBABILITIES], expected, rtol=1e-5, atol=1e-5)
    agent.close()


def test_un_noised_site_parameters_are_not_seen_through_an_evaluation(
    hospital: Hospital, agent: SiteAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was fitted to training patients after another run must not steer what leaves."""
    monkeypatch.setattr(statistics, "SecureRandom", lambda: FixedRandom(scale=1.0))
    arrays = small_model(hospital.plan).shared_arrays()
    first = agent.handle(hospital.instruction(arrays, 2, "evaluate"))
    # Finalising another run personalises the model that this process holds.
    agent.handle(hospital.instruction(arrays, 3, "finalise", run_id="other"))
    assert any(value.any() for value in agent._model.site_arrays().values())
    second = agent.handle(hospital.instruction(arrays, 2, "evaluate", run_id="run-2"))
    assert decode_arrays(first.body).keys() == decode_arrays(second.body).keys()
    for name, value in decode_arrays(first.body).items():
        np.testing.assert_array_equal(value, decode_arrays(second.body)[name])


@pytest.mark.parametrize("kind", KINDS)
def test_a_patient_more_moves_a_release_by_at_most_one_under_fixed_noise(
    kind: Statistics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "SecureRandom", lambda: FixedRandom(scale=1.0))
    plan = looking_plan()
    model = small_model(plan)
    patients = token_patients(model, 9, scans=3)
    # One patient with seven scans, one on whom the model fails.
    many = token_patients(model, 1, seed=5)[0]
    many = PatientExamples("many", type(many.inputs).cat([many.inputs] * 7), many.labels.repeat(7))  # type: ignore[union-attr,list-item]
    failing = token_patients(model, 1, seed=6)[0]
    failing.inputs.regions.fill_(torch.nan)  # type: ignore[union-attr]
    everybody = [*patients, many, failing]
    whole = flat(released_statistics(model, everybody, plan, kind))
    moved = []
    for left_out in range(len(everybody)):
        others = [*everybody[:left_out], *everybody[left_out + 1 :]]
        moved.append(np.linalg.norm(whole - flat(released_statistics(model, others, plan, kind))))
    grid = noise_grid(EVALUATE if kind == "evaluate" else CALIBRATE)
    assert max(moved) <= 1 + grid * np.sqrt(whole.size)
    assert moved[-1] == 0
    assert min(moved[:-1]) > 0.2
    np.testing.assert_array_equal(
        flat(released_statistics(model, [], plan, kind)),
        flat(released_statistics(model, [failing], plan, kind)),
    )


def flat(arrays: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([value.reshape(-1).astype(np.float64) for value in arrays.values()])
