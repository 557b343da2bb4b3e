"""ConneX: structural and functional connectomes, fused by cross-modal attention."""

from __future__ import annotations

from shared_model.connex.config import ConnexConfig
from shared_model.connex.graphs import Connectomes
from shared_model.connex.model import Connex
from shared_model.connex.output import joint_losses
from shared_model.groups import ParameterGroups
from shared_model.layers.site_norm import (
    SiteNorm,
    fixed_parameter_patterns,
    site_parameter_patterns,
)
from shared_model.models.entry import EncoderUse, ModelEntry, ModelFrame


def build(config: ConnexConfig, frame: ModelFrame) -> Connex:
    """On the parcellation of the options, or on the atlas of the plan."""
    return Connex(config, frame.sizes.regions if config.regions is None else config.regions)


def groups(site_norm: SiteNorm, encoder: EncoderUse) -> ParameterGroups:
    """All but the public reference is federated; there is no pretrained encoder to freeze."""
    scope = "network.site"
    return ParameterGroups(
        frozen=("reference.*", *fixed_parameter_patterns(site_norm, scope)),
        shared=("network.*",),
        site=site_parameter_patterns(site_norm, scope),
    )


ENTRY = ModelEntry(
    config=ConnexConfig,
    build=build,
    groups=groups,
    about="Structural and functional connectomes: masked graphs, cross-modal attention, mixers.",
    source="Mazumder et al., EMBC 2025, arXiv 2505.15139; mask after IBGNN+, MICCAI 2022",
    batch=Connectomes,
    losses=joint_losses,
    tiny={"width": 4, "mixer_tokens": 4, "mixer_channels": 4},
)
