"""Median, trimmed mean and Krum against scipy and brute force; what one site can do to each."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from server.aggregation.robust import KeptUpdates, coordinate_median, krum, trimmed_mean
from shared_model.errors import SmrfedError

SHAPES = {"b": (2,), "w": (2, 3)}
SITES = "abcdefg"
RULES = {"median": 0, "trimmed_mean": 2, "krum": 2}

# Seven sites and eight numbers each.
table = arrays(np.float32, (7, 8), elements=st.floats(-100, 100, width=32))


def named(row: np.ndarray) -> dict[str, np.ndarray]:
    return {"b": row[:2].copy(), "w": row[2:].reshape(2, 3).copy()}


def flat(arrays: Any) -> np.ndarray:
    return np.concatenate([arrays["b"].ravel(), arrays["w"].ravel()])


def aggregated(rows: np.ndarray, rule: str, order: Any = None) -> np.ndarray:
    kept = KeptUpdates(SHAPES, rule, RULES[rule])  # type: ignore[arg-type]
    for index in range(len(rows)) if order is None else order:
        kept.add(SITES[index], named(rows[index]))
    assert kept.weight == len(rows)
    return flat(kept.centre())


@given(table)
def test_median_and_trimmed_mean_are_those_of_scipy(rows: np.ndarray) -> None:
    wide = rows.astype(np.float64)
    median = scipy.stats.mstats.mquantiles(wide, [0.5], alphap=1, betap=1, axis=0)[0]
    np.testing.assert_allclose(aggregated(rows, "median"), median, rtol=1e-12, atol=1e-12)
    # Rounded down, 2.5 of 7 are two at either end.
    expected = scipy.stats.trim_mean(wide, 2.5 / 7, axis=0)
    np.testing.assert_allclose(aggregated(rows, "trimmed_mean"), expected, rtol=1e-12, atol=1e-12)


def test_the_median_of_an_even_number_is_the_mean_of_the_middle_two() -> None:
    updates = [named(np.full(8, value, np.float32)) for value in (1.0, 2.0, 4.0, 100.0)]
    assert (flat(coordinate_median(updates)) == 3.0).all()


@given(table)
def test_krum_chooses_the_update_that_brute_force_chooses(rows: np.ndarray) -> None:
    """By its definition: over all subsets of K - f - 2 others, the least sum of distances."""
    wide = rows.astype(np.float64)
    scores = []
    for i in range(7):
        others = [j for j in range(7) if j != i]
        scores.append(
            min(
                sum(float(((wide[i] - wide[j]) ** 2).sum()) for j in subset)
                for subset in itertools.combinations(others, 7 - 2 - 2)
            )
        )
    found = aggregated(rows, "krum")
    chosen = [score for score, row in zip(scores, wide, strict=True) if (row == found).all()]
    assert chosen
    assert min(chosen) <= min(scores) * (1 + 1e-9) + 1e-9


@settings(max_examples=60)
@given(table, st.permutations(range(7)), st.sampled_from(sorted(RULES)))
def test_the_order_of_arrival_changes_no_bit(rows: np.ndarray, order: list[int], rule: str) -> None:
    assert (aggregated(rows, rule) == aggregated(rows, rule, order)).all()


@given(table, st.sampled_from([1e2, 1e6, 1e30]), st.integers(0, 6))
def test_one_lying_site_moves_no_coordinate_beyond_the_honest_ones(
    rows: np.ndarray, size: float, liar: int
) -> None:
    honest = np.delete(rows.astype(np.float64), liar, axis=0)
    low, high = honest.min(axis=0), honest.max(axis=0)
    updates = [named(row) for row in rows]
    lies = np.full(8, size, np.float32)
    updates[liar] = named(lies)
    for found in (coordinate_median(updates), trimmed_mean(updates, 2)):
        assert (low - 1e-9 <= flat(found)).all()
        assert (flat(found) <= high + 1e-9).all()
    if size >= 1e6:  # far from everybody: never the one that is chosen
        assert (flat(krum(updates, 2)) == honest).all(axis=1).any()
    mean = (honest.sum(axis=0) + lies) / 7
    assert (np.abs(mean) >= (size - 600) / 7).all()  # the mean follows it without bound


def test_two_colluding_sites_do_not_move_krum_nor_the_trimmed_mean_away() -> None:
    generator = np.random.default_rng(3)
    rows = generator.normal(size=(7, 8)).astype(np.float32)
    rows[5:] = 500.0
    assert np.abs(aggregated(rows, "krum")).max() < 5
    assert np.abs(aggregated(rows, "trimmed_mean")).max() < 5
    assert np.abs(rows.mean(axis=0)).min() > 100


@pytest.mark.parametrize("rule", sorted(RULES))
def test_identical_updates_come_out_as_they_are(rule: str) -> None:
    rows = np.tile(np.linspace(-3, 3, 8, dtype=np.float32), (7, 1))
    np.testing.assert_allclose(aggregated(rows, rule), rows[0], rtol=1e-15)


def test_what_cannot_be_aggregated_is_refused() -> None:
    kept = KeptUpdates(SHAPES, "median", 0)
    kept.add("a", named(np.zeros(8, np.float32)))
    with pytest.raises(ValueError, match="counted already"):
        kept.add("a", named(np.zeros(8, np.float32)))
    with pytest.raises(SmrfedError, match="SMR-E515"):
        kept.add("b", {"b": np.zeros(2, np.float32)})
    with pytest.raises(SmrfedError, match="SMR-E510"):
        kept.add("b", named(np.full(8, np.nan, np.float32)))
    updates = [named(np.zeros(8, np.float32))] * 4
    with pytest.raises(ValueError, match="cannot be trimmed"):
        trimmed_mean(updates, 2)
    with pytest.raises(ValueError, match="needs 5 updates"):
        krum(updates, 1)
