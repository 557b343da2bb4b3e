"""Accounting against dp-accounting built by hand, Opacus's PRV accountant, and the closed form."""

from __future__ import annotations

import math
import random

import dp_accounting
import pytest
from dp_accounting import pld
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant
from scipy.optimize import brentq
from scipy.stats import norm

from shared_model.errors import SmrfedError
from shared_model.privacy.accounting import MechanismUse, calibrate_noise, epsilon

CASES = [(1.0, 0.0533, 950), (2.0, 0.0533, 950), (1.5, 0.5, 40), (4.25, 1.0, 50), (6.0, 0.25, 10)]


@pytest.mark.parametrize(("noise", "rate", "steps"), CASES)
def test_epsilon_is_that_of_dp_accounting_built_directly(
    noise: float, rate: float, steps: int
) -> None:
    accountant = pld.PLDAccountant()
    step = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise))
    accountant.compose(dp_accounting.SelfComposedDpEvent(step, steps))
    ours = epsilon([MechanismUse(noise, rate, steps)], 1e-5)
    assert ours == pytest.approx(accountant.get_epsilon(1e-5), rel=0.01)


@pytest.mark.parametrize(("noise", "rate", "steps"), CASES)
def test_epsilon_is_that_of_opacus_prv(noise: float, rate: float, steps: int) -> None:
    opacus = PRVAccountant()
    opacus.history = [(noise, rate, steps)]
    ours = epsilon([MechanismUse(noise, rate, steps)], 1e-5)
    # PRV reports the upper end of an interval 0.01 wide on either side.
    prv = opacus.get_epsilon(delta=1e-5, eps_error=0.01)
    assert prv - 0.02 - 0.01 * prv <= ours <= prv * 1.01


def test_without_sampling_epsilon_is_the_closed_form_of_the_gaussian() -> None:
    mu = math.sqrt(50) / 4.25  # Balle and Wang 2018

    def excess(eps: float) -> float:
        return float(
            norm.cdf(-eps / mu + mu / 2) - math.exp(eps) * norm.cdf(-eps / mu - mu / 2) - 1e-5
        )

    exact = brentq(excess, 0.01, 50)
    ours = epsilon([MechanismUse(4.25, 1.0, 50)], 1e-5)
    assert exact <= ours <= exact * 1.005


USES = st.lists(
    st.builds(
        MechanismUse,
        st.sampled_from([4.0, 8.0]),
        st.sampled_from([0.25, 1.0]),
        st.integers(0, 6),
    ),
    max_size=3,
)


@settings(max_examples=12, deadline=None)
@given(USES, st.randoms(use_true_random=False))
def test_merging_splitting_and_reordering_change_nothing(
    uses: list[MechanismUse], shuffler: random.Random
) -> None:
    single = [
        MechanismUse(use.noise_multiplier, use.sampling_rate, 1)
        for use in uses
        for _ in range(use.steps)
    ]
    shuffler.shuffle(single)
    assert epsilon(single, 1e-5) == epsilon(uses, 1e-5)


@settings(max_examples=12, deadline=None)
@given(USES, USES)
def test_more_uses_never_cost_less(uses: list[MechanismUse], more: list[MechanismUse]) -> None:
    assert epsilon([*uses, *more], 1e-5) >= epsilon(uses, 1e-5) - 1e-9


@pytest.mark.parametrize(
    ("cheaper", "dearer"),
    [
        ((2.0, 0.5, 10), (1.9, 0.5, 10)),
        ((2.0, 0.5, 10), (2.0, 0.6, 10)),
        ((2.0, 0.5, 10), (2.0, 0.5, 11)),
    ],
)
def test_less_noise_more_sampling_and_more_steps_cost_more(
    cheaper: tuple[float, float, int], dearer: tuple[float, float, int]
) -> None:
    assert epsilon([MechanismUse(*cheaper)], 1e-5) < epsilon([MechanismUse(*dearer)], 1e-5)


def test_nothing_costs_nothing_and_no_noise_costs_everything() -> None:
    assert epsilon([], 1e-5) == epsilon([MechanismUse(1.0, 0.5, 0)], 1e-5) == 0
    assert epsilon([MechanismUse(2.0, 0.5, 9), MechanismUse(0.0, 0.1, 1)], 1e-5) == math.inf


@pytest.mark.parametrize(("target", "rate", "steps"), [(1.0, 1.0, 20), (8.0, 0.25, 40)])
def test_calibrated_noise_keeps_the_budget_and_is_no_larger_than_needed(
    target: float, rate: float, steps: int
) -> None:
    noise = calibrate_noise(target, 1e-5, rate, steps)
    assert epsilon([MechanismUse(noise, rate, steps)], 1e-5) <= target
    assert epsilon([MechanismUse(noise / 1.02, rate, steps)], 1e-5) > target


def test_a_budget_that_no_noise_reaches_is_refused() -> None:
    with pytest.raises(SmrfedError, match="SMR-E301"):
        calibrate_noise(1e-6, 1e-12, 1.0, 10**6)
