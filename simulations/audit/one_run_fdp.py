"""The one-run test against a whole privacy profile (Mahloujifar, Melis, Chaudhuri 2024)."""

from __future__ import annotations

from collections.abc import Sequence

from simulations.audit.one_run import SHARES, Bits, Floats, Guesses, guess
from simulations.audit.privacy_profile import PrivacyProfile


def refutes(guesses: Guesses, profile: PrivacyProfile, error: float) -> bool:
    """Whether these guesses are too good, at ``error``, for a mechanism within the profile.

    Algorithm 3 of the paper ("audit with cap") for two outcomes per canary: with probability mass
    ``right`` of a correct guess goes a mass of wrong guesses of at least
    ``profile.fewest_wrong(right)``; carried down from the observed count, the masses must fit into
    the ``made`` guesses. Holds for any mechanism, any dependence between the canaries and any way
    of guessing; the shape of the profile makes it sharper than one point ``(epsilon, delta)``.
    """
    m, made, right = guesses.canaries, guesses.made, guesses.right
    mass_right = error * right / m
    mass_wrong = error * (made - right) / m
    for count in range(right - 1, -1, -1):
        wrong = max(mass_wrong, profile.fewest_wrong(mass_right))
        if wrong == mass_wrong:
            break
        mass_right = min(1.0, mass_right + count / (made - count) * (wrong - mass_wrong))
        mass_wrong = wrong
    return mass_right + mass_wrong > made / m


def any_share_refutes(
    scores: Floats,
    included: Bits,
    profile: PrivacyProfile,
    error: float,
    shares: Sequence[float] = SHARES,
) -> bool:
    """Whether the guesses at any share refute the profile; ``error`` is for all of them."""
    return any(
        refutes(guess(scores, included, share), profile, error / len(shares)) for share in shares
    )
