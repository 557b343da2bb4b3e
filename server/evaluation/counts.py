"""What sites released about their test patients, in patients, with the noise it carries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from server.rounds.checks import expected_arrays
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import Arrays
from shared_model.releases.statistics import (
    CONFUSION,
    SCORES,
    Statistics,
    classes,
    noise_multiplier,
    norm_bound,
    shapes,
    weight,
)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class NoisedCounts:
    """Counts of test patients of one site or several, each number with independent normal noise.

    Attributes:
        confusion: ``(C, C)`` patients, rows the true class, columns the most probable one.
        scores: ``(C, 2, B)`` patients by class that the score is for, whether they have it (1) or
            not (0), and node.
        confusion_sd, scores_sd: standard deviation of the noise on every number; public.
    """

    confusion: Floats
    scores: Floats
    confusion_sd: float
    scores_sd: float

    @classmethod
    def of(cls, arrays: Mapping[str, npt.ArrayLike], plan: FederationPlan) -> NoisedCounts:
        """The release of one site, scaled back from the patient's bounded vector to patients.

        The arrays may be flat; their shapes are the plan's.
        """
        c, noise = classes(plan), noise_multiplier(plan, "evaluate")
        shape = shapes(plan, "evaluate")
        return cls(
            np.asarray(arrays[CONFUSION], np.float64).reshape(shape[CONFUSION])
            / weight(CONFUSION, c),
            np.asarray(arrays[SCORES], np.float64).reshape(shape[SCORES]) / weight(SCORES, c),
            noise / weight(CONFUSION, c),
            noise / weight(SCORES, c),
        )


def pooled(sites: Sequence[NoisedCounts]) -> NoisedCounts:
    """The sum over sites, whose noises add up as well; raises ValueError without sites."""
    if not sites:
        raise ValueError("no site released counts")
    return NoisedCounts(
        sum((site.confusion for site in sites[1:]), sites[0].confusion),
        sum((site.scores for site in sites[1:]), sites[0].scores),
        math.hypot(*(site.confusion_sd for site in sites)),
        math.hypot(*(site.scores_sd for site in sites)),
    )


def check_statistics(body: bytes, kind: Statistics, site: str, plan: FederationPlan) -> Arrays:
    """The arrays of a release: exactly the plan's, finite, within the public bound on their norm.

    Raises SMR-E115 (cannot be decoded, or not float32), SMR-E515 (names), SMR-E516 (shapes, or more
    bytes than they take) and SMR-E571 (not finite, or more patients than the site can have).
    """
    arrays = expected_arrays(body, shapes(plan, kind))
    squares = sum(float(np.square(value, dtype=np.float64).sum()) for value in arrays.values())
    bound = norm_bound(plan, site, kind)
    if not math.sqrt(squares) <= bound:
        raise SmrfedError(
            "SMR-E571",
            f"the '{kind}' release of {site!r} cannot be sums over its patients",
            expected=f"finite numbers of L2 norm up to {bound:.4g}",
            found=f"norm {math.sqrt(squares):.4g}",
            remedy="compare the site's declared_patients with its archive; otherwise treat the "
            "release as wrong and look at the site's smrfed version",
        )
    return arrays
