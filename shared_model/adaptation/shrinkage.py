"""How much of a released offset to believe: noise and small numbers make offsets of their own."""

from __future__ import annotations

import numpy as np

from shared_model.adaptation.moments import Floats, SiteMoments


def offset_variances(moments: SiteMoments) -> Floats:
    """``(D,)`` variance of :meth:`SiteMoments.offset_from`: sampling of patients, and the noise."""
    total = max(float(moments.counts.sum()), 1.0)
    weights = moments.counts / total
    noise = float((weights**2 * moments.means_sd**2).sum())
    variances: Floats = moments.variances / total + noise
    return variances


def log_spread_variances(moments: SiteMoments, common: Floats) -> Floats:
    """``(D,)`` variance of the log of a site's variances: sampling of normal scores, and the noise.

    ``common`` ``(D,)`` are the variances of all sites together: those of one site may be noise.
    """
    total = max(float(moments.counts.sum()), 1.0)
    free = max(total - len(moments.counts), 1.0)
    # A released variance is a mean square less squared means: the noise of both is in it.
    weights = (moments.counts / total * moments.means_sd)[:, None]
    noise = moments.variances_sd**2 + ((2 * weights * moments.means) ** 2).sum(0)
    variances: Floats = 2 / free + noise / common**2
    return variances


def shrunk(offset: Floats, variances: Floats) -> Floats:
    """``(D,)`` offset, known as well as its ``(D,)`` variances say, shrunk towards none.

    Positive-part James-Stein with the known variances: without a shift next to nothing remains, so
    that alignment does no harm; a large shift is taken as it is.
    """
    strength = float((offset**2 / variances).sum())
    dimensions = len(offset)
    kept = max(0.0, 1 - max(dimensions - 2, 0) / max(strength, 1e-12))
    return np.asarray(kept * offset)
