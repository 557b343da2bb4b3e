"""Layer A in networks of a library: their norms are replaced after construction."""

from __future__ import annotations

from math import gcd

from torch import nn

from shared_model.layers.site_norm import SiteAdaptiveGroupNorm, SiteNorm


def adapt_norms(network: nn.Module, groups: int, mode: SiteNorm) -> None:
    """Replace every instance and group norm by layer A with at most ``groups`` groups.

    Both kinds have statistics of one scan only, but MONAI's are without a site's part. Raises
    ValueError for a batch norm: there is no replacement that keeps what it means.
    """
    for name, child in list(network.named_children()):
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            raise ValueError(f"{name} is a batch norm")
        if isinstance(child, nn.GroupNorm):
            channels = child.num_channels
        elif isinstance(child, nn.modules.instancenorm._InstanceNorm):
            channels = child.num_features
        else:
            adapt_norms(child, groups, mode)
            continue
        setattr(network, name, site_norm(channels, groups, mode))


def site_norm(channels: int, groups: int, mode: SiteNorm) -> SiteAdaptiveGroupNorm:
    """Layer A over ``channels``, in as many groups as divide them, at most ``groups``."""
    return SiteAdaptiveGroupNorm(channels, gcd(channels, groups), mode)
