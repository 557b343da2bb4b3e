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


def shrunk(offset: Floats, moments: SiteMoments) -> Floats:
    """``(D,)`` offset of the site, known as well as its moments are, shrunk towards none.

    Positive-part James-Stein with the known variances: without a shift next to nothing remains, so
    that alignment does no harm; a large shift is taken as it is.
    """
    variances = offset_variances(moments)
    strength = float((offset**2 / variances).sum())
    dimensions = len(offset)
    kept = max(0.0, 1 - max(dimensions - 2, 0) / max(strength, 1e-12))
    return np.asarray(kept * offset)
