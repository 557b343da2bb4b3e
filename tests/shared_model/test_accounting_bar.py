"""The bar of the accounting: random schedules against dp-accounting used in another way."""

from __future__ import annotations

import random

import dp_accounting
import numpy as np
import pytest
from dp_accounting import rdp
from dp_accounting.pld import privacy_loss_distribution as distributions

from shared_model.privacy import accounting
from shared_model.privacy.accounting import MechanismUse, Relation, epsilon

DELTA = 1e-5


def schedule(seed: int) -> list[MechanismUse]:
    """What a hospital may do over the years: a few plans, sampled or not, strong or weak noise."""
    draw = random.Random(seed)
    uses = []
    for _ in range(draw.randint(1, 4)):
        rate = draw.choice([1.0, draw.uniform(0.02, 0.9)])
        steps = draw.randint(1, 60)
        target = draw.uniform(0.15, 2.5)  # a GDP-like figure of the segment, to stay in range
        uses.append(MechanismUse(max(0.6, rate * steps**0.5 / target), rate, steps))
    return uses


def lower_and_upper(uses: list[MechanismUse]) -> tuple[float, float]:
    """A lower bound (optimistic rounding) and an upper bound (Renyi), composed step by step.

    Not our grid, not our merging, no self-composition: every step is one convolution. The grid is
    fine enough for the rounding down to cost less than a percent.
    """
    renyi = rdp.RdpAccountant([*range(2, 65), 96, 128, 256])
    composed = None
    for use in uses:
        gaussian = dp_accounting.GaussianDpEvent(use.noise_multiplier)
        renyi.compose(dp_accounting.PoissonSampledDpEvent(use.sampling_rate, gaussian), use.steps)
        one = distributions.from_gaussian_mechanism(
            use.noise_multiplier,
            sampling_prob=use.sampling_rate,
            pessimistic_estimate=False,
            value_discretization_interval=2e-4,
        )
        for _ in range(use.steps):
            composed = one if composed is None else composed.compose(one)
    assert composed is not None
    return composed.get_epsilon_for_delta(DELTA), renyi.get_epsilon(DELTA)


def held_against_bounds(seed: int) -> None:
    uses = schedule(seed)
    lower, upper = lower_and_upper(uses)
    ours = epsilon(uses, DELTA)
    assert 0 < lower <= ours <= 1.02 * lower, (uses, lower, ours)
    assert ours <= upper


@pytest.mark.parametrize("seed", range(4))
def test_epsilon_is_never_below_an_independent_calculation_and_within_two_percent(
    seed: int,
) -> None:
    held_against_bounds(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4, 50))
def test_epsilon_of_fifty_random_schedules(seed: int) -> None:
    held_against_bounds(seed)


def by_integration(use: MechanismUse, relation: Relation) -> float:
    """Epsilon from the densities themselves: losses on a grid, rounded up, powers of a spectrum."""
    noise, rate, interval = use.noise_multiplier, use.sampling_rate, 2e-4
    x, step = np.linspace(-13 * noise - 1, 13 * noise + 1, 400_001, retstep=True)

    def density(mean: float) -> np.ndarray:
        return np.exp(-((x - mean) ** 2) / (2 * noise**2)) / (noise * np.sqrt(2 * np.pi))

    with_one = (1 - rate) * density(0) + rate * density(1)
    pairs = [(with_one, (1 - rate) * density(0) + rate * density(-1))]
    if relation == "add_or_remove_one":
        pairs = [(with_one, density(0)), (density(0), with_one)]
    out = []
    for one, other in pairs:
        kept = (one > 0) & (other > 0)
        loss = np.ceil(np.log(one[kept] / other[kept]) / interval).astype(int)
        mass = np.bincount(loss - loss.min(), weights=one[kept] * step)
        size = (len(mass) - 1) * use.steps + 1
        spectrum = np.fft.rfft(mass, 1 << size.bit_length())
        total = np.fft.irfft(spectrum**use.steps)[:size]
        losses = interval * (loss.min() * use.steps + np.arange(size))
        low, high = 0.0, 60.0
        while high - low > 1e-6:
            middle = (low + high) / 2
            above = losses > middle
            excess = float(np.sum(total[above] * -np.expm1(middle - losses[above])))
            low, high = (middle, high) if excess > DELTA else (low, middle)
        out.append(high)
    return max(out)


@pytest.mark.parametrize(
    "use", [MechanismUse(4.0, 1.0, 4), MechanismUse(2.0, 0.3, 5), MechanismUse(1.5, 0.5, 6)]
)
@pytest.mark.parametrize("relation", ["add_or_remove_one", "replace_one"])
def test_both_neighbouring_relations_are_those_of_the_densities(
    use: MechanismUse, relation: Relation
) -> None:
    ours = epsilon([use], DELTA, relation)
    assert ours == pytest.approx(by_integration(use, relation), abs=2e-3)


@pytest.mark.parametrize(
    "uses",
    [
        [MechanismUse(8.0, 0.3, 20)],
        [MechanismUse(10.0, 1.0, 3)],
        [MechanismUse(4.0, 0.1, 30), MechanismUse(12.0, 1.0, 1)],
    ],
)
def test_replacing_a_patient_costs_more_than_removing_and_less_than_removing_and_adding(
    uses: list[MechanismUse],
) -> None:
    once, replaced = epsilon(uses, DELTA), epsilon(uses, DELTA, "replace_one")
    assert once < replaced
    # Removing one and adding another: (e, d) twice is (2 e, d (1 + exp(e))).
    smaller = DELTA
    while smaller * (1 + np.exp(epsilon(uses, smaller))) > DELTA:
        smaller /= 3
    assert replaced < 2 * epsilon(uses, smaller)


@pytest.mark.parametrize(
    "uses",
    [
        schedule(100),
        [MechanismUse(1.0, 0.003, 8000)],
        [MechanismUse(30.0, 0.02, 500), MechanismUse(3.0, 0.5, 2)],
    ],
)
def test_a_grid_eight_times_finer_changes_epsilon_by_less_than_two_per_mille(
    uses: list[MechanismUse], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = accounting._interval
    ours = epsilon(uses, DELTA)
    monkeypatch.setattr(accounting, "_interval", lambda *given: chosen(*given) / 8)
    accounting._epsilon.cache_clear()
    finer = epsilon(uses, DELTA)
    accounting._epsilon.cache_clear()
    assert finer <= ours <= 1.002 * finer


def test_thirty_plans_are_composed_and_splitting_them_changes_nothing() -> None:
    plans = [MechanismUse(8.0 + number / 10, 0.2, 10) for number in range(30)]
    whole = epsilon(plans, DELTA)
    parts = [MechanismUse(p.noise_multiplier, p.sampling_rate, 5) for p in plans for _ in range(2)]
    assert epsilon(parts, DELTA) == whole
    assert whole < rdp_epsilon(plans)
    assert whole > epsilon(plans[:-1], DELTA)


def rdp_epsilon(uses: list[MechanismUse]) -> float:
    accountant = rdp.RdpAccountant([*range(2, 65), 96, 128, 256])
    for use in uses:
        gaussian = dp_accounting.GaussianDpEvent(use.noise_multiplier)
        event = dp_accounting.PoissonSampledDpEvent(use.sampling_rate, gaussian)
        accountant.compose(event, use.steps)
    return float(accountant.get_epsilon(DELTA))


def test_a_plan_without_meaningful_noise_costs_a_bound_and_no_gigabytes() -> None:
    for noise in (1e-6, 1e-3, 0.03):
        assert epsilon([MechanismUse(noise, 0.5, 1000)], DELTA) > 1000
        assert epsilon([MechanismUse(noise, 0.5, 1000)], DELTA, "replace_one") == float("inf")
