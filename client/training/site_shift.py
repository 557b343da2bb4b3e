"""The site's residual set from released moments alone: no patient is looked at, nothing is paid.

Of all released class means of embeddings, this site's lie an offset away from the common ones. The
site subtracts that offset from its embeddings, of which logits and explanations are made. The
offset is a function of released, noised sums (science.md 3.2, option iii: phi from DP-released
statistics only), so it may steer what leaves later and is no less private than the release. It
never leaves the site all the same. An unseen site has none and runs at zero.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from client.training.site_model import SiteModel
from shared_model.adaptation.dimensions import moments_projection
from shared_model.adaptation.moments import SiteMoments, common_centre
from shared_model.adaptation.placement import Placement, placed
from shared_model.adaptation.shrinkage import offset_variances, shrunk

SHIFT = "reasoner.embedding_shift.site_shift"
SCALE = "reasoner.embedding_shift.site_scale"


@torch.no_grad()
def shift_site(site_model: SiteModel, site: str, moments: Mapping[str, SiteMoments]) -> None:
    """Set the site's shift so that its class means meet the common ones, as far as they are known.

    With ``site_moments = "affine"`` the scale as well, so that its spread within the classes does
    (:func:`shared_model.adaptation.placement.placed`). What is shrunk is the whole offset of the
    embeddings as they were before any shift, so that releases after one another correct each other
    instead of adding up.

    Args:
        site_model: with the site parameters under which the moments were taken.
        site: this site; without moments of its own, or of another site, nothing changes.
        moments: of all sites that answered.
    """
    if site not in moments or len(moments) < 2:
        return
    (shift,) = site_model.parameters((SHIFT,))
    if site_model.plan.adaptation.site_moments == "affine":
        (scale,) = site_model.parameters((SCALE,))
        old = (part.detach().cpu().double().numpy() for part in (1 + scale, shift))
        new = placed(site, moments, Placement(*old))
        scale.copy_(torch.from_numpy(new.scale - 1).to(scale))
        shift.copy_(torch.from_numpy(new.shift).to(shift))
        return
    projection = moments_projection(site_model.plan)
    before = projection.T @ shift.detach().cpu().double().numpy()
    offset = moments[site].offset_from(common_centre(moments)) - before
    kept = shrunk(offset, offset_variances(moments[site]))
    shift.copy_(torch.from_numpy(projection @ -kept).to(shift))
