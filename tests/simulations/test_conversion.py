"""Conversion risk: nobody predicts themselves, and nothing after the landmark is looked at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from client.archive.progression import Progression
from simulations.cohort.subject import draw_subject
from simulations.conversion.study import (
    cross_fitted,
    folds,
    longitudinal_plan,
    volume_features,
)
from simulations.conversion.visits import Followed, memory_clinic

NAMES = (
    "hippocampus_left", "entorhinal_zone_left", "amygdala_left", "parahippocampal_zone_left",
    "fusiform_left", "temporal_middle_left", "temporal_inferior_left", "cingulate_posterior_left",
    "precuneus_left", "lateral_ventricle_left", "third_ventricle", "putamen_left",
)  # fmt: skip


def clinic(count: int, seed: int = 0) -> list[Followed]:
    """Patients whose hippocampus shrinks faster when they will convert; images play no part."""
    spec = memory_clinic(count, seed)
    rng = np.random.default_rng(seed)
    blank = np.zeros((2, 2, 2), np.float32)
    out = []
    for index in range(count):
        converts = index % 2 == 0
        first = rng.normal(0, 0.1, len(NAMES))
        later = first + rng.normal(0, 0.01, len(NAMES))
        later[0] -= 0.08 if converts else 0.0
        out.append(
            Followed(
                draw_subject(spec, spec.sites[0], index),
                (blank, blank),
                np.stack([first, later]),
                1.0,
                Progression("pMCI" if converts else "sMCI", False, "planted"),
                converts,
                12.0,
            )
        )
    return out


def converting(known: list[Followed]) -> np.ndarray:
    return np.asarray([one.progression.label == "pMCI" for one in known])


@given(st.integers(20, 80), st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_nobody_is_predicted_by_a_model_that_saw_them(count: int, seed: int) -> None:
    converts = np.arange(count) % 3 == 0
    tested = []
    for train, test in folds(converts, seed):
        assert not set(train.tolist()) & set(test.tolist())
        assert len(train) + len(test) == count
        assert len(set(converts[train].tolist())) == 2
        tested += test.tolist()
    assert sorted(tested) == list(range(count))


def test_no_feature_looks_beyond_the_landmark() -> None:
    known = clinic(12)
    other = Progression("sMCI", False, "another course")
    later = [replace(one, progression=other, event=not one.event, months=99.0) for one in known]
    for arm, features in volume_features(known, NAMES).items():
        assert np.array_equal(features, volume_features(later, NAMES)[arm]), arm


def test_change_is_found_where_it_alone_tells_and_chance_stays_chance() -> None:
    known = clinic(80)
    converts = converting(known)
    features = volume_features(known, NAMES)

    def auc(risk: np.ndarray, truth: np.ndarray) -> float:
        return float((risk[truth][:, None] > risk[~truth][None]).mean())

    change = auc(cross_fitted(features["volumes, latest and change"], converts, 0), converts)
    latest = auc(cross_fitted(features["volumes, latest visit"], converts, 0), converts)
    assert change > 0.9
    assert change > latest + 0.1
    lot = np.random.default_rng(3).permutation(converts)
    shuffled = auc(cross_fitted(features["volumes, latest and change"], lot, 0), lot)
    assert abs(shuffled - 0.5) < 0.2


def test_everybody_of_the_clinic_has_mci_and_two_scans_in_order() -> None:
    spec = memory_clinic(30, 1)
    for index in range(30):
        subject = draw_subject(spec, spec.sites[0], index)
        assert subject.diagnosis == "MCI"
        first, second = subject.visits
        assert first.age < second.age


def test_the_plan_of_the_study_is_longitudinal_by_configuration_alone() -> None:
    plan = longitudinal_plan(0)
    assert plan.model.name == "smrnet-longitudinal"
    assert plan.task.labels == ("sMCI", "pMCI")
    assert "change.*" in plan.groups.shared
