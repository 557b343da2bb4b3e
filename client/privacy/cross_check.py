"""The ledger's epsilon from a second accountant: Opacus's PRV, other people's algorithm."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from shared_model.errors import SmrfedError
from shared_model.privacy.accounting import MechanismUse, epsilon

# PRV's answer is the upper end of an interval this wide on either side, and 1 % of it.
_PRV_ERROR = 0.01


@dataclass(frozen=True)
class CrossCheck:
    """Epsilon by privacy loss distributions, which counts, and by PRV, which must agree."""

    pld: float
    prv: float

    @property
    def agree(self) -> bool:
        """Whether they differ by no more than the two algorithms' stated errors."""
        return abs(self.pld - self.prv) <= 2 * _PRV_ERROR + 0.02 * max(self.pld, self.prv)


def cross_check(uses: Sequence[MechanismUse], delta: float) -> CrossCheck:
    """Both epsilons of one composition (PRV: Gopi et al. 2021), add or remove one.

    Imports Opacus, and so torch. Raises SMR-E352 where they are not installed. Gaussian DP by the
    central limit theorem is not offered: it under-reports (Gopi et al. 2021, figure 1).
    """
    try:
        from opacus.accountants import PRVAccountant
    except ImportError as error:
        raise SmrfedError(
            "SMR-E352",
            "the second accountant is not installed",
            expected="Opacus, of the extra 'train' or 'site'",
            found=error,
            remedy="pip install 'smrfed[site]', or read the ledger without --cross-check",
        ) from None
    merged: dict[tuple[float, float], int] = {}
    for use in uses:
        key = (use.noise_multiplier, use.sampling_rate)
        merged[key] = merged.get(key, 0) + use.steps
    prv = PRVAccountant()
    prv.history = [(*mechanism, steps) for mechanism, steps in sorted(merged.items()) if steps]
    with warnings.catch_warnings():
        # About logarithms of zero and Renyi orders, on the way to a sound answer.
        warnings.simplefilter("ignore")
        second = prv.get_epsilon(delta=delta, eps_error=_PRV_ERROR) if prv.history else 0.0
    return CrossCheck(epsilon(uses, delta), float(second))
