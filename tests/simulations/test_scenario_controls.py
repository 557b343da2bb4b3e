"""The two controls at small size: chance stays chance, and no site effect means no harm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scenario_archives import run

from client.archive.patients import Patient, Scan
from client.archive.plan_split import split_by_plan
from shared_model.metrics import balanced_accuracy
from simulations.cohort.spec import DIAGNOSES, CohortSpec, SiteSpec
from simulations.cohort.subject import draw_subject
from simulations.scenarios.hospitals import cohort_spec
from simulations.scenarios.load import SHIPPED, load_scenario
from simulations.scenarios.plans import arm_plan
from simulations.scenarios.results import ScenarioResults

#: Six 95 % intervals, at 99.2 % each (2.64 for 1.96 standard deviations), hold together at 95 %.
_SIX_INTERVALS = 2.64 / 1.96


def small_control(name: str, folder: Path, arms: str) -> ScenarioResults:
    """A shipped control with 36 patients at each hospital and one seed that nothing was set on."""
    text = (SHIPPED / f"{name}.toml").read_text(encoding="utf-8")
    path = folder / f"{name}.toml"
    path.write_text(
        text.replace('design = "four-and-one"', 'design = "four-and-one"\npatients = 36')
    )
    options = ("--out", folder / "out", "--seeds", "401", "--arms", arms)
    told = run(path, *options, timeout=3600)
    assert told.returncode == 0, told.stderr
    return ScenarioResults.model_validate_json((folder / "out" / "results.json").read_bytes())


@pytest.mark.parametrize(("split", "chance"), [("stratified", True), ("independent", False)])
def test_the_split_alone_says_nothing_in_the_control(
    tmp_path: Path, split: str, chance: bool
) -> None:
    """A model that knows only which diagnosis its hospital trained on most must score 1/3.

    By an independent split it does not: what a hospital trains on it lacks among its tests.
    """
    scenario = load_scenario("random-labels").scenario
    assert scenario.plan["evaluation"] == {"split": "stratified"}
    found = []
    for seed in range(1, 6):
        section = scenario.cohort.model_copy(update={"patients": 36})
        spec = cohort_spec("control", section, seed)
        sites = [site for site in spec.sites if site.name not in scenario.held_out]
        plan = arm_plan(scenario, "alone", seed, {site.name: site.patients for site in sites})
        evaluation = plan.evaluation.model_copy(update={"split": split})
        plan = plan.model_copy(update={"evaluation": evaluation})
        label: list[int] = []
        called: list[int] = []
        for site in sites:
            sides = split_by_plan(patients_of(spec, site, tmp_path), plan)
            counts = np.bincount([patient.label for patient in sides.train], minlength=3)
            label += [patient.label for patient in sides.test]
            called += [int(counts.argmax())] * len(sides.test)
        found.append(balanced_accuracy(np.array(label), np.eye(3)[called]))
    assert (abs(np.mean(found) - 1 / 3) < 0.02) == chance


def patients_of(spec: CohortSpec, site: SiteSpec, folder: Path) -> list[Patient]:
    """The people of a hospital, with a file each in place of a scan."""
    out = []
    for index in range(site.patients):
        subject = draw_subject(spec, site, index)
        path = folder / f"{spec.seed}-{site.name}-{index}"
        path.write_text(path.name)
        label = DIAGNOSES.index(subject.diagnosis)
        out.append(Patient(subject.participant, None, (Scan("", path, label, None),)))
    return out


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_diagnosis_that_says_nothing_is_not_learnt(tmp_path: Path) -> None:
    results = small_control("random-labels", tmp_path, "federated,pooled,alone")
    for arm in results.arms:
        for where in ("seen", "unseen"):
            found = arm.groups[where].balanced_accuracy
            assert found.value is not None
            assert found.low is not None
            assert found.high is not None
            low, high = (
                found.value + _SIX_INTERVALS * (end - found.value)
                for end in (found.low, found.high)
            )
            assert low <= 1 / 3 <= high, (arm.name, where, found)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_adaptation_does_no_harm_where_hospitals_do_not_differ(tmp_path: Path) -> None:
    results = small_control("zero-shift", tmp_path, "federated,fedavg")
    for row in results.differences:
        # 36 patients at a hospital: the interval, not the estimate, must not speak of harm.
        assert row.difference.high is not None
        assert row.difference.high >= -0.01, row
