"""Accounting of the Poisson-subsampled Gaussian mechanism, the same for site and coordinator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from shared_model.errors import SmrfedError

Relation = Literal["add_or_remove_one", "replace_one"]

_Uses = tuple[tuple[float, float, int], ...]
# Grid of the privacy loss where one step's loss spreads widely enough; pessimistic rounding.
_INTERVAL = 1e-3
_LARGEST_EPSILON = 1000.0
_LARGEST_NOISE = 10_000.0


@dataclass(frozen=True, order=True)
class MechanismUse:
    """``steps`` uses of a Poisson-subsampled Gaussian mechanism on one hospital's patients.

    Guarantee: each step adds N(0, (noise_multiplier * C)^2) to a sum of per-patient vectors of norm
    at most C, over patients that each joined independently with probability ``sampling_rate``.
    Neighbouring relation: add or remove one patient (all scans and visits).
    """

    noise_multiplier: float
    sampling_rate: float
    steps: int


def epsilon(
    uses: Sequence[MechanismUse], delta: float, relation: Relation = "add_or_remove_one"
) -> float:
    """Epsilon of the composition at ``delta``, by privacy loss distributions (Koskela 2020).

    Never below the truth (pessimistic discretisation), and above it by 0.2 % at most up to epsilon
    1000, beyond which it is the Renyi bound (``replace_one``: ``inf``): far above anything that a
    hospital would agree to, and not worth a large grid. Equal mechanisms are merged first, so that
    the ledger of a long campaign stays fast. Returns ``inf`` when any use adds no noise.

    ``relation``: ``replace_one`` compares hospitals in which one patient's data are others (not
    absent): the sum then moves by up to 2 C, and epsilon is larger.
    """
    merged: dict[tuple[float, float], int] = {}
    for use in uses:
        if use.steps:
            key = (use.noise_multiplier, use.sampling_rate)
            merged[key] = merged.get(key, 0) + use.steps
    return _epsilon(tuple(sorted((*key, steps) for key, steps in merged.items())), delta, relation)


@lru_cache(maxsize=1024)
def _epsilon(uses: _Uses, delta: float, relation: Relation) -> float:
    if not uses:
        return 0.0
    if any(noise <= 0 for noise, _, _ in uses):
        return math.inf
    rough = _renyi_epsilon(uses, delta)
    if rough > _LARGEST_EPSILON:
        return rough if relation == "add_or_remove_one" else math.inf
    segments = _segments(uses)
    interval = _interval(segments, rough)
    composed = _distribution(segments[0], interval, relation)
    for segment in segments[1:]:
        composed = composed.compose(_distribution(segment, interval, relation))
    return float(composed.get_epsilon_for_delta(delta))


def _segments(uses: _Uses) -> _Uses:
    """The same mechanisms with everything that is not sampled as one Gaussian: exact, and fast."""
    sampled = tuple(use for use in uses if use[1] < 1)
    precision = sum(steps / noise**2 for noise, rate, steps in uses if rate == 1)
    return (*sampled, (precision**-0.5, 1.0, 1)) if precision else sampled


def _interval(segments: _Uses, rough: float) -> float:
    """A grid fine enough against the spread of one step's loss, so that rounding adds nothing.

    Rounding adds about a quarter of the squared interval to the variance of every step's loss.
    """
    steps = sum(count for _, _, count in segments)
    # The chi-square divergence of one step; far beyond 1 it is no matter how far.
    variance = sum(
        count * rate**2 * math.expm1(min(noise**-2, 10.0)) for noise, rate, count in segments
    )
    finest = 0.1 * math.sqrt(variance / steps)
    largest = max(_INTERVAL, rough / 20_000)
    # Powers of two, so that distributions that are kept can be used again.
    return float(2.0 ** math.floor(math.log2(max(min(finest, largest), 1e-7))))


# Few: a distribution of thousands of steps has megabytes, and a round asks for its own again.
@lru_cache(maxsize=8)
def _distribution(segment: tuple[float, float, int], interval: float, relation: Relation) -> Any:
    # It takes most of a second to import, and few commands compute an epsilon.
    from dp_accounting.pld import privacy_loss_distribution
    from dp_accounting.privacy_accountant import NeighboringRelation

    noise, rate, steps = segment
    one = privacy_loss_distribution.from_gaussian_mechanism(
        noise,
        value_discretization_interval=interval,
        sampling_prob=rate,
        neighboring_relation=NeighboringRelation[relation.upper()],
    )
    return one if steps == 1 else one.self_compose(steps)


def calibrate_noise(target_epsilon: float, delta: float, sampling_rate: float, steps: int) -> float:
    """The smallest noise multiplier (to 1 %) whose composed epsilon is at most the target.

    Raises SMR-E301 when no multiplier up to 10,000 reaches it.
    """
    return calibrated(MechanismUse(0.0, sampling_rate, steps), target_epsilon, delta)


def calibrated(
    use: MechanismUse, target_epsilon: float, delta: float, others: Sequence[MechanismUse] = ()
) -> float:
    """The smallest noise multiplier (to 1 %) of ``use`` that, composed with ``others``, fits.

    The noise multiplier of ``use`` itself plays no part; a use of no steps needs none. Raises
    SMR-E301 when no multiplier up to 10,000 reaches the target.
    """
    if not use.steps:
        return 0.0

    def composed(noise: float) -> float:
        return epsilon([MechanismUse(noise, use.sampling_rate, use.steps), *others], delta)

    def rough(noise: float) -> float:
        return _renyi_epsilon(((noise, use.sampling_rate, use.steps),), delta)

    high = 0.25 if epsilon(others, delta) <= target_epsilon else math.inf
    # Renyi accounting is loose but a hundred times faster: it gives the bracket.
    while high <= _LARGEST_NOISE and rough(high) > target_epsilon:
        high *= 1.25
    while high <= _LARGEST_NOISE and composed(high) > target_epsilon:
        high *= 1.25
    if high > _LARGEST_NOISE:
        raise SmrfedError(
            "SMR-E301",
            "no noise multiplier reaches the privacy budget",
            expected=f"epsilon <= {target_epsilon} at delta {delta}",
            found=f"{use.steps} steps at sampling rate {use.sampling_rate}, beside epsilon "
            f"{epsilon(others, delta):.4g} of other releases",
            remedy="take fewer steps, a lower sampling rate, or a larger epsilon",
        )
    low = high / 2
    while composed(low) <= target_epsilon:
        high, low = low, low / 2
    while high / low > 1.01:
        middle = math.sqrt(low * high)
        if composed(middle) > target_epsilon:
            low = middle
        else:
            high = middle
    return high


def _renyi_epsilon(uses: _Uses, delta: float) -> float:
    """An upper bound of epsilon by Renyi differential privacy, in milliseconds."""
    import dp_accounting
    from dp_accounting import rdp

    # Integer orders only: the fractional series does not converge at high sampling rates.
    accountant = rdp.RdpAccountant([*range(2, 65), 80, 96, 128, 192, 256, 512])
    for noise, rate, steps in uses:
        event = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise))
        accountant.compose(event, steps)
    return float(accountant.get_epsilon(delta))
