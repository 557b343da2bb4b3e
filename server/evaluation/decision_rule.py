"""A decision that favours no class: offsets for the class biases from noised mean predictions.

Models trained under noise rank patients well but lean to one class. With M the summed predicted
probabilities by true class (row) and ``n_y`` the row sums, ``q_c = mean_y M[y, c] / n_y`` is what
class c gets on average *when all classes are equally frequent*; adding ``-log q_c`` to the logits
takes the lean away (Saerens et al. 2002 with uniform target priors). All of it is post-processing
of one noised release.

The noise could do harm, so the offsets shrink with it. To first order, with noise of standard
deviation s on every number of M and ``r = M[y, c] / n_y``,
``var q_c = C^-2 sum_y (s / n_y)^2 ((1 - r)^2 + (C - 1) r^2)``, ``var log q_c = var q_c / q_c^2``.
The positive-part James-Stein factor ``1 - (sum_c var log q_c) / |offsets|^2`` is then applied to
the centred offsets: zero where noise explains them, nearly one where it does not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared_model.errors import SmrfedError
from shared_model.heads import HEAD_BIAS
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import Arrays, decode_arrays, encode_arrays
from shared_model.releases.statistics import PROBABILITIES, classes, noise_multiplier, weight

Floats = npt.NDArray[np.float64]

# A row whose sum is below so many standard deviations of its noise does not show its class; linear
# propagation of the noise needs ratios much better than that.
_VISIBLE = 4.0
# Mean predictions are not believed below two standard deviations of their noise, nor below this.
_SMALLEST = 0.01
_BELIEVED = 2.0


@dataclass(frozen=True)
class Offsets:
    """What is added to the class biases, ``(C,)`` float64 of mean zero, and why it is not more.

    Attributes:
        mean_prediction: ``(C,)`` class-balanced mean prediction q; none where noise hides a class.
        shrinkage: factor in [0, 1] by which the noise shortened the offsets.
    """

    values: tuple[float, ...]
    mean_prediction: tuple[float, ...] | None
    shrinkage: float


def prior_free_offsets(matrix: Floats, noise_sd: float) -> Offsets:
    """Offsets from the aggregated matrix ``(C, C)`` with noise of ``noise_sd`` on every number.

    Zero when one class cannot be told from noise, or when nobody released anything.
    """
    c = len(matrix)
    rows = matrix.sum(axis=1, keepdims=True)
    if not (rows > patients_needed(c, noise_sd)).all():
        return Offsets((0.0,) * c, None, 0.0)
    ratio = np.clip(matrix / rows, 0.0, 1.0)
    spread = (noise_sd / rows) ** 2 * ((1 - ratio) ** 2 + (c - 1) * ratio**2)
    variance = spread.sum(axis=0) / c**2
    mean = np.maximum(ratio.mean(axis=0), np.maximum(_BELIEVED * np.sqrt(variance), _SMALLEST))
    mean /= mean.sum()
    offsets = -np.log(mean)
    offsets -= offsets.mean()
    signal, noise = float(offsets @ offsets), float((variance / mean**2).sum())
    shrinkage = max(0.0, 1.0 - noise / signal) if signal > 0 else 0.0
    return Offsets(tuple((shrinkage * offsets).tolist()), tuple(mean.tolist()), shrinkage)


def aggregated_offsets(releases: Mapping[str, Arrays], plan: FederationPlan) -> Offsets:
    """Offsets from the calibration arrays of every site that released any, by site name."""
    c = classes(plan)
    scale = weight(PROBABILITIES, c, unseen_sites=plan.calibration.unseen_sites)
    total = np.zeros((c, c))
    for _, named in sorted(releases.items()):
        total += named[PROBABILITIES].astype(np.float64) / scale
    # The noises of the sites add up as well.
    noise = noise_multiplier(plan, "calibrate") * math.sqrt(len(releases)) / scale
    return prior_free_offsets(total, noise)


def patients_needed(classes: int, noise_sd: float) -> float:
    """Training patients of each class, over all sites, below which nothing is corrected."""
    return max(_VISIBLE * noise_sd * math.sqrt(classes), 0.5)


def require_head(plan: FederationPlan, shared: Arrays) -> str:
    """Name of the class biases among the shared parameters; raises SMR-E570 if they are not."""
    name = HEAD_BIAS.get(plan.model.name)
    shape = (len(plan.task.labels),)
    if name is None or name not in shared or shared[name].shape != shape:
        raise SmrfedError(
            "SMR-E570",
            "the plan's decision rule has no class biases to correct",
            expected=f"a shared parameter {name or 'that shared_model/heads.py names'} of "
            f"shape {shape}",
            found=f"model {plan.model.name!r}, {len(shared)} shared parameters",
            remedy="let [groups] share the biases of the classification head, or use "
            "calibration.rule = 'argmax'",
        )
    return name


def with_offsets(body: bytes, offsets: tuple[float, ...], plan: FederationPlan) -> bytes:
    """The shared parameters with the offsets added to the class biases; raises SMR-E570.

    From then on the most probable class is the decision, for whoever uses the model.
    """
    arrays = decode_arrays(body)
    name = require_head(plan, arrays)
    arrays[name] = (arrays[name].astype(np.float64) + np.array(offsets)).astype(np.float32)
    return encode_arrays(arrays)
