"""The baselines learn what is planted, nothing from shuffled labels, and refuse gaps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shared_model.errors import SmrfedError
from simulations.baselines.demographics import Demographics
from simulations.baselines.prior import Prior
from simulations.baselines.region_volumes import SIGNATURE, RegionVolumes
from simulations.baselines.subject_table import Baseline, SubjectTable

CLASSES = ("CN", "MCI", "AD")
REGIONS = (
    *(f"{name}_{side}" for name in SIGNATURE for side in ("left", "right")),
    *(f"other_{i}" for i in range(30)),
)
BASELINES = (Prior(), Demographics(), RegionVolumes(), RegionVolumes(signature=()))


def planted(n: int, seed: int, *, effect: float = 0.25, age_effect: float = 0.0) -> SubjectTable:
    """Hippocampus and entorhinal cortex shrink by ``effect`` in the log per stage."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, n)
    icv = 1450 * np.exp(rng.normal(0, 0.1, n))
    log_share = rng.normal(-6, 0.12, (n, len(REGIONS)))
    touched = [i for i, r in enumerate(REGIONS) if r.startswith(("hippocampus", "entorhinal"))]
    log_share[:, touched] -= effect * label[:, None]
    return SubjectTable(
        classes=CLASSES,
        regions=REGIONS,
        ids=tuple(f"p{i}" for i in range(n)),
        site=tuple(("north", "hill")[i % 2] for i in range(n)),
        label=label,
        age=72 + age_effect * label + rng.normal(0, 4, n),
        sex=tuple("FM"[i] for i in rng.integers(0, 2, n)),
        volumes_ml=icv[:, None] * np.exp(log_share),
        icv_ml=icv,
    )


def balanced_accuracy(baseline: Baseline, train: SubjectTable, test: SubjectTable) -> float:
    probability = baseline.fit(train).predict_proba(test)
    assert probability.shape == (len(test), len(test.classes))
    np.testing.assert_allclose(probability.sum(axis=1), 1)
    right = probability.argmax(axis=1) == test.label
    return float(np.mean([right[test.label == c].mean() for c in range(3)]))


def test_region_volumes_find_planted_atrophy_that_demographics_do_not() -> None:
    train, test = planted(240, 1), planted(600, 2)
    assert balanced_accuracy(RegionVolumes(), train, test) > 0.8
    assert balanced_accuracy(RegionVolumes(signature=()), train, test) > 0.75
    assert 0.25 < balanced_accuracy(Demographics(), train, test) < 0.42
    assert balanced_accuracy(Prior(), train, test) == pytest.approx(1 / 3)


def test_demographics_find_planted_age() -> None:
    train = planted(240, 3, effect=0, age_effect=8)
    test = planted(600, 4, effect=0, age_effect=8)
    assert balanced_accuracy(Demographics(), train, test) > 0.6


@pytest.mark.parametrize("baseline", BASELINES)
def test_shuffled_labels_teach_nothing(baseline: Baseline) -> None:
    train, test = planted(240, 5, age_effect=4), planted(600, 6, age_effect=4)
    draws = []
    for seed in range(8):
        wrong = np.random.default_rng(seed).permutation(train.label)
        draws.append(balanced_accuracy(baseline, replace(train, label=wrong), test))
    assert abs(np.mean(draws) - 1 / 3) < 0.06


@pytest.mark.parametrize("baseline", BASELINES)
def test_a_second_fit_gives_the_same_probabilities(baseline: Baseline) -> None:
    train, test = planted(120, 7), planted(50, 8)
    first = baseline.fit(train).predict_proba(test)
    np.testing.assert_array_equal(first, baseline.fit(train).predict_proba(test))


def test_head_size_alone_changes_nothing() -> None:
    train, test = planted(120, 9), planted(50, 10)
    larger = replace(test, volumes_ml=test.volumes_ml * 1.3, icv_ml=test.icv_ml * 1.3)
    model = RegionVolumes().fit(train)
    np.testing.assert_allclose(model.predict_proba(test), model.predict_proba(larger))


def test_a_class_absent_from_training_gets_probability_zero() -> None:
    table = planted(120, 11)
    train = table.rows(np.flatnonzero(table.label != 1))
    probability = RegionVolumes().fit(train).predict_proba(table)
    assert (probability[:, 1] == 0).all()
    assert (probability[:, 0] > 0).all()


def test_test_patients_do_not_move_each_other() -> None:
    model, test = RegionVolumes().fit(planted(120, 12)), planted(20, 13)
    alone = np.concatenate([model.predict_proba(test.rows([i])) for i in range(len(test))])
    np.testing.assert_allclose(model.predict_proba(test), alone, rtol=1e-9)


def test_sites_are_picked_by_name() -> None:
    table = planted(9, 14)
    assert set(table.at("hill").site) == {"hill"}
    assert table.at("hill").ids == ("p1", "p3", "p5", "p7")
    assert len(table.at("hill", "north")) == 9


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("age", np.nan),
        ("age", 0.0),
        ("icv_ml", np.inf),
        ("volumes_ml", 0.0),
        ("label", 3),
        ("label", -1),
    ],
)
def test_a_gap_is_refused_and_named(column: str, value: float) -> None:
    table = planted(10, 15)
    broken = getattr(table, column).copy()
    broken[4] = value
    with pytest.raises(SmrfedError, match=f"{column} of p4") as caught:
        replace(table, **{column: broken})
    assert caught.value.code == "SMR-E691"


def test_an_unknown_sex_or_a_short_column_is_refused() -> None:
    table = planted(4, 16)
    with pytest.raises(SmrfedError, match="sex of p2"):
        replace(table, sex=("F", "M", "", "F"))
    with pytest.raises(SmrfedError, match="age has the wrong shape"):
        replace(table, age=table.age[:3])


def test_too_little_to_learn_from_is_refused() -> None:
    table = planted(60, 17)
    with pytest.raises(SmrfedError) as caught:
        Demographics().fit(table.rows(np.flatnonzero(table.label == 0)))
    assert caught.value.code == "SMR-E692"
    with pytest.raises(SmrfedError) as caught:
        Prior().fit(table.rows([]))
    assert caught.value.code == "SMR-E692"


def test_another_atlas_is_refused() -> None:
    table = planted(60, 18)
    other = replace(table, regions=tuple(f"x_{name}" for name in table.regions))
    with pytest.raises(SmrfedError) as caught:
        RegionVolumes().fit(other)
    assert caught.value.code == "SMR-E693"
    with pytest.raises(SmrfedError) as caught:
        RegionVolumes().fit(table).predict_proba(other)
    assert caught.value.code == "SMR-E693"
