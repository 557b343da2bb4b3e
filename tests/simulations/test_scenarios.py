"""Scenarios: what a file may say, what it becomes, and every mistake with its number."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_model.errors import SmrfedError
from shared_model.evaluation.beyond_sections import KIND_TITLES
from shared_model.privacy.plan_cost import plan_epsilon
from simulations.cohort.design import default_cohort
from simulations.cohort.scanner import random_scanner
from simulations.cohort.spec import ScannerModel
from simulations.demo.settings import SPARE_ROUNDS
from simulations.evaluation.corruption import KINDS
from simulations.scenarios.hospitals import REFERENCE, cohort_spec, drawn_hospitals, folds, moved
from simulations.scenarios.jobs import jobs_of
from simulations.scenarios.load import NamedScenario, load_scenario, shipped_names
from simulations.scenarios.plans import arm_plan
from simulations.scenarios.schema import (
    CohortSection,
    CorruptionKind,
    HospitalsSection,
    Scenario,
)

SMALL: dict[str, Any] = {
    "format": 1,
    "title": "Small",
    "seeds": [3],
    "held_out": ["site-e"],
    "cohort": {"design": "four-and-one", "patients": 12},
    "arms": {
        "plain": {"kind": "federated"},
        "private": {"kind": "federated", "plan": {"privacy": {"mode": "local", "epsilon": 4.0}}},
        "prior": {"kind": "prior"},
    },
    "compare": [{"arm": "plain", "minus": ["prior"]}],
}
MEMBERS = {"site-a": 12, "site-b": 12, "site-c": 12, "site-d": 12}


def changed(**parts: Any) -> dict[str, Any]:
    return {**SMALL, **parts}


def written(folder: Path, content: dict[str, Any]) -> NamedScenario:
    path = folder / "small.toml"
    path.write_text(tomli_w.dumps(content), encoding="utf-8")
    return load_scenario(str(path))


@pytest.mark.parametrize("name", shipped_names())
def test_every_shipped_scenario_gives_jobs(name: str) -> None:
    named = load_scenario(name)
    jobs = jobs_of(named)
    assert 2 <= len(jobs[0].sites) <= 32
    assert len({job.key for job in jobs}) == len(jobs) == len({job.file_name for job in jobs})
    assert {arm for job in jobs for arm in job.arms} == set(named.scenario.arms)
    for job in jobs:
        assert set(job.held_out) == set(job.sites) - {s.name for s in job.plan.federation.sites}


def test_the_shipped_ones_are_those_of_the_issue() -> None:
    assert {
        "two-hospitals", "default", "designed-shift", "zero-shift", "prevalence-shift",
        "unequal-sizes", "many-hospitals", "thirty-two", "ablation", "random-labels", "main",
    } <= set(shipped_names())  # fmt: skip


def test_the_main_cohort_is_that_of_the_demonstration() -> None:
    section = load_scenario("main").scenario.cohort
    assert cohort_spec("main", section, 101) == default_cohort(96, 101, 64)


@pytest.mark.parametrize(
    ("code", "content"),
    [
        ("SMR-E681", changed(seeds=[])),
        ("SMR-E681", changed(seeds=[1, 1])),
        ("SMR-E681", changed(arms={"plain": {"kind": "fedarated"}})),
        ("SMR-E681", changed(arms={})),
        ("SMR-E681", changed(compare=[{"arm": "plain", "minus": ["nobody"]}])),
        ("SMR-E681", changed(cohort={})),
        ("SMR-E681", changed(cohort={"design": "four-and-one", "hospitals": {"count": 4}})),
        ("SMR-E681", changed(cohort={"hospitals": {"count": 33}})),
        ("SMR-E681", changed(cohort={"design": "four-and-one", "shift": 2.5})),
        ("SMR-E681", changed(colour="red")),
        ("SMR-E681", changed(arms={"a": {"kind": "federated", "view": "adapted"}}, compare=[])),
        ("SMR-E682", changed(arms={"a": {"kind": "pooled", "plan": {"trainning": {"rounds": 2}}}})),
        ("SMR-E682", changed(arms={"a": {"kind": "pooled", "plan": {"training": {"rounds": 0}}}})),
        ("SMR-E682", changed(arms={"a": {"kind": "pooled", "plan": {"training": 3}}})),
        ("SMR-E682", changed(arms={"a": {"kind": "pooled", "plan": {"model": {"name": "x"}}}})),
        ("SMR-E682", changed(arms={"a": {"kind": "pooled", "plan": {"seed": 2}}})),
        ("SMR-E682", changed(plan={"federation": {"sites": []}})),
        (
            "SMR-E682",
            changed(arms={"a": {"kind": "prior", "plan": {"evaluation": {"test_fraction": 0.5}}}}),
        ),
        ("SMR-E682", changed(arms={"a": {"kind": "pooled", "repeats": 2}}, compare=[])),
        ("SMR-E683", changed(held_out=["site-x"])),
        ("SMR-E683", changed(held_out=["site-a", "site-b", "site-c", "site-d"])),
        (
            "SMR-E683",
            changed(cohort={"design": "four-and-one", "patients_at": {"site-x": 5}}),
        ),
        ("SMR-E683", changed(cohort={"archives": {"a": "gone", "b": "gone"}}, held_out=[])),
    ],
)
def test_every_mistake_has_a_number_and_a_remedy(
    code: str, content: dict[str, Any], tmp_path: Path
) -> None:
    if code != "SMR-E681" and "compare" in content and "arms" in content:
        content = {**content, "compare": []}
    with pytest.raises(SmrfedError) as caught:
        jobs_of(written(tmp_path, content))
    assert caught.value.code == code
    assert len(caught.value.remedy) > 20


@pytest.mark.parametrize("name", ["no-such-scenario", "gone.toml"])
def test_an_unknown_scenario_is_named_with_the_known_ones(name: str) -> None:
    with pytest.raises(SmrfedError) as caught:
        load_scenario(name)
    assert caught.value.code == "SMR-E680"


def test_a_choice_of_arms_keeps_the_comparisons_that_are_left(tmp_path: Path) -> None:
    named = written(tmp_path, changed(compare=[{"arm": "plain", "minus": ["prior", "private"]}]))
    less = named.chosen([8, 8], ["plain", "private"])
    assert less.scenario.seeds == (8,)
    assert [entry.minus for entry in less.scenario.compare] == [("private",)]
    assert not named.chosen(None, ["prior"]).scenario.compare
    with pytest.raises(SmrfedError) as caught:
        named.chosen(None, ["plan"])
    assert caught.value.code == "SMR-E684"


def test_a_size_makes_every_archive_larger_or_smaller(tmp_path: Path) -> None:
    named = load_scenario("thirty-two")
    whole, less = (
        {site.name: site for site in job.cohort.sites}
        for job in (jobs_of(named)[0], jobs_of(named.chosen([1], ["fedavg"], 0.6))[0])
        if job.cohort is not None
    )
    assert {len(whole), len(less)} == {32}
    for name, site in whole.items():
        assert less[name].patients == max(12, round(0.6 * site.patients))
        assert less[name].scanner == site.scanner
    folder = tmp_path / "archive"
    folder.mkdir()
    content = {
        "format": 1, "title": "t", "seeds": [1], "arms": {"p": {"kind": "prior"}},
        "cohort": {"archives": {"a": str(folder), "b": str(folder)}},
    }  # fmt: skip
    with pytest.raises(SmrfedError) as caught:
        written(tmp_path, content).chosen(None, None, 0.5)
    assert caught.value.code == "SMR-E684"


def test_beside_is_of_arms_with_one_model_and_changes_their_jobs_only(tmp_path: Path) -> None:
    plain = written(tmp_path, changed())
    asked = written(tmp_path, changed(beside={"arms": ["plain"], "corruption": ["motion"]}))
    keys = [{job.arms: job.key for job in jobs_of(named)} for named in (plain, asked)]
    differ = {arms for arms in keys[0] if keys[0][arms] != keys[1].get(arms)}
    assert {name for arms in differ for name in arms} == {"plain"}
    assert asked.chosen(None, ["prior"]).scenario.beside is None
    with pytest.raises(SmrfedError) as caught:
        written(tmp_path, changed(beside={"arms": ["prior"]}))
    assert caught.value.code == "SMR-E681"


def test_kinds_of_corruption_are_those_that_exist() -> None:
    assert get_args(CorruptionKind) == KINDS == tuple(KIND_TITLES)


def test_an_arm_changes_what_it_says_and_nothing_else() -> None:
    scenario = Scenario.model_validate(
        changed(
            plan={"training": {"rounds": 7}, "model": {"weights_sha256": ""}},
            arms={
                "off": {"kind": "federated", "plan": {"adaptation": {"site_norm": "off"}}},
                "plain": {"kind": "federated"},
            },
            compare=[],
        )
    )
    off, plain = (arm_plan(scenario, name, 3, MEMBERS) for name in ("off", "plain"))
    assert off.adaptation.site_norm == "off"
    assert not off.groups.site
    assert plain.groups.site
    assert off.training == plain.training
    assert off.training.rounds == 7
    assert off.model == plain.model
    assert plain.model.weights_sha256 is None
    assert (off.seed, off.privacy.mode) == (3, "none")
    assert {s.name: s.declared_patients for s in off.federation.sites} == dict.fromkeys(MEMBERS, 9)


def test_the_noise_of_a_private_arm_spends_its_budget() -> None:
    scenario = Scenario.model_validate(SMALL)
    plan = arm_plan(scenario, "private", 3, MEMBERS)
    assert plan.privacy.noise_multiplier > 0
    assert 0.97 * 4.0 < plan_epsilon(plan, spare_rounds=SPARE_ROUNDS) <= 4.0


def test_arms_that_look_at_one_run_share_its_job(tmp_path: Path) -> None:
    arms = {"own": {"kind": "federated"}, "released": {"kind": "federated", "view": "released"}}
    (job,) = jobs_of(written(tmp_path, changed(arms=arms, compare=[])))
    assert job.arms == ("own", "released")


def test_a_job_is_known_by_all_that_decides_it(tmp_path: Path) -> None:
    def keys(**parts: Any) -> set[str]:
        content = changed(arms={"plain": SMALL["arms"]["plain"]}, compare=[], **parts)
        return {job.key for job in jobs_of(written(tmp_path, content))}

    first = keys()
    assert keys() == first
    for other in (
        keys(seeds=[4]),
        keys(held_out=["site-d"]),
        keys(cohort={"design": "four-and-one", "patients": 13}),
        keys(plan={"training": {"rounds": 3}}),
    ):
        assert not other & first
    assert keys(title="Another title") == first


def test_hospitals_are_left_out_together_in_turn_or_each() -> None:
    def found(**parts: Any) -> tuple[tuple[str, ...], ...]:
        return folds(Scenario.model_validate(changed(**parts)))

    assert found(held_out=["site-d", "site-e"]) == (("site-d", "site-e"),)
    assert found(held_out=["site-d", "site-e"], one_by_one=True) == (("site-d",), ("site-e",))
    assert found(held_out="each") == tuple((f"site-{c}",) for c in "abcde")
    assert found(held_out=[]) == ((),)


def test_drawn_hospitals_are_the_same_for_every_seed_and_any_number() -> None:
    section = HospitalsSection(
        count=16, patients=(30, 120), prevalence_spread=0.4, age_spread=2, voxels="varied"
    )
    many = drawn_hospitals(section)
    assert drawn_hospitals(section.model_copy(update={"count": 5})) == many[:5]
    assert all(30 <= site.patients <= 120 for site in many)
    assert len({site.patients for site in many}) > 8
    assert (
        len({site.scanner.gamma for site in many if isinstance(site.scanner, ScannerModel)}) == 16
    )
    cohort = CohortSection(hospitals=section)
    first, second = (cohort_spec("x", cohort, seed) for seed in (1, 2))
    assert first.sites == second.sites == many
    assert first.seed != second.seed


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 2))
def test_a_moved_scanner_is_valid_and_further_with_the_shift(seed: int, shift: float) -> None:
    scanner = random_scanner(np.random.default_rng(seed))
    assert moved(scanner, 1.0) == scanner
    here = moved(scanner, shift)  # the model refuses a tissue curve that is none
    assert (
        moved(scanner, 0.0).model_copy(update={"scale_spread": REFERENCE.scale_spread}) == REFERENCE
    )
    for name in ("csf", "grey", "bias", "noise"):
        origin, own, now = (getattr(s, name) for s in (REFERENCE, scanner, here))
        if shift <= 1:
            assert abs(now - origin) <= abs(own - origin) + 1e-9


def test_zero_shift_is_one_scanner_on_one_grid() -> None:
    spec = cohort_spec("x", CohortSection(design="four-and-one", shift=0.0), 1)
    first = spec.sites[0]
    for site in spec.sites:
        same = {"name": first.name, "patients": first.patients, "age_shift": first.age_shift}
        assert site.model_copy(update={**same, "prevalence": first.prevalence}) == first


def test_single_hospitals_can_be_changed() -> None:
    section = CohortSection(
        design="four-and-one",
        patients_at={"site-a": 7},
        prevalence_at={"site-e": (0.8, 0.1, 0.1)},
        age_shift_everywhere=0.0,
    )
    spec = cohort_spec("x", section, 1)
    assert [site.patients for site in spec.sites] == [7, 96, 96, 96, 64]
    assert spec.site("site-e").prevalence == (0.8, 0.1, 0.1)
    assert {site.age_shift for site in spec.sites} == {0.0}


def test_the_file_of_the_documentation_is_one(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "scenarios.md").read_text(encoding="utf-8")
    path = tmp_path / "documented.toml"
    path.write_text(text.split("```toml")[1].split("```")[0], encoding="utf-8")
    jobs = jobs_of(load_scenario(str(path)))
    assert {job.held_out for job in jobs} == {("far",)}
    assert sum("private" in job.arms for job in jobs) == 9
    for name in shipped_names():
        assert f"`{name}`" in text
