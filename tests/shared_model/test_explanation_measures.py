"""Measures of relevance maps against closed form and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from shared_model.explanation.baselines import edges, mean_brain
from shared_model.explanation.measures import localise
from shared_model.explanation.shortcuts import edge_shares
from shared_model.explanation.similarity import (
    rank_correlation,
    similarity,
    structural_similarity,
)

SHAPE = (10, 12, 11)


def _case(seed: int, ties: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    brain = rng.random(SHAPE) < 0.7
    truth = brain & (rng.random(SHAPE) < 0.1)
    truth[tuple(np.argwhere(brain)[0])] = True
    values = rng.integers(0, 4, SHAPE) if ties else rng.random(SHAPE)
    return values.astype(np.float32), truth, brain


def test_a_map_that_is_the_truth_is_perfect_and_a_constant_one_is_chance() -> None:
    _, truth, brain = _case(0)
    perfect = localise(truth.astype(np.float32), truth, brain)
    assert (perfect.mass, perfect.rank, perfect.pointing) == (1, 1, 1)
    assert perfect.auprc == pytest.approx(1)
    for level in (0.0, 3.0):
        constant = localise(np.full(SHAPE, level, np.float32), truth, brain)
        for value in (constant.mass, constant.rank, constant.pointing, constant.auprc):
            assert value == pytest.approx(constant.chance)
        assert constant.mass_over_chance == pytest.approx(1)


@given(st.integers(0, 10_000), st.booleans())
def test_measures_agree_with_brute_force(seed: int, ties: bool) -> None:
    values, truth, brain = _case(seed, ties)
    found = localise(values, truth, brain)
    inside, true = values[brain].astype(float), truth[brain]
    if not inside.any():
        return
    assert found.mass == pytest.approx(inside[true].sum() / inside.sum())
    assert found.auprc == pytest.approx(average_precision_score(true, inside))
    rng = np.random.default_rng(seed)
    count = int(true.sum())
    drawn = []
    for _ in range(60):
        order = rng.permutation(len(inside))
        top = order[np.argsort(-inside[order], kind="stable")][:count]
        drawn.append(true[top].mean())
    assert found.rank == pytest.approx(np.mean(drawn), abs=0.08)
    if not ties:
        assert drawn[0] == pytest.approx(found.rank)


@given(st.integers(0, 1000), st.floats(0.01, 50))
def test_the_scale_of_a_map_changes_nothing(seed: int, factor: float) -> None:
    values, truth, brain = _case(seed)
    assert localise(values * np.float32(factor), truth, brain).mass == pytest.approx(
        localise(values, truth, brain).mass, rel=1e-4
    )


@pytest.mark.parametrize("what", ["empty", "outside", "negative", "nan", "shape", "whole"])
def test_what_cannot_be_measured_is_refused(what: str) -> None:
    values, truth, brain = _case(3)
    if what == "empty":
        truth = np.zeros_like(truth)
    elif what == "outside":
        truth = np.ones_like(truth)
    elif what == "whole":
        truth = brain
    elif what == "shape":
        values = values[1:]
    else:
        values = values.copy()
        values[tuple(np.argwhere(brain)[0])] = -1 if what == "negative" else np.nan
    with pytest.raises(ValueError, match=r"shapes|truth|finite"):
        localise(values, truth, brain)


def test_similarity_knows_the_same_the_reversed_and_the_unrelated() -> None:
    rng = np.random.default_rng(1)
    brain = np.zeros((20, 20, 20), bool)
    brain[3:17, 3:17, 3:17] = True
    first = rng.random(brain.shape).astype(np.float32)
    other = rng.random(brain.shape).astype(np.float32)
    same = similarity(first, first, brain)
    assert same.spearman == pytest.approx(1)
    assert same.ssim == pytest.approx(1)
    assert rank_correlation(first[brain], (1 - first)[brain]) == pytest.approx(-1)
    unrelated = similarity(first, other, brain)
    assert max(abs(unrelated.spearman), abs(unrelated.ssim)) < 0.1
    constant = np.ones_like(first)
    assert rank_correlation(first[brain], constant[brain]) == 0
    assert rank_correlation(constant[brain], constant[brain]) == 1


def test_the_background_makes_no_maps_alike() -> None:
    rng = np.random.default_rng(2)
    small = np.zeros((30, 30, 30), bool)
    small[12:18, 12:18, 12:18] = True
    first, other = (rng.random(small.shape).astype(np.float32) for _ in range(2))
    assert structural_similarity(first * small, other * small, small) < 0.2


def test_edge_shares_count_what_lies_outside_and_near_the_edge() -> None:
    brain = np.zeros((20, 20, 20), bool)
    brain[4:16, 4:16, 4:16] = True
    everywhere = edge_shares(np.ones(brain.shape, np.float32), brain)
    assert everywhere.outside == pytest.approx(1 - 12**3 / 20**3)
    assert everywhere.edge_chance == pytest.approx(1 - 6**3 / 12**3)
    inner = np.zeros(brain.shape, np.float32)
    inner[9:11, 9:11, 9:11] = 1
    assert edge_shares(inner, brain).edge == 0


def test_baselines_see_edges_and_greys_inside_the_brain_only() -> None:
    labels = np.zeros((12, 12, 12), np.int16)
    labels[2:10, 2:10, 2:10] = 1
    volume = np.full(labels.shape, -4, np.float32)
    volume[2:10, 2:10, 2:10] = 0
    volume[5:7, 5:7, 5:7] = 2
    found = edges(volume, labels)
    assert found[0, 0, 0] == 0
    assert found[5, 5, 5] > 0
    assert mean_brain(volume, labels, -4)[6, 6, 6] == 6
    assert mean_brain(volume, labels, -4)[1, 1, 1] == 0
