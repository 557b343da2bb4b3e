"""Layer C: a hospital that took no part, without labels; offset and prevalence by EM (science 3.4).

Scores z of a patient (see :mod:`shared_model.adaptation.scores`) are taken to be
``N(m_c + b, S)`` for class c, with m_c and S released by the federation, and the site's own offset
b and prevalence pi. Both are found together, by expectation-maximisation of

    sum_i log sum_c pi_c N(z_i; m_c + b, S) - n0/2 b' S^-1 b + sum_c alpha_c log pi_c

that is: maximum a posteriori with ``b ~ N(0, S / n0)`` and ``pi ~ Dirichlet(1 + alpha)``. The prior
counts as ``n0`` scans that show no offset, and ``sum alpha`` that show the training prevalence: few
scans move little. Recentring, which explains everything by the offset, takes a hospital with few
sick patients for one with a bad scanner: an option for a hospital that *knows* its prevalence.

Everything here is local to the site; nothing of it leaves. Deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

from shared_model.adaptation.source import SourceMoments
from shared_model.errors import SmrfedError

Floats = npt.NDArray[np.float64]
Method = Literal["em", "recentre", "prevalence"]

#: Below so many scans nothing is estimated (science.md 3.4).
FEWEST_SCANS = 8
#: An offset is believed where scans without one would look like this, or more so, this rarely.
OFFSET_LEVEL = 0.001


@dataclass(frozen=True)
class Shrinkage:
    """How much evidence it takes to move from the source.

    Attributes:
        offset_scans: n0, scans without an offset that the prior of the offset counts as.
        prevalence_patients: patients with the training prevalence that its prior counts as.
    """

    offset_scans: float = 20.0
    prevalence_patients: float = 30.0


@dataclass(frozen=True)
class SiteEstimate:
    """What N scans without labels say about a site.

    Attributes:
        offset: ``(D,)`` b, in the units of the scores.
        prevalence: ``(C,)`` pi.
        objective: the maximised quantity after each iteration; never falls.
        scans: N.
    """

    offset: Floats
    prevalence: Floats
    objective: tuple[float, ...]
    scans: int


def estimate_site(
    scores: Floats,
    source: SourceMoments,
    method: Method = "em",
    shrinkage: Shrinkage | None = None,
    *,
    iterations: int = 5000,
    tolerance: float = 1e-7,
) -> SiteEstimate:
    """Offset and prevalence of a site from ``(N, D)`` scores, one row per patient.

    Args:
        scores: finite, in any order.
        source: what the federation released.
        method: ``em``; ``recentre`` holds the prevalence at that of training: only for a site that
            declares it; ``prevalence`` holds the offset at zero.
        shrinkage: default: 20 scans, 30 patients.
        iterations: at most.
        tolerance: largest change of offset (in standard deviations) and shares at the end.

    Raises SMR-E641 for fewer than 8 rows or scores that are not finite.
    """
    scores = np.asarray(scores, dtype=np.float64)
    _check(scores, source)
    prior = shrinkage or Shrinkage()
    alpha = prior.prevalence_patients * source.prevalence
    # Whitened, so that the pooled variance is one in every direction; EM does not see the change.
    whiten = source.whitening
    z, means = scores @ whiten, source.means @ whiten
    offset, prevalence = np.zeros(z.shape[1]), source.prevalence.copy()
    trace: list[float] = []
    volume = len(z) * float(np.linalg.slogdet(whiten)[1])
    for _ in range(iterations):
        share, evidence = _responsibilities(z, means + offset, prevalence)
        value = evidence - 0.5 * prior.offset_scans * float(offset @ offset)
        trace.append(value + volume + float(alpha @ np.log(prevalence)))
        held = (offset, prevalence)
        if method != "prevalence":
            offset = (z.sum(0) - share.sum(0) @ means) / (len(z) + prior.offset_scans)
        if method != "recentre":
            prevalence = (share.sum(0) + alpha) / (len(z) + alpha.sum())
        # The parameters, not the objective: that is flat long before they stand still.
        if max(np.abs(offset - held[0]).max(), np.abs(prevalence - held[1]).max()) <= tolerance:
            break
    return SiteEstimate(offset @ np.linalg.inv(whiten), prevalence, tuple(trace), len(z))


@dataclass(frozen=True)
class Evidence:
    """Whether scans show an offset, beside another prevalence.

    Attributes:
        estimate: with the offset, or without where it is not shown.
        gain: twice what the offset adds to the maximised quantity.
        needed: the gain from which on it is believed: a quantile of chi-square with D degrees.
    """

    estimate: SiteEstimate
    gain: float
    needed: float


def shown_offset(
    scores: Floats,
    source: SourceMoments,
    shrinkage: Shrinkage | None = None,
    level: float = OFFSET_LEVEL,
) -> Evidence:
    """EM, but an offset that the scans do not show is taken for none; raises SMR-E641.

    A likelihood ratio test against the prevalence alone. At a site without shift, or one where the
    disease is rare, correcting what chance shows does harm (docs/unseen_hospital.md).
    """
    free = estimate_site(scores, source, "em", shrinkage)
    alone = estimate_site(scores, source, "prevalence", shrinkage)
    gain = 2 * (free.objective[-1] - alone.objective[-1])
    needed = float(chi2.isf(level, source.means.shape[1]))
    return Evidence(free if gain >= needed else alone, gain, needed)


def nearest_class(scores: Floats, source: SourceMoments, offset: Floats | None = None) -> Floats:
    """``(N,)`` Mahalanobis distance to the nearest class mean, moved by the offset."""
    shift = np.zeros(scores.shape[1]) if offset is None else offset
    z = (np.asarray(scores, dtype=np.float64) - shift) @ source.whitening
    apart = z[:, None] - source.means @ source.whitening
    distances: Floats = np.sqrt((apart**2).sum(-1)).min(1)
    return distances


def _responsibilities(z: Floats, means: Floats, prevalence: Floats) -> tuple[Floats, float]:
    """``(N, C)`` posterior of the classes in whitened scores, and the log likelihood."""
    apart = z[:, None] - means
    with np.errstate(divide="ignore"):  # a class that nobody has
        log = np.log(prevalence) - 0.5 * (apart**2).sum(-1)
    top = log.max(1, keepdims=True)
    weight = np.exp(log - top)
    total = weight.sum(1, keepdims=True)
    constant = -0.5 * z.shape[1] * np.log(2 * np.pi)
    return weight / total, float((top + np.log(total)).sum() + len(z) * constant)


def _check(scores: Floats, source: SourceMoments) -> None:
    expected = f"at least {FEWEST_SCANS} patients with {source.means.shape[1]} finite scores each"
    fits = scores.ndim == 2 and scores.shape[1] == source.means.shape[1]
    if not fits or len(scores) < FEWEST_SCANS or not np.isfinite(scores).all():
        raise SmrfedError(
            "SMR-E641",
            "too few scans, or scores that are not finite, to adapt a model to this site",
            expected=expected,
            found=f"{len(scores)} rows, {int(np.isfinite(scores).all(-1).sum())} of them finite",
            remedy="use the model as it was released until there are more scans",
        )
