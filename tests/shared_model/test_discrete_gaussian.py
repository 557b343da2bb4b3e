"""The exact sampler against the distribution that it claims, by chi-square and by its own parts."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from shared_model.privacy import discrete_gaussian
from shared_model.privacy.discrete_gaussian import LARGEST_DEVIATION, DiscreteGaussian
from shared_model.privacy.secure_random import SeededRandom, Words

DRAWS = 200_000
UNLIKELY = 1e-4  # the streams are seeded: a test that passed passes


def pmf(variance: float, reach: int) -> np.ndarray:
    """``(2 reach + 1,)`` probabilities of -reach to reach."""
    x = np.arange(-reach, reach + 1)
    density = np.exp(-(x**2) / (2 * variance))
    return np.asarray(density / density.sum())


def exact_p_value(draws: np.ndarray, variance: float) -> float:
    """Chi-square of integers against the exact probabilities; rare ones are put together."""
    reach = int(12 * variance**0.5) + 12
    expected = len(draws) * pmf(variance, reach)
    observed = np.bincount(draws + reach, minlength=2 * reach + 1)
    common = expected >= 10
    expected = np.append(expected[common], expected[~common].sum())
    observed = np.append(observed[common], observed[~common].sum())
    if expected[-1] < 10:  # too little beyond: with the last of the common ones
        expected, observed = (
            np.append(expected[:-2], expected[-2:].sum()),
            np.append(observed[:-2], observed[-2:].sum()),
        )
    return float(stats.chisquare(observed, expected).pvalue)


def normal_p_value(draws: np.ndarray, deviation: float, bins: int = 100) -> float:
    """Chi-square of the shape against a normal, in bins of equal probability."""
    edges = stats.norm.ppf(np.linspace(0, 1, bins + 1)) * deviation
    observed, _ = np.histogram(draws.astype(float), edges)
    return float(stats.chisquare(observed).pvalue)


def variance_p_value(draws: np.ndarray, deviation: float) -> float:
    """Two-sided chi-square test of the variance of normals with mean zero."""
    squares = float(np.square(draws / deviation).sum())
    below = stats.chi2(len(draws)).cdf(squares)
    return float(2 * min(below, 1 - below))


@pytest.mark.parametrize("variance", [0.05, 0.5, 1.0, 2.7, 36.0, 300.0, 1000.0, 12_345.6])
def test_small_deviations_have_exactly_this_distribution(variance: float) -> None:
    draws = DiscreteGaussian(variance, SeededRandom("small", str(variance))).draw(DRAWS)
    assert draws.dtype == np.int64
    assert exact_p_value(draws, variance) > UNLIKELY


def test_the_test_would_notice_a_deviation_of_two_percent() -> None:
    draws = DiscreteGaussian(36.0, SeededRandom("other")).draw(DRAWS)
    assert exact_p_value(draws, 36.0 * 1.04) < UNLIKELY
    assert variance_p_value(draws, 6 * 1.02) < UNLIKELY


@pytest.mark.parametrize("deviation", [2.0**20, 2.0**40 / 3, 2.0**44, LARGEST_DEVIATION])
def test_large_deviations_are_normal_down_to_the_last_bit(deviation: float) -> None:
    draws = DiscreteGaussian(deviation**2, SeededRandom("large", str(deviation))).draw(DRAWS)
    assert normal_p_value(draws, deviation) > UNLIKELY
    assert variance_p_value(draws, deviation) > UNLIKELY
    # Nothing of the blocks shows: neither in the lowest bits, nor within a block.
    assert stats.chisquare(np.bincount(draws % 64, minlength=64)).pvalue > UNLIKELY
    fine, _ = np.histogram(draws / deviation, np.linspace(0, 1, 257))
    middles = (np.arange(256) + 0.5) / 256
    shape = stats.norm.pdf(middles)
    assert stats.chisquare(fine, fine.sum() * shape / shape.sum()).pvalue > UNLIKELY


def test_the_distribution_is_symmetric() -> None:
    draws = DiscreteGaussian(2.0**80, SeededRandom("sides")).draw(DRAWS)
    positive, negative = draws[draws > 0], -draws[draws < 0]
    assert stats.binomtest(len(positive), DRAWS).pvalue > UNLIKELY
    assert stats.ks_2samp(positive, negative).pvalue > UNLIKELY


def test_numbers_and_chunks_are_independent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discrete_gaussian, "_CHUNK", 1000)
    x = DiscreteGaussian(2.0**60, SeededRandom("chunks")).draw(DRAWS) / 2.0**30
    for lag in (1, 2, 999, 1000, 1001):
        correlation = float((x[lag:] * x[:-lag]).mean()) * len(x[lag:]) ** 0.5
        assert abs(correlation) < 4
    assert len(np.unique(x)) > DRAWS - 100  # of 2^30 and more, hardly any twice


def test_noise_is_added_in_place_and_wraps() -> None:
    start = np.full(1000, 2**62, np.int64)
    total = start.copy()
    DiscreteGaussian(2.0**60, SeededRandom("place")).add_to(total)
    drawn = DiscreteGaussian(2.0**60, SeededRandom("place")).draw(1000)
    np.testing.assert_array_equal(total - start, drawn)
    near = np.full(1000, 2**63 - 1, np.int64)
    DiscreteGaussian(2.0**60, SeededRandom("place")).add_to(near)
    np.testing.assert_array_equal(near.view(np.uint64) - np.uint64(2**63 - 1), drawn.view("u8"))


class _TwoStreams:
    """Proposals from one stream; what a comparison in doubt asks for, from another."""

    def __init__(self) -> None:
        self.main, self.side = SeededRandom("main"), SeededRandom("side")
        self.asked = 0

    def words(self, count: int) -> Words:
        if count > 1:
            return self.main.words(count)
        self.asked += 1
        return self.side.words(count)


@pytest.mark.parametrize("variance", [3.0, 2.0**83])
def test_exact_comparisons_decide_as_the_fast_ones_do(variance: float) -> None:
    fast, exact = _TwoStreams(), _TwoStreams()
    quick = DiscreteGaussian(variance, fast).draw(3000)
    slow = DiscreteGaussian(variance, exact, doubt=2**62).draw(3000)
    assert exact.asked > 1000 > 10 > fast.asked
    np.testing.assert_array_equal(quick, slow)


def test_equal_upper_bits_are_decided_by_the_lower_ones() -> None:
    gaussian = DiscreteGaussian(1e6, SeededRandom("bits"))
    column = next(c for c, low in enumerate(gaussian._low) if low)
    expected = gaussian._low[column] / 2.0**discrete_gaussian._LOW
    below = sum(gaussian._below_low_bits(column) for _ in range(4000))
    assert stats.binomtest(below, 4000, expected).pvalue > UNLIKELY


@pytest.mark.parametrize("variance", [0.3, 50.0, 1e9 + 0.7])
def test_the_table_of_blocks_is_exact(variance: float) -> None:
    width = 2 ** max(0, int(np.floor(np.log2(variance) / 2)) - 4)
    blocks = int(np.ceil(16 * variance**0.5 / width)) + 1
    weights = discrete_gaussian._weights(blocks, width, Fraction(variance))
    assert sum(weights) == 2**128
    high, low, alias = discrete_gaussian._alias_table(weights)
    share, got = 2**119, [0] * len(high)
    for column, other in enumerate(alias):
        threshold = high[column] << discrete_gaussian._LOW | low[column]
        assert 0 <= threshold < share
        got[column] += threshold
        got[other] += share - threshold
    assert got == weights + [0] * (len(high) - len(weights))
    assert weights[1] / weights[0] == pytest.approx(np.exp(-(width**2) / (2 * variance)), rel=1e-12)


def test_shares_add_up_to_one_discrete_gaussian() -> None:
    """Kairouz et al. 2021: shares of s / sqrt(h), from h survivors, on a grid that is coarse."""
    shares = [DiscreteGaussian(9.0, SeededRandom("share", k)).draw(DRAWS) for k in range(4)]
    assert exact_p_value(np.sum(shares, axis=0), 36.0) > UNLIKELY
    assert exact_p_value(np.sum(shares[:3], axis=0), 36.0) < UNLIKELY
    one = pmf(9.0, 60)
    four = np.convolve(np.convolve(one, one), np.convolve(one, one))
    ideal = pmf(36.0, 240)
    middle = slice(200, 281)
    assert np.abs(four[middle] / ideal[middle] - 1).max() < 1e-12


@pytest.mark.parametrize("power", [0, 1, 4, 5, 11, 40, 47])
@pytest.mark.parametrize("beside", [1 - 2.0**-53, 1 - 2.0**-30, 1.0, 1 + 2.0**-52, 1.5, 3.999])
def test_every_deviation_has_a_table(power: int, beside: float) -> None:
    variance = 4.0**power * beside
    draws = DiscreteGaussian(variance, SeededRandom("table", power, str(beside))).draw(4000)
    assert np.abs(draws).max() < 7 * variance**0.5 + 1
    assert float(np.square(draws / variance**0.5).mean()) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("variance", [0.0, -1.0, float("nan"), 4 * LARGEST_DEVIATION**2])
def test_a_variance_beyond_what_is_exact_is_refused(variance: float) -> None:
    with pytest.raises(ValueError, match="variance"):
        DiscreteGaussian(variance, SeededRandom("none"))
