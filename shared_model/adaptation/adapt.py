"""Layer C as a whole: from a model's probabilities at an unseen hospital to adapted ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from shared_model.adaptation.scores import Floats, scores, with_prevalence, without_offset
from shared_model.adaptation.source import SourceMoments
from shared_model.adaptation.unseen_site import (
    OFFSET_LEVEL,
    Method,
    Shrinkage,
    SiteEstimate,
    estimate_site,
    nearest_class,
    shown_offset,
)
from shared_model.errors import SmrfedError

#: One in a thousand scans of the source sites lies further from its nearest class.
_BEYOND = 1e-3


@dataclass(frozen=True)
class Adaptation:
    """What is known of a site, and whether its scans are like those that the model learnt from.

    Attributes:
        estimate: offset and prevalence.
        method: how they were found.
        offset_sd: length of the offset in standard deviations of the source's scores; zero where
            the scans do not show one.
        evidence: twice the gain in the objective by an offset, beside the prevalence.
        needed: the evidence from which on an offset is believed.
        distances: ``(N,)`` of the scans that were adapted on, before any correction.
        tau: the distance that one in a thousand source scans exceeds.
    """

    estimate: SiteEstimate
    method: Method
    offset_sd: float
    evidence: float
    needed: float
    distances: Floats
    tau: float

    def decisions(self, p: Floats) -> Floats:
        """``(N, C)`` without the offset: their largest one is the decision.

        The rule of the released model on corrected scores; how frequent the classes are at the
        site does not move it.
        """
        return without_offset(p, self.estimate.offset)

    def probabilities(self, p: Floats, source: SourceMoments) -> Floats:
        """``(N, C)`` what to believe at this site: without the offset, and with its prevalence."""
        return with_prevalence(self.decisions(p), self.estimate.prevalence, source.prevalence)


def adapt(
    p: Floats,
    deviation: Floats | None,
    source: SourceMoments,
    radius: float,
    method: Method = "em",
    shrinkage: Shrinkage | None = None,
    level: float = OFFSET_LEVEL,
) -> Adaptation:
    """Adapt to a site from probabilities ``(N, C)`` and deviations ``(N,)`` of unlabelled scans.

    One row per patient, by the model as released. With ``em``, an offset that the scans do not show
    at ``level`` (likelihood ratio against the prevalence alone) is taken for none: at a site
    without shift, correcting by chance does harm. Raises SMR-E641 (fewer than 8, or not finite) and
    SMR-E646 where the scans as a whole are none that the source sites could have had: half of them
    or more lie beyond ``tau``, measured from the nearest class of the source. The limit follows
    from the released covariance; it takes the scores of a class to be normal.
    """
    sizes = np.zeros(len(p)) if deviation is None else deviation
    z = scores(p, sizes, radius)
    shown = shown_offset(z, source, shrinkage, level)
    found = shown.estimate
    if method != "em":
        found = estimate_site(z, source, method, shrinkage)
    distances = nearest_class(z, source)
    tau = float(np.sqrt(chi2.isf(_BEYOND, z.shape[1])))
    if float(np.median(distances)) > tau:
        raise SmrfedError(
            "SMR-E646",
            "the scans of this site are unlike everything that the model learnt from",
            expected=f"a median distance of at most {tau:.2f} standard deviations",
            found=f"{float(np.median(distances)):.2f}; {int((distances > tau).sum())} of "
            f"{len(distances)} scans beyond",
            remedy="look at some scans: T1-weighted, brain-extracted or native as the plan says, "
            "aligned to MNI152? If they are right, this model is not for this site",
        )
    size = float(np.linalg.norm(found.offset @ source.whitening))
    return Adaptation(found, method, size, shown.gain, shown.needed, distances, tau)
