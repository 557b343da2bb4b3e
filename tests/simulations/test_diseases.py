"""Other diseases change the regions they are said to, and nothing that exists already."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from shared_model.label_schemas import label_schema
from simulations.cohort.atrophy import affected_regions, coefficients, log_volume_change
from simulations.cohort.course import course_of
from simulations.cohort.design import default_cohort
from simulations.cohort.diseases import EFFECTS, disease_cohort
from simulations.cohort.spec import CohortSpec, EffectSpec
from simulations.cohort.subject import Subject, Visit, draw_subject
from simulations.cohort.template import load_template
from simulations.few_labels.cross_disease import LESIONS
from simulations.few_labels.people import load_people, study_model, study_plan


def names() -> tuple[str, ...]:
    return load_template().atlas.names


def change(subject: Subject, diagnosis: str) -> dict[str, float]:
    """What severity 1 changes against severity 0, without left-right differences."""
    effect = subject.spec.effect.model_copy(update={"side_sd": 0.0})
    spec = subject.spec.model_copy(update={"effect": effect})
    person = replace(subject, spec=spec, diagnosis=diagnosis)
    sick, well = (Visit("01", 70.0, s, s, s) for s in (1.0, 0.0))
    found = log_volume_change(person, sick, names()) - log_volume_change(person, well, names())
    return dict(zip(names(), found, strict=True))


@pytest.mark.parametrize("disease", EFFECTS)
def test_every_named_region_is_one_of_the_atlas(disease: str) -> None:
    effect = EFFECTS[disease]
    for diagnosis in effect.diagnoses:
        for key in effect.alpha_of(diagnosis):
            assert any(name.startswith(key) for name in names()), key
    assert effect.diagnoses == label_schema(disease).labels


@pytest.mark.parametrize(
    ("disease", "diagnosis", "shrinks", "stays"),
    [
        ("pd", "PD", "putamen_left", "hippocampus_left"),
        ("ftd", "bvFTD", "frontal_middle_left", "fusiform_left"),
        ("ftd", "svPPA", "temporal_pole_superior_left", "frontal_middle_left"),
        ("ad", "AD", "hippocampus_left", "putamen_left"),
    ],
)
def test_a_disease_changes_its_own_regions(
    disease: str, diagnosis: str, shrinks: str, stays: str
) -> None:
    spec = disease_cohort(disease, 12)
    found = change(draw_subject(spec, spec.sites[0], 0), diagnosis)
    assert found[shrinks] < -0.1
    assert found[stays] == pytest.approx(0, abs=1e-12)
    expected = coefficients(names(), spec.effect.alpha_of(diagnosis))
    assert list(found.values()) == pytest.approx(list(expected))
    assert {name for name, value in found.items() if abs(value) > 1e-9} <= set(
        affected_regions(names(), spec.effect)
    )


def test_semantic_dementia_is_worse_on_the_left() -> None:
    spec = disease_cohort("ftd", 12)
    found = change(draw_subject(spec, spec.sites[0], 0), "svPPA")
    for region in ("temporal_pole_middle", "amygdala", "hippocampus"):
        assert found[f"{region}_left"] < found[f"{region}_right"] < 0


def test_classes_of_a_disease_are_as_frequent_as_each_other() -> None:
    spec = disease_cohort("ftd", 90)
    drawn = [draw_subject(spec, spec.sites[0], i).diagnosis for i in range(90)]
    counts = [drawn.count(label) for label in label_schema("ftd").labels]
    assert min(counts) >= 28
    assert sum(counts) == 90


def test_a_cohort_of_another_disease_survives_its_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    spec = disease_cohort("ftd", 12)
    (tmp_path / "cohort.toml").write_text(spec.to_toml())
    assert CohortSpec.load(tmp_path / "cohort.toml") == spec


def test_older_cohorts_keep_their_description() -> None:
    text = default_cohort(8).to_toml()
    assert not any(word in text for word in ("diagnoses", "subtypes", "steady_pace"))


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(ValidationError, match="severity_mean"):
        EffectSpec(diagnoses=("CN", "PD"))
    with pytest.raises(ValidationError, match="subtypes"):
        EffectSpec(subtypes={"PD": {"putamen": -0.1}})
    spec = disease_cohort("pd", 12).model_dump()
    with pytest.raises(ValidationError, match="prevalence of clinic-pd"):
        CohortSpec.model_validate(spec | {"effect": EFFECTS["ftd"].model_dump()})


def test_a_steady_course_goes_on_as_between_the_scans() -> None:
    effect = EffectSpec(steady_pace=True)
    base = default_cohort(40, seed=5)
    spec = base.model_copy(update={"effect": effect, "second_session_share": 1.0})
    found = 0
    for index in range(40):
        subject = draw_subject(spec, spec.sites[1], index)
        course = course_of(subject)
        if course is None:
            continue
        first, last = subject.visits
        pace = (last.severity - first.severity) / (last.age - first.age)
        middle = (effect.severity_mean[1] + effect.severity_mean[2]) / 2
        expected = 12 * max(0.0, middle - first.severity) / pace
        assert course.crosses_after_months == pytest.approx(expected)
        found += 1
    assert found > 5


def test_a_stroke_is_a_cavity_in_patients_and_nothing_in_controls(tmp_path: Path) -> None:
    spec = disease_cohort("stroke", 4)
    model = study_model(study_plan(spec.effect.diagnoses, 0))
    sick = load_people(spec, tmp_path / "people", model, 1, LESIONS["stroke"])
    well = load_people(spec, tmp_path / "people", model, 1)
    assert sorted(sick.label.tolist()) == [0, 0, 1, 1]
    assert np.array_equal(sick.volumes, well.volumes)
    for patient, with_it, without in zip(sick.label > 0, sick.scans, well.scans, strict=True):
        darker = int((with_it.astype(float) < without.astype(float) - 1).sum())
        # 7 ml and more at 8 mm^3 a voxel, the rim apart.
        assert darker > 500 if patient else np.array_equal(with_it, without)
