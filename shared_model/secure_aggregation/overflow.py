"""How likely a sum of clipped, noised integers leaves int64, where it would wrap unseen."""

from __future__ import annotations

import math

_LIMIT = 2.0**63


def log10_wrap_probability(
    *,
    patients: int,
    clipping_norm: float,
    fraction_bits: int,
    noise_std: float,
    numbers: int,
    rounds: int,
) -> float:
    """Bound of log10 of the probability that any number of any round's sum wraps; 0: no bound.

    A coordinate of a patient's clipped gradient is at most C in size, so rounded to
    ``2**-fraction_bits`` at most ``C 2**f + 1``; the sum of n patients at most n times that. What
    is left to 2**63 is the noise's: a sum of independent discrete Gaussians of total variance s^2
    is sub-Gaussian with that variance (Canonne, Kamath, Steinke 2020), so for d numbers, T rounds:

        P(wrap) <= 2 T d exp(-(2**63 - n (C 2**f + 1))**2 / (2 s**2)).

    Args:
        patients: n, the most that one round's sum may hold, over all sites.
        clipping_norm: C.
        fraction_bits: f.
        noise_std: s, of the whole sum in integer units: with K sites that each add variance
            ``sigma**2 C**2 4**f / h`` it is ``sqrt(K / h) sigma C 2**f``.
        numbers: d, of the vector.
        rounds: T.
    """
    room = _LIMIT - patients * (clipping_norm * 2.0**fraction_bits + 1)
    if room <= 0:
        return 0.0
    if noise_std == 0:
        return -math.inf
    if not (noise_std > 0 and math.isfinite(noise_std)):
        raise ValueError(f"noise of standard deviation {noise_std}")
    log = math.log(2 * rounds * numbers) - (room / noise_std) ** 2 / 2
    return min(0.0, log / math.log(10))
