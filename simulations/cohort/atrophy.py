"""How age and disease change each region: prescribed log-Jacobians, and the flow that has them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from simulations.cohort.deformation import Field, potential_flow
from simulations.cohort.spec import EffectSpec
from simulations.cohort.subject import Subject, Visit
from simulations.cohort.template import FIELD_SHAPE, Template

PAIR_A = ("supramarginal", "angular")
PAIR_B = ("frontal_middle", "frontal_superior")
_REFERENCE_AGE = 70.0


def coefficients(names: tuple[str, ...], table: Mapping[str, float]) -> npt.NDArray[np.float64]:
    """``(R,)``: per region the entry whose key is the longest beginning of its name, else 0."""
    ranked = sorted(table, key=len, reverse=True)
    chosen = [next((key for key in ranked if name.startswith(key)), None) for name in names]
    return np.asarray([0.0 if key is None else table[key] for key in chosen])


def affected_regions(names: tuple[str, ...], effect: EffectSpec) -> tuple[str, ...]:
    """The regions whose volume depends on the disease: the truth for interpretability checks."""
    own = [effect.alpha_of(diagnosis) for diagnosis in effect.diagnoses]
    changed = np.any([coefficients(names, alpha) != 0 for alpha in own], axis=0)
    return tuple(name for name, a in zip(names, changed, strict=True) if a)


def log_volume_change(
    subject: Subject, visit: Visit, names: tuple[str, ...]
) -> npt.NDArray[np.float64]:
    """``(R,)`` prescribed log-Jacobian: disease, age and individual variation.

    The individual part is drawn once per patient, so two visits differ by progression and age only.
    Small structures get less than prescribed: what counts is the measured volume.
    """
    effect = subject.spec.effect
    rng = subject.rng("regions")
    side = rng.normal(0, effect.side_sd)
    spread = np.full(len(names), effect.region_sd)
    spread[[i for i, name in enumerate(names) if "ventricle" in name]] = effect.ventricle_region_sd
    individual = rng.normal(0, 1, len(names)) * spread
    sided = np.asarray(
        [
            1 + side if n.endswith("_left") else 1 - side if n.endswith("_right") else 1
            for n in names
        ]
    )
    alpha = coefficients(names, effect.alpha_of(subject.diagnosis))
    change: npt.NDArray[np.float64] = alpha * visit.coarse * sided
    change += coefficients(names, effect.beta) * (visit.age - _REFERENCE_AGE) / 10
    change += individual
    if effect.pair > 0:
        za = float(rng.choice((-1, 1)) * abs(rng.normal(1, 0.3)))
        agree = {"AD": 1.0, "CN": -1.0}.get(subject.diagnosis, float(rng.choice((-1, 1))))
        zb = agree * float(np.sign(za)) * abs(float(rng.normal(1, 0.3)))
        change += effect.pair * za * np.asarray([n.startswith(PAIR_A) for n in names])
        change += effect.pair * zb * np.asarray([n.startswith(PAIR_B) for n in names])
    return change


def atrophy_velocity(template: Template, change: npt.NDArray[np.float64]) -> Field:
    """Stationary velocity ``(3, *FIELD_SHAPE)`` mm whose divergence is the prescribed change.

    What the regions lose, the CSF around takes up (the divergence sums to zero), so that sulci
    widen and the head keeps its size.
    """
    divergence = np.asarray(template.share @ change.astype(np.float32)).reshape(FIELD_SHAPE)
    return potential_flow(divergence - divergence.sum() * template.give)
