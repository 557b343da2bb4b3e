"""One patient against a crowd, trained many times over: independent draws, so exact counts."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from client.training.rounds import train_round
from client.training.site_model import SiteModel
from shared_model.plan import FederationPlan
from simulations.audit.canary_model import (
    MODELS,
    Way,
    canary_patients,
    orthonormal_directions,
    poisoned_patient,
)
from simulations.audit.clopper_pearson import epsilon_from_rates, lower_bound, upper_bound
from simulations.audit.gradient_game import SITE, unscaled
from simulations.audit.one_run import Floats
from simulations.audit.privacy_profile import PrivacyProfile

#: What the attacker looks at: how far the update points the patient's way, and how long the rest
#: of it is (noise that is divided by who came, not by the plan's number, tells how many came).
Look = Literal["direction", "length"]
LOOKS: tuple[Look, Look] = ("direction", "length")
_NOT_A_NUMBER = 1e30


@dataclass(frozen=True)
class RepeatedGame:
    """Sizes.

    Attributes:
        draws: trainings with the patient, and as many without.
        crowd: others, whose gradients all point away from the patient's: the worst crowd for an
            engine that divides by the number of patients who came.
        scans: of the patient.
        poison: whether the patient's gradient is not finite, instead of pointing anywhere.
        dimensions: of the parameter that all of them push.
    """

    draws: int
    crowd: int = 8
    scans: int = 1
    poison: bool = False
    way: Way = "mapped"
    dimensions: int = 1024
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Drawn:
    """``(draws,)`` values of every look, without and with the patient."""

    outside: dict[Look, Floats]
    inside: dict[Look, Floats]


@dataclass(frozen=True)
class Counted:
    """Rates of one look at a threshold that other draws chose, with exact one-sided bounds.

    ``error`` is the probability that either bound fails.
    """

    look: Look
    trials: int
    true_positives: int
    false_positives: int
    error: float

    @property
    def tpr_at_least(self) -> float:
        """Clopper-Pearson lower bound of the true-positive rate."""
        return lower_bound(self.true_positives, self.trials, self.error / 2)

    @property
    def fpr_at_most(self) -> float:
        """Clopper-Pearson upper bound of the false-positive rate."""
        return upper_bound(self.false_positives, self.trials, self.error / 2)

    def epsilon_lower_bound(self, delta: float) -> float:
        """For any ``(epsilon, delta)``-DP mechanism."""
        return epsilon_from_rates(self.tpr_at_least, self.fpr_at_most, delta)

    def refutes(self, profile: PrivacyProfile) -> bool:
        """Whether the profile allows no such rates."""
        return self.tpr_at_least > profile.most_members(self.fpr_at_most)


def draw(
    plan: FederationPlan, game: RepeatedGame, progress: Callable[[int], None] | None = None
) -> Drawn:
    """Train one round from the same parameters, again and again, without and with the patient."""
    if plan.training.rounds != 1:
        raise ValueError("a repeated draw is one round")
    tokens = game.way != "loop"
    away = orthonormal_directions(1, game.dimensions, game.seed)
    directions = torch.cat([away, -away])
    site_model = SiteModel(MODELS[game.way](directions, plan.privacy.clipping_norm), plan)
    crowd = canary_patients([1] * game.crowd, 1, tokens)
    patient = (
        [poisoned_patient(tokens)] if game.poison else canary_patients([2], game.scans, tokens)
    )
    start = site_model.shared_arrays()
    found: list[dict[Look, list[float]]] = [{look: [] for look in LOOKS} for _ in range(2)]
    for number in range(2 * game.draws):
        site_model.load_shared(start)
        inside = number % 2
        examples = crowd + patient if inside else crowd
        with _quiet(game.poison):
            update = train_round(site_model, examples, plan, SITE, 1, "audit").delta["canary"]
        released = unscaled(update, plan)
        along = float(directions[1] @ released)
        length = float((released - along * directions[1]).norm())
        for look, value in zip(LOOKS, (along, length), strict=True):
            # An update that is not a number tells the attacker as much as any other.
            found[inside][look].append(value if math.isfinite(value) else _NOT_A_NUMBER)
        if progress is not None:
            progress(number + 1)
    outside, within = ({look: np.asarray(v[look]) for look in LOOKS} for v in found)
    return Drawn(outside, within)


@contextmanager
def _quiet(wanted: bool) -> Iterator[None]:
    """Keep the engine's warning about the poison, which is right, off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING if wanted else before)
    try:
        yield
    finally:
        logging.disable(before)


def count(drawn: Drawn, look: Look, error: float, calibration: float = 0.25) -> Counted:
    """Choose threshold and side on the first draws, count on the others."""
    outside, inside = drawn.outside[look], drawn.inside[look]
    first = round(len(inside) * calibration)
    sign, threshold = _best_threshold(outside[:first], inside[:first])
    return Counted(
        look,
        len(inside) - first,
        int((sign * inside[first:] > threshold).sum()),
        int((sign * outside[first:] > threshold).sum()),
        error,
    )


def _best_threshold(outside: Floats, inside: Floats) -> tuple[float, float]:
    """Side and threshold with the largest difference of the two rates, midway between values."""
    best, chosen = -1.0, (1.0, 0.0)
    for sign in (1.0, -1.0):
        values = np.unique(sign * np.concatenate([outside, inside]))
        for threshold in (values[1:] + values[:-1]) / 2:
            gain = float((sign * inside > threshold).mean() - (sign * outside > threshold).mean())
            if gain > best:
                best, chosen = gain, (sign, float(threshold))
    return chosen
