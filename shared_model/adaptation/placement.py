"""Where a site puts its embeddings so that they meet the common ones, by released moments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from shared_model.adaptation.moments import Floats, SiteMoments, common_centre, pooled_variances
from shared_model.adaptation.shrinkage import log_spread_variances, offset_variances, shrunk

#: A site's spread is believed to differ by so much at most: more is noise, or another disease.
_MOST_SCALED = 2.0


@dataclass(frozen=True)
class Placement:
    """``scale * z + shift``, both ``(D,)``."""

    scale: Floats
    shift: Floats


def placed(site: str, sites: Mapping[str, SiteMoments], before: Placement) -> Placement:
    """The scale and shift under which the site's class means and spread meet the common ones.

    What is shrunk is the whole of what the site differs by, as its embeddings were before any
    placement, so that releases after one another correct each other instead of adding up. Scales
    first: the offset is that of the scaled embeddings.

    Args:
        site: this site, one of ``sites``.
        sites: moments of embeddings that lie as ``before`` says; of all sites that answered.
        before: of this site, when the moments were taken.
    """
    own, common = sites[site], pooled_variances(sites)
    spread = np.log(own.variances / common) - 2 * np.log(before.scale)
    known = shrunk(spread, log_spread_variances(own, common))
    most = np.log(_MOST_SCALED)
    scale = np.exp(-0.5 * np.clip(known, -2 * most, 2 * most))
    ratio = scale / before.scale
    raw = (own.means - before.shift) * ratio
    weights = own.counts / max(float(own.counts.sum()), 1e-12)
    offset = weights @ (raw - common_centre(sites))
    return Placement(scale, -shrunk(offset, offset_variances(own) * ratio**2))
