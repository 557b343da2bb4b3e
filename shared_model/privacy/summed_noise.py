"""The noise of one secure sum on the integer grid, and why the Gaussian accountant prices it.

One round releases ``S + Z``: S a vector of integers (clipped gradients times 2^f, each rounded
before the sum), Z discrete Gaussian of variance ``s^2 = (sigma C 2^f)^2 + 16`` on every number.

Guarantee: for everybody who sees the sum, one round is as private as one use of the (Poisson
subsampled) Gaussian mechanism with noise multiplier sigma, for any pair of neighbouring data sets.

Proof. Let X ~ N(0, s^2 - r^2) with r = 4, and round S + X at random: Y = S + X + (noise on the
coset that makes it an integer, discrete Gaussian of parameter r). Then ``P(Y - S = z)`` is the
integral over x of ``N(x; 0, s^2 - r^2) exp(-(z - x)^2 / 2 r^2) / sum_k exp(-(k - x)^2 / 2 r^2)``.
By Poisson summation the denominator is ``r sqrt(2 pi)`` times 1 + eta with
``|eta| <= 2.1 exp(-2 pi^2 r^2) < 10^-136`` whatever x is, and what remains integrates to
``N(z; 0, s^2)``. So Y - S is N_Z(0, s^2) up to a factor 1 +- 10^-136 (Peikert 2010, theorem 3.1):
the released sum is what a function without further knowledge makes of the Gaussian mechanism on S
with standard deviation ``sqrt(s^2 - 16) = sigma C 2^f``. No term of rounding is left in delta.
One patient moves S by at most ``C 2^f`` in L2: the clip is at ``C (1 - 10^-4)``, and rounding to
integers adds at most ``sqrt(d) / 2``, which is less than the margin for d up to 2^24 (the plan is
held to it).

Shares (mode ``distributed``). h honest survivors add N_Z(0, s^2 / h) each. Their sum is
N_Z(0, s^2) up to a factor ``exp(+-10 h exp(-pi^2 s^2 / h))`` (Kairouz, Liu and Steinke 2021, lemma
on sums of discrete Gaussians): with shares of at least 2^10 that is ``1 +- 10^-4000000``. More
survivors than h add independent noise to it, which is post-processing; so is the sum modulo 2^64.

What is left for delta is that of the sampler (2^-100 per draw) and of the two factors:
:func:`grid_delta`, of the order of 10^-19 for the largest plans, is shown beside delta.

Assumptions: at most ``colluding`` of the survivors keep or tell their share; the coordinator opens
one sum a round (:mod:`shared_model.secure_aggregation`). Limit: nothing here holds for a sum of
fewer than ``min_survivors``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from shared_model.aggregation.secure_section import MOST_NUMBERS, SecureAggregationSection
from shared_model.privacy.discrete_gaussian import REACH

if TYPE_CHECKING:
    from shared_model.plan import FederationPlan

#: Variance that the proof takes away, r^2.
_SMOOTHING = 16.0
#: Least standard deviation of one site's share, in units of the grid.
SMALLEST_SHARE = 2.0**10
# A site may hold more patients than it declared; beyond twice as many, the declaration is wrong.
_DECLARED_MARGIN = 2.0
_SAMPLER_ERROR = 2.0**-100


def section_of(plan: FederationPlan) -> SecureAggregationSection:
    """The plan's section; a plan in these modes has one."""
    if plan.secure_aggregation is None or not plan.privacy.summed:
        raise ValueError(f"privacy mode {plan.privacy.mode!r} has no secure sum")
    return plan.secure_aggregation


def sum_variance(plan: FederationPlan) -> float:
    """``s^2`` of every number of the released sum, in units of the grid."""
    scale = 2.0 ** section_of(plan).fraction_bits
    return (plan.privacy.noise_multiplier * plan.privacy.clipping_norm * scale) ** 2 + _SMOOTHING


def share_variance(plan: FederationPlan) -> float:
    """Variance that each site adds in mode ``distributed``; the coordinator's in ``central``."""
    if plan.privacy.mode == "central":
        return sum_variance(plan)
    return sum_variance(plan) / section_of(plan).honest_survivors


def largest_sum(plan: FederationPlan) -> float:
    """What no number of a sum exceeds, noise included, in units of the grid.

    With up to twice the declared patients. Beyond 2^63 a sum would wrap around: a loss of utility,
    not of privacy.
    """
    section, sites = section_of(plan), plan.federation.sites
    declared = sum(site.declared_patients for site in sites)
    counted = len(sites) if plan.privacy.unit == "hospital" else _DECLARED_MARGIN * declared
    shares = 1 if plan.privacy.mode == "central" else len(sites)
    noise = shares * (REACH + 1) * math.sqrt(share_variance(plan))
    return counted * plan.privacy.clipping_norm * 2.0**section.fraction_bits + noise


def grid_delta(plan: FederationPlan, epsilon: float, numbers: int = MOST_NUMBERS) -> float:
    """What sums of ``numbers`` over the whole plan add to its delta because of the integer grid.

    ``(1 + e^epsilon)`` times the total variation distance between what is released and the ideal.
    """
    sites = 1 if plan.privacy.mode == "central" else len(plan.federation.sites)
    draws = float(plan.training.rounds) * sites * numbers
    return draws * _SAMPLER_ERROR * (1 + math.exp(min(epsilon, 700.0)))
