"""Accounting of the Poisson-subsampled Gaussian mechanism, the same for site and coordinator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from shared_model.errors import SmrfedError

# Pessimistic discretisation: epsilon is never below the truth; 1e-4 agrees with PRV to 0.01.
_DISCRETISATION = 1e-4


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


def epsilon(uses: Sequence[MechanismUse], delta: float) -> float:
    """Epsilon of the composition at ``delta``, by privacy loss distributions (Koskela 2020).

    Equal mechanisms are merged first, so that the ledger of a long campaign stays fast. Returns
    ``inf`` when any use adds no noise.
    """
    merged: dict[tuple[float, float], int] = {}
    for use in uses:
        if use.steps:
            key = (use.noise_multiplier, use.sampling_rate)
            merged[key] = merged.get(key, 0) + use.steps
    return _epsilon(tuple(sorted((*key, steps) for key, steps in merged.items())), delta)


@lru_cache(maxsize=256)
def _epsilon(uses: tuple[tuple[float, float, int], ...], delta: float) -> float:
    if not uses:
        return 0.0
    if any(noise <= 0 for noise, _, _ in uses):
        return math.inf
    # It takes most of a second to import, and few commands compute an epsilon.
    import dp_accounting
    from dp_accounting import pld

    accountant = pld.PLDAccountant(value_discretization_interval=_DISCRETISATION)
    for noise, rate, steps in uses:
        gaussian = dp_accounting.GaussianDpEvent(noise)
        event = gaussian if rate == 1 else dp_accounting.PoissonSampledDpEvent(rate, gaussian)
        accountant.compose(event, steps)
    return float(accountant.get_epsilon(delta))


def calibrate_noise(target_epsilon: float, delta: float, sampling_rate: float, steps: int) -> float:
    """The smallest noise multiplier (to 1 %) whose composed epsilon is at most the target.

    Raises SMR-E301 when no multiplier up to 10,000 reaches it.
    """
    # Renyi accounting is loose but a hundred times faster: it gives the bracket.
    high = 0.25
    while _renyi_epsilon(high, sampling_rate, steps, delta) > target_epsilon:
        high *= 1.25
        if high > 10_000:
            raise SmrfedError(
                "SMR-E301",
                "no noise multiplier reaches the privacy budget",
                expected=f"epsilon <= {target_epsilon} at delta {delta}",
                found=f"{steps} steps at sampling rate {sampling_rate}",
                remedy="take fewer steps, a lower sampling rate, or a larger epsilon",
            )
    low = high / 2
    while high / low > 1.01:
        middle = math.sqrt(low * high)
        if epsilon([MechanismUse(middle, sampling_rate, steps)], delta) > target_epsilon:
            low = middle
        else:
            high = middle
    return high


def _renyi_epsilon(noise: float, rate: float, steps: int, delta: float) -> float:
    import dp_accounting
    from dp_accounting import rdp

    # Integer orders only: the fractional series does not converge at high sampling rates.
    orders = [*range(2, 65), 80, 96, 128, 192, 256, 512]
    accountant = rdp.RdpAccountant(orders)
    event = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise))
    accountant.compose(event, steps)
    return float(accountant.get_epsilon(delta))
