"""SCAFFOLD and MR-MTL in a real agent: what is kept, what leaves, and what a crash changes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agent_site import Hospital, build_hospital, opened
from small_site import small_atlas, small_plan

from client.agent import trained_round as trained_module
from client.agent.agent import SiteAgent
from client.agent.final_model import EVALUATION, GLOBAL, SITE
from client.egress.gate import update_norm_bound
from client.privacy.ledger import Ledger
from client.training.data_free import SiteTerms, updated_own_control
from client.training.site_model import SiteModel
from shared_model.aggregation.control_wire import CommonControl, with_control
from shared_model.errors import SmrfedError
from shared_model.protocol.arrays import Arrays, decode_arrays

STEPS = {"local_steps": 2, "learning_rate": 0.1}
SCAFFOLD = {"aggregation": {"control_variates": True}, "training": STEPS}
MR_MTL = {
    "aggregation": {"multi_task_lambda": 0.5},
    "training": STEPS,
    "adaptation": {"personalise": "never"},
}


class Crash(BaseException):
    """The process ends here."""


def initial(hospital: Hospital) -> dict[str, np.ndarray]:
    return SiteModel.build(hospital.plan, small_atlas()).shared_arrays()


def asked(arrays: Arrays, values: Arrays, counted: Mapping[str, int]) -> Arrays:
    return with_control(arrays, CommonControl(values, counted))


def some_control(arrays: Arrays) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(2)
    return {n: 0.01 * generator.normal(size=v.shape).astype(np.float32) for n, v in arrays.items()}


def stored(hospital: Hospital, kind: str, number: int) -> Arrays:
    path = hospital.state.model("run-1") / f"{kind}-{number:07d}.safetensors"
    return decode_arrays(path.read_bytes())


def same(one: Arrays, other: Arrays) -> bool:
    return one.keys() == other.keys() and all((one[n] == other[n]).all() for n in one)


@pytest.mark.parametrize("mode", ["none", "local"])
def test_the_control_goes_on_from_the_round_that_counted_and_never_leaves(
    tmp_path: Path, archive: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = small_plan(mode, **SCAFFOLD)  # type: ignore[arg-type]
    hospital = build_hospital(tmp_path / "site", archive, plan)
    arrays = initial(hospital)
    control = some_control(arrays)
    given: list[SiteTerms] = []
    train_round = trained_module.train_round

    def watched(*args: Any) -> Any:
        given.append(args[8])
        return train_round(*args)

    monkeypatch.setattr(trained_module, "train_round", watched)
    path = 2 * 0.1
    agent = hospital.agent()
    header, first = opened(agent, agent.handle(hospital.instruction(arrays, 1)))
    assert given[0] == SiteTerms()
    # Nothing but the update leaves, and what is kept follows from it.
    assert set(first) == set(arrays)
    assert same(stored(hospital, "control", 1), updated_own_control(first, SiteTerms(), path))

    second_asked = hospital.instruction(asked(arrays, control, {"a": 1}), 2)
    reply = agent.handle(second_asked)
    _, second = opened(agent, reply)
    assert same(given[1].common_control or {}, control)
    assert same(given[1].own_control or {}, stored(hospital, "control", 1))
    expected = updated_own_control(
        second, SiteTerms(None, stored(hospital, "control", 1), control), path
    )
    assert same(stored(hospital, "control", 2), expected)

    # Asked again, also after a restart: the same bytes, and nothing moves.
    agent.close()
    agent = hospital.agent()
    assert agent.handle(second_asked) == reply
    assert same(stored(hospital, "control", 2), expected)

    # Round 2 was lost on its way: the common control holds this site's round 1 only. In between,
    # the process dies after training round 3.
    third = hospital.instruction(asked(arrays, control, {"a": 1, "b": 2}), 3)
    with monkeypatch.context() as patch:

        def dies(*_: object, **__: object) -> None:
            raise Crash

        patch.setattr(SiteAgent, "_release", dies)
        with pytest.raises(Crash):
            agent.handle(third)
    agent.close()
    agent = hospital.agent()
    _, sent = opened(agent, agent.handle(third))
    agent.close()
    one = stored(hospital, "control", 1)
    assert same(given[2].own_control or {}, one)
    assert same(given[3].own_control or {}, one)
    expected = updated_own_control(sent, SiteTerms(None, one, control), path)
    assert same(stored(hospital, "control", 3), expected)
    assert header.metrics == {} or mode == "none"


def test_a_site_that_lost_its_control_trains_nothing_and_pays_nothing(
    tmp_path: Path, archive: Path
) -> None:
    hospital = build_hospital(tmp_path / "site", archive, small_plan(**SCAFFOLD))  # type: ignore[arg-type]
    arrays = initial(hospital)
    agent = hospital.agent()
    agent.handle(hospital.instruction(arrays, 1))
    (hospital.state.model("run-1") / "control-0000001.safetensors").unlink()
    entries = len(Ledger(hospital.state.ledger).entries())
    with pytest.raises(SmrfedError, match="SMR-E346"):
        agent.handle(hospital.instruction(asked(arrays, some_control(arrays), {"a": 1}), 2))
    agent.close()
    assert len(Ledger(hospital.state.ledger).entries()) == entries
    assert not list((hospital.state.replies / "run-1").glob("0000002*"))


@pytest.mark.parametrize(
    "problem",
    ["unasked", "missing", "nan", "future", "stranger", "fraction", "long"],
)
def test_a_strange_control_is_refused_before_any_patient(
    tmp_path: Path, archive: Path, problem: str
) -> None:
    plan = small_plan(**({} if problem == "unasked" else SCAFFOLD))  # type: ignore[arg-type]
    hospital = build_hospital(tmp_path / "site", archive, plan)
    arrays = initial(hospital)
    control = some_control(arrays)
    counted: dict[str, Any] = {"future": {"a": 2}, "stranger": {"z": 1}}.get(problem, {"a": 1})
    if problem == "missing":
        del control[next(iter(control))]
    if problem == "nan":
        control[next(iter(control))].flat[0] = np.nan
    if problem == "long":
        control = {name: 1000 * value for name, value in control.items()}
    body = dict(asked(arrays, control, counted))
    if problem == "fraction":
        body["counted-round/a"] = np.array([0.5], np.float32)
    agent = hospital.agent()
    with pytest.raises(SmrfedError, match="SMR-E345"):
        agent.handle(hospital.instruction(body, 2))
    agent.close()
    assert not Ledger(hospital.state.ledger).entries()


def test_an_instruction_with_control_fits_the_agents_limit(tmp_path: Path, archive: Path) -> None:
    hospital = build_hospital(tmp_path / "site", archive, small_plan(**SCAFFOLD))  # type: ignore[arg-type]
    arrays = initial(hospital)
    agent = hospital.agent()
    body = hospital.instruction(asked(arrays, some_control(arrays), {"a": 1, "b": 1}), 2).body
    assert len(body) <= agent.max_body_bytes
    agent.close()


@pytest.mark.parametrize("mode", ["none", "local"])
def test_every_site_keeps_its_own_model_over_rounds_crashes_and_the_end(
    tmp_path: Path, archive: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = small_plan(mode, **MR_MTL)  # type: ignore[arg-type]
    hospital = build_hospital(tmp_path / "site", archive, plan)
    arrays = initial(hospital)
    moved = {name: value + np.float32(0.01) for name, value in arrays.items()}
    agent = hospital.agent()
    _, first = opened(agent, agent.handle(hospital.instruction(arrays, 1)))
    own = stored(hospital, "own", 1)
    for name in arrays:
        np.testing.assert_allclose(first[name], own[name] - arrays[name], atol=1e-6)
    given: list[SiteTerms] = []
    train_round = trained_module.train_round

    def watched(*args: Any) -> Any:
        given.append(args[8])
        return train_round(*args)

    monkeypatch.setattr(trained_module, "train_round", watched)
    second = hospital.instruction(moved, 2)
    with monkeypatch.context() as patch:

        def dies(*_: object, **__: object) -> None:
            raise Crash

        patch.setattr(SiteAgent, "_release", dies)
        with pytest.raises(Crash):
            agent.handle(second)
    crashed = stored(hospital, "own", 2)
    agent.close()
    agent = hospital.agent()
    _, sent = opened(agent, agent.handle(second))
    assert [same(terms.own or {}, own) for terms in given] == [True, True]
    if mode == "none":  # the same bits; under privacy the noise is drawn anew
        assert same(stored(hospital, "own", 2), crashed)
    for name in arrays:
        np.testing.assert_allclose(
            sent[name], stored(hospital, "own", 2)[name] - moved[name], atol=1e-6
        )
    # At the end the hospital has both: the mean, and its own.
    agent.handle(hospital.instruction(moved, 3, "finalise"))
    agent.close()
    folder = hospital.state.model("run-1")
    assert same(decode_arrays((folder / GLOBAL).read_bytes()), moved)
    kept = decode_arrays((folder / SITE).read_bytes())
    assert same({name: kept[name] for name in arrays}, stored(hospital, "own", 2))
    report = json.loads((folder / EVALUATION).read_text())
    assert report["personalised"] != report["global"]


def test_the_bound_on_an_update_grows_with_what_each_method_may_add() -> None:
    def bound(round_number: int = 1, **options: Any) -> float:
        plan = small_plan(training=STEPS, adaptation={"personalise": "never"}, **options)
        return update_norm_bound(plan, "a", 1000, round_number)

    plain = bound()
    assert bound(aggregation={"proximal_mu": 1.0}) == plain
    assert bound(aggregation={"control_variates": True}) == pytest.approx(3 * plain)
    own = {"aggregation": {"multi_task_lambda": 1.0}}
    assert bound(1, **own) == pytest.approx(2 * plain)
    assert bound(5, **own) == pytest.approx(10 * plain)
