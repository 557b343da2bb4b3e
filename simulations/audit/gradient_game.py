"""Gradient canaries in one training run of the real engine, and the scores that betray them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from client.training.rounds import train_round
from client.training.site_model import SiteModel
from shared_model.plan import FederationPlan
from simulations.audit.canary_model import (
    MODELS,
    Way,
    canary_patients,
    ordinary_patients,
    orthonormal_directions,
)
from simulations.audit.one_run import Bits, Floats

SITE = "audited"
Progress = Callable[[int], None]


@dataclass(frozen=True)
class GradientGame:
    """Who takes part beside the plan.

    Attributes:
        canaries: each joins by a fair coin; their directions are at right angles.
        ordinary: patients that are always there.
        scans: of every canary, all with the same gradient.
        way: how the engine computes gradients.
        dimensions: of the parameter that the directions live in.
    """

    canaries: int
    ordinary: int = 8
    scans: int = 1
    way: Way = "loop"
    dimensions: int = 0
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Played:
    """What the attacker saw of ``(m,)`` canaries, and the truth.

    Attributes:
        scores: the log-likelihood ratio of every canary; higher means member.
        cosines: with the sum of all released updates.
        included: the coins.
    """

    scores: Floats
    cosines: Floats
    included: Bits


def canary_plan(
    noise_multiplier: float,
    *,
    rounds: int,
    local_steps: int = 1,
    sampling_rate: float = 1.0,
    declared_patients: int = 50,
    delta: float = 1e-5,
    clipping_norm: float = 1.0,
    adaptive: bool = False,
) -> FederationPlan:
    """A plan of one hospital whose model is the attacker's; everything else is an ordinary plan.

    ``adaptive`` lets the clipping norm follow a private count, with a quantile and a rate at which
    one patient more moves the norm as far as the attacker can make it.
    """
    follows = {"clipping": "adaptive", "clip_quantile": 0.1, "clip_learning_rate": 1.0}
    return FederationPlan.parse(
        {
            "name": "audit with gradient canaries",
            "groups": {"shared": ["*"]},
            "privacy": {
                "mode": "local",
                "noise_multiplier": noise_multiplier,
                "clipping_norm": clipping_norm,
                "delta": delta,
                **(follows if adaptive else {}),
            },
            "training": {
                "rounds": rounds,
                "local_steps": local_steps,
                "sampling_rate": sampling_rate,
                "learning_rate": 0.1,
            },
            "adaptation": {"site_norm": "off", "personalise": "never"},
            "federation": {"sites": [{"name": SITE, "declared_patients": declared_patients}]},
        }
    )


def play(plan: FederationPlan, game: GradientGame, progress: Progress | None = None) -> Played:
    """Flip the coins, train all rounds with the real engine, and score every canary.

    The attacker knows plan, model, directions, every ordinary patient and every released update,
    and not the coins, the sampling and the noise. The guarantee says that this does not help.
    """
    rng = np.random.default_rng([game.seed, 1])
    included = rng.random(game.canaries) < 0.5
    size = max(game.dimensions, game.canaries)
    directions = orthonormal_directions(game.canaries, size, game.seed)
    tokens = game.way != "loop"
    site_model = SiteModel(MODELS[game.way](directions, plan.privacy.clipping_norm), plan)
    if site_model.uses_tokens != tokens:
        raise RuntimeError("the engine took another way than was asked for")
    examples = ordinary_patients(game.ordinary, game.seed, tokens)
    examples += canary_patients((np.flatnonzero(included) + 1).tolist(), game.scans, tokens)
    scores = np.zeros(game.canaries)
    total = torch.zeros(size, dtype=torch.float64)
    for number in range(1, plan.training.rounds + 1):
        before = site_model.shared_arrays()
        update = train_round(site_model, examples, plan, SITE, number, "audit").delta
        site_model.load_shared({name: before[name] + update[name] for name in before})
        released = unscaled(update["canary"], plan)
        scores += log_likelihood_ratio((directions @ released).numpy(), plan)
        total += released
        if progress is not None:
            progress(number)
    cosines = (directions @ total / total.norm().clamp(min=1e-300)).numpy()
    return Played(scores, cosines, included)


def unscaled(
    update: np.ndarray[tuple[int, ...], np.dtype[np.float32]], plan: FederationPlan
) -> torch.Tensor:
    """The noised gradient sum of a round, in clipping norms: what the update was made from."""
    site = plan.federation.sites[0]
    denominator = plan.training.sampling_rate * site.declared_patients
    scale = -denominator / (plan.training.learning_rate * plan.privacy.clipping_norm)
    return scale * torch.from_numpy(update).double()


def log_likelihood_ratio(projections: Floats, plan: FederationPlan) -> Floats:
    """Of a round's projections on the canaries, member against outsider, as the plan describes it.

    Exact for one local step; for several the sum of the steps is taken as one normal.
    """
    steps, rate = plan.training.local_steps, plan.training.sampling_rate
    variance = steps * plan.privacy.noise_multiplier**2
    if steps > 1:
        mean = steps * rate
        return np.asarray((2 * mean * projections - mean * mean) / (2 * variance))
    shifted = (2 * projections - 1) / (2 * variance)
    if rate == 1:
        return np.asarray(shifted)
    return np.asarray(np.logaddexp(math.log1p(-rate), math.log(rate) + shifted))
