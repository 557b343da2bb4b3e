"""Accepted plans: pinned by digest, shown as accepted, and noticed when they change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_plan_only import small_budget_plan

from client.agent.acceptance import AcceptedPlans
from shared_model.errors import SmrfedError

SHAPES = {"head.weight": (3, 4), "head.bias": (3,), "scale": ()}


def test_an_accepted_plan_comes_back_whole(tmp_path: Path) -> None:
    plans = AcceptedPlans(tmp_path)
    plan = small_budget_plan()
    accepted = plans.accept(plan, SHAPES)
    assert AcceptedPlans(tmp_path).find(plan.digest) == accepted
    assert plans.find(plan.digest[:12]).plan == plan
    assert plans.accept(plan, SHAPES) == accepted
    assert plans.accept(plan, None) == accepted
    assert [path.stem for path in tmp_path.iterdir()] == [plan.digest]


def test_the_newest_is_the_one_accepted_last(tmp_path: Path) -> None:
    plans = AcceptedPlans(tmp_path)
    accepted = [small_budget_plan(noise) for noise in (4.0, 5.0, 6.0)]
    for plan in accepted:
        plans.accept(plan, None)
        assert plans.newest().plan == plan
    assert [a.plan for a in plans.all()] == accepted


def test_without_acceptance_there_is_no_plan(tmp_path: Path) -> None:
    plans = AcceptedPlans(tmp_path / "none")
    with pytest.raises(SmrfedError, match="SMR-E409"):
        plans.newest()
    with pytest.raises(SmrfedError, match="SMR-E409"):
        plans.find("ab")
    for noise in (4.0, 5.0):
        plans.accept(small_budget_plan(noise), None)
    with pytest.raises(SmrfedError, match="SMR-E409"):
        plans.find("")


def test_what_could_not_be_shown_is_pinned_when_it_is_first_known(tmp_path: Path) -> None:
    plans = AcceptedPlans(tmp_path / "plans")
    before = plans.accept(small_budget_plan(), None)
    first = plans.accept(small_budget_plan(), {"head.bias": (3,)})
    assert first.accepted_at == before.accepted_at
    assert plans.newest() == first == plans.accept(small_budget_plan(), None)
    with pytest.raises(SmrfedError, match="SMR-E415"):
        plans.accept(small_budget_plan(), {"head.bias": (3,), "embedding": (2,)})


def test_other_arrays_than_shown_are_refused(tmp_path: Path) -> None:
    plans = AcceptedPlans(tmp_path)
    plan = small_budget_plan()
    plans.accept(plan, SHAPES)
    for other in (SHAPES | {"more": (1,)}, SHAPES | {"head.bias": (4,)}, {"scale": ()}):
        with pytest.raises(SmrfedError, match="SMR-E415"):
            plans.accept(plan, other)


@pytest.mark.parametrize("damage", ["budget", "cut", "garbage", "renamed"])
def test_a_changed_file_is_noticed(tmp_path: Path, damage: str) -> None:
    plans = AcceptedPlans(tmp_path)
    plan = small_budget_plan()
    plans.accept(plan, SHAPES)
    path = tmp_path / f"{plan.digest}.json"
    content = json.loads(path.read_text())
    content["plan"]["privacy"]["epsilon"] = 100.0
    if damage == "renamed":
        path.rename(tmp_path / f"{'0' * 64}.json")
    else:
        changed = {"budget": json.dumps(content), "cut": path.read_text()[:-9], "garbage": "[1]"}
        path.write_text(changed[damage])
    with pytest.raises(SmrfedError, match="SMR-E406"):
        plans.newest()
