"""A clipping norm that follows a private quantile of the patients' gradient norms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from shared_model.plan import PrivacySection

# Noise alone cannot drive the norm to zero, however many draws are empty.
_SMALLEST = 1e-3


@dataclass(frozen=True)
class AdaptiveClip:
    """Adaptive clipping (Andrew et al. 2021, arXiv:1905.03871), on patients instead of devices.

    Beside the sum of gradients clipped to the norm C in use, every step asks how many of the drawn
    patients were within C: ``sum_i (b_i - 1/2)``, where b_i is 1 when patient i's gradient was not
    clipped. One patient more or less moves the sum by at most C and the count by exactly 1/2.

    Guarantee: with ``N(0, (z / sqrt(1 - share) * C)^2)`` on the sum and ``N(0, (z / (2
    sqrt(share)))^2)`` on the count, the pair is one Gaussian mechanism of noise multiplier z, under
    add-or-remove-one-patient: ``(1 - share) / z^2 + share / z^2 = 1 / z^2``. The next norm is a
    function of the noised count and public values, so it may steer later steps.
    Limit: the count is divided by the public expected draw; with fewer patients than declared, and
    a quantile other than 1/2, the norm settles at another quantile. No guarantee depends on it.
    The gradient of a patient must not depend on who else is drawn: bit-identical on CPU (tested);
    on a GPU another batch may round a norm that equals C to the other side, which was not measured.

    Attributes:
        bound: public; the norm starts here and never exceeds it.
        quantile: share of the drawn patients who should be within the norm.
        learning_rate: of the geometric update.
        share: of the privacy of a step, as 1/z^2, that the count takes.
    """

    bound: float
    quantile: float
    learning_rate: float
    share: float

    @classmethod
    def of(cls, privacy: PrivacySection) -> Self | None:
        """The rule of a plan, or None where its clipping norm is fixed."""
        if privacy.clipping == "fixed":
            return None
        return cls(
            privacy.clipping_norm,
            privacy.clip_quantile,
            privacy.clip_learning_rate,
            privacy.clip_share,
        )

    def sum_multiplier(self, noise_multiplier: float) -> float:
        """Standard deviation of the noise on the sum, over the norm in use."""
        return noise_multiplier / math.sqrt(1 - self.share)

    def count_noise(self, noise_multiplier: float) -> float:
        """Standard deviation of the noise on the centred count."""
        return noise_multiplier / (2 * math.sqrt(self.share))

    def following(self, norm: float, noised_count: float, denominator: float) -> float:
        """The next norm: ``C exp(-rate (b - quantile))``, at most the bound.

        ``noised_count`` is the noised ``sum_i (b_i - 1/2)``; ``denominator`` the public expected
        number of drawn patients.
        """
        within = min(max(noised_count / denominator + 0.5, 0.0), 1.0)
        following = norm * math.exp(-self.learning_rate * (within - self.quantile))
        return min(max(following, _SMALLEST * self.bound), self.bound)
