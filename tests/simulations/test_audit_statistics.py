"""The audit's statistics against simulation, scipy, closed forms and known mechanisms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, norm

from shared_model.privacy.accounting import MechanismUse
from simulations.audit.claim import Claim
from simulations.audit.clopper_pearson import epsilon_from_rates, lower_bound, upper_bound
from simulations.audit.gaussian_fit import fit, gaussian_epsilon
from simulations.audit.membership import auroc, membership, rate_at
from simulations.audit.noise_bound import epsilon_lower_bound as family_bound
from simulations.audit.one_run import (
    Guesses,
    best_lower_bound,
    epsilon_lower_bound,
    guess,
    most_provable,
    p_value,
)
from simulations.audit.one_run_fdp import any_share_refutes, refutes
from simulations.audit.privacy_profile import approximate_profile, profile_of
from simulations.audit.repeated_game import Counted

RNG = np.random.default_rng(20)


def randomised_response(
    canaries: int, epsilon: float, rng: np.random.Generator, delta: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Coins, and what an epsilon-DP curator says of each; with probability delta it says all."""
    included = rng.random(canaries) < 0.5
    keep = rng.random(canaries) < 1 / (1 + math.exp(-epsilon))
    if rng.random() < delta:
        keep[:] = True
    # The score is the answer, with a little noise to break ties.
    return (keep == included) + 1e-6 * rng.random(canaries), included


@pytest.mark.parametrize(("epsilon", "canaries"), [(0.3, 40), (1.0, 100), (3.0, 200)])
def test_the_one_run_p_value_covers_randomised_response(epsilon: float, canaries: int) -> None:
    rng = np.random.default_rng(canaries)
    draws = 4000
    rejected = {0.05: 0, 0.2: 0}
    for _ in range(draws):
        value = p_value(guess(*randomised_response(canaries, epsilon, rng), 1.0), epsilon, 0.0)
        for level in rejected:
            rejected[level] += value <= level
    for level, count in rejected.items():
        # At most `level` of true claims are rejected; 1e-5 chance that luck alone breaks this.
        assert binom.sf(count - 1, draws, level) > 1e-5


def test_without_delta_the_p_value_is_the_binomial_tail() -> None:
    for right in range(21):
        expected = binomtest(right, 20, 1 / (1 + math.exp(-1.3)), alternative="greater").pvalue
        assert p_value(Guesses(50, 20, right), 1.3, 0.0) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(right=st.integers(0, 60), delta=st.floats(1e-9, 1e-2), epsilon=st.floats(0, 4))
def test_the_delta_term_is_the_papers_maximum_written_as_a_loop(
    right: int, delta: float, epsilon: float
) -> None:
    accuracy = 1 / (1 + math.exp(-epsilon))
    worst = total = 0.0
    for i in range(1, right + 1):
        total += binom.pmf(right - i, 60, accuracy)
        worst = max(worst, total / i)
    expected = min(1.0, binom.sf(right - 1, 60, accuracy) + worst * delta * 2 * 80)
    assert p_value(Guesses(80, 60, right), epsilon, delta) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("canaries", "expected"), [(50, 2.8), (100, 3.5), (200, 4.2), (500, 5.1), (1000, 5.8)]
)
def test_what_all_right_guesses_can_prove_is_the_published_table(
    canaries: int, expected: float
) -> None:
    assert most_provable(canaries, 1e-5, 0.05) == pytest.approx(expected, abs=0.05)


def test_the_bound_of_randomised_response_is_below_its_epsilon_and_not_far_below() -> None:
    rng = np.random.default_rng(3)
    found = [
        epsilon_lower_bound(guess(*randomised_response(2000, 1.0, rng), 1.0), 1e-9, 0.05)
        for _ in range(20)
    ]
    assert np.median(found) > 0.85
    assert sum(bound > 1.0 for bound in found) <= 5


@pytest.mark.parametrize("error", [0.05, 0.3])
def test_the_profile_test_covers_gaussian_and_failing_mechanisms(error: float) -> None:
    rng = np.random.default_rng(4)
    draws, canaries = 300, 200
    gaussian = profile_of(MechanismUse(1.0, 1.0, 1))  # separation 1
    failing = approximate_profile(0.5, 0.2)
    wrong = {"gaussian": 0, "failing": 0}
    for _ in range(draws):
        included = rng.random(canaries) < 0.5
        scores = included + rng.standard_normal(canaries)
        wrong["gaussian"] += any_share_refutes(scores, included, gaussian, error)
        wrong["failing"] += refutes(
            guess(*randomised_response(canaries, 0.5, rng, 0.2), 1.0), failing, error
        )
    for count in wrong.values():
        assert binom.sf(count - 1, draws, error) > 1e-5


def test_the_profile_of_a_gaussian_is_the_closed_form() -> None:
    profile = profile_of(MechanismUse(2.0, 1.0, 9))  # separation 3 / 2
    for rate in (1e-4, 0.01, 0.3, 0.9):
        exact = norm.cdf(norm.ppf(rate) + 1.5)
        assert exact - 1e-9 <= profile.most_members(rate) <= exact * 1.01 + 1e-4
        back = norm.cdf(norm.ppf(rate) - 1.5)
        assert back * 0.9 - 1e-9 <= profile.fewest_wrong(rate) <= back + 1e-9


def test_the_profile_of_a_subsampled_gaussian_allows_every_test_of_it() -> None:
    rate, sigma = 0.3, 0.8
    profile = profile_of(MechanismUse(sigma, rate, 1))
    for threshold in np.linspace(-2, 4, 25):
        false = norm.sf(threshold / sigma)
        true = (1 - rate) * false + rate * norm.sf((threshold - 1) / sigma)
        assert true <= profile.most_members(false) + 1e-9
        assert 1 - false <= profile.most_members(1 - true) + 1e-9
    # And it is attained: the best threshold test is as good as the profile says.
    false = norm.sf(1.5 / sigma)
    true = (1 - rate) * false + rate * norm.sf(0.5 / sigma)
    assert profile.most_members(false) == pytest.approx(true, rel=0.01)


def test_the_audit_of_a_plain_gaussian_is_below_its_epsilon_and_the_strong_test_not_far() -> None:
    rng = np.random.default_rng(5)
    claim = Claim(MechanismUse(0.8, 1.0, 1), 1e-5)
    assert claim.epsilon == pytest.approx(gaussian_epsilon(1.25, 1e-5), abs=0.01)
    strong, any_mechanism, one_run, one_run_any, estimate = [], [], [], [], []
    for seed in range(8):
        outside, inside = rng.standard_normal(1000), rng.standard_normal(1000) + 1.25
        counted = Counted(
            "direction", 1000, int((inside > 0.625).sum()), int((outside > 0.625).sum()), 0.05
        )
        strong.append(family_bound(claim, counted.refutes))
        any_mechanism.append(counted.epsilon_lower_bound(1e-5))
        included = rng.random(1000) < 0.5
        scores = 1.25 * included + rng.standard_normal(1000)
        one_run.append(
            family_bound(claim, lambda f: any_share_refutes(scores, included, f, 0.05))  # noqa: B023
        )
        one_run_any.append(best_lower_bound(scores, included, 1e-5, 0.05)[0])
        estimate.append(fit(scores, included, 1e-5, seed, draws=20).epsilon)
    for bounds in (strong, any_mechanism, one_run, one_run_any):
        assert max(bounds) < claim.epsilon  # of 8, with fixed seeds; 5 % may be above
        assert min(bounds) > 0
    assert np.median(strong) > 0.75 * claim.epsilon
    assert np.median(one_run) > np.median(one_run_any)  # the whole profile says more
    assert np.mean(estimate) == pytest.approx(claim.epsilon, rel=0.1)


@settings(max_examples=100, deadline=None)
@given(trials=st.integers(1, 500), share=st.floats(0, 1), error=st.floats(1e-6, 0.4))
def test_clopper_pearson_is_scipys(trials: int, share: float, error: float) -> None:
    hits = round(share * trials)
    exact = binomtest(hits, trials).proportion_ci(1 - 2 * error, method="exact")
    assert lower_bound(hits, trials, error) == pytest.approx(exact.low, abs=1e-9)
    assert upper_bound(hits, trials, error) == pytest.approx(exact.high, abs=1e-9)


def test_epsilon_from_rates_inverts_the_definition() -> None:
    assert epsilon_from_rates(0.5, 0.1, 0.0) == pytest.approx(math.log(5))
    assert epsilon_from_rates(0.9, 0.5, 0.0) == pytest.approx(math.log(5))  # the other way round
    assert epsilon_from_rates(0.3, 0.3, 0.0) == 0
    assert epsilon_from_rates(1.0, 0.0, 1e-5) == math.inf


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 8.0])
def test_gaussian_epsilon_agrees_with_dp_accounting(epsilon: float) -> None:
    import dp_accounting

    sigma = dp_accounting.get_sigma_gaussian(epsilon, 1e-5)
    assert gaussian_epsilon(1 / sigma, 1e-5) == pytest.approx(epsilon, rel=1e-4)


def test_membership_figures_are_those_of_counting() -> None:
    inside, outside = RNG.standard_normal(70).round(1) + 0.5, RNG.standard_normal(90).round(1)
    pairs = (inside[:, None] > outside).mean() + 0.5 * (inside[:, None] == outside).mean()
    assert auroc(inside, outside) == pytest.approx(float(pairs))
    found = membership("x", inside, outside, 0, draws=200)
    assert found.auroc_low < found.auroc < found.auroc_high
    tenth = rate_at(inside, outside, 0.1)
    threshold = np.sort(outside)[-10]
    assert tenth.false_positives <= 9 < 0.1 * 90 + 1
    assert tenth.true_positive_rate == pytest.approx(float((inside > threshold).mean()))
    assert not rate_at(inside, outside, 0.001).resolved
    assert rate_at(inside, outside, 0.001).false_positives == 0
