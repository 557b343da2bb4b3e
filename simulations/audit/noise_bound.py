"""From a test of privacy profiles to a lower bound on epsilon."""

from __future__ import annotations

from collections.abc import Callable

from simulations.audit.claim import Claim
from simulations.audit.privacy_profile import PrivacyProfile

# The profiles that are tried have the claim's sampling and steps and other noise, in steps of 5 %
# down to a third and up to sixty times the claimed noise.
_FACTOR, _LEAST, _MOST = 1.05, -22, 84


def epsilon_lower_bound(claim: Claim, refutes: Callable[[PrivacyProfile], bool]) -> float:
    """The largest epsilon among the refuted mechanisms, 0 when none is.

    Says: what was attacked is not this mechanism with so much noise, nor anything as private. It is
    a bound on epsilon at delta for the family of the claim (same sampling rate and steps); another
    mechanism with the same epsilon at delta and another profile is not excluded. Where the claimed
    noise itself is refuted, the bound is above the claim.
    """
    low, high = _LEAST, _MOST
    if not refutes(claim.with_noise(_FACTOR**high).profile):
        return 0.0
    while high - low > 1:
        middle = (low + high) // 2
        if refutes(claim.with_noise(_FACTOR**middle).profile):
            high = middle
        else:
            low = middle
    return claim.with_noise(_FACTOR**high).epsilon
