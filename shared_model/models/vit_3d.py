"""A small 3D vision transformer."""

from __future__ import annotations

from shared_model.groups import ParameterGroups
from shared_model.layers.site_norm import (
    SiteNorm,
    fixed_parameter_patterns,
    site_parameter_patterns,
)
from shared_model.models.entry import EncoderUse, ModelEntry
from shared_model.vit.config import ViTConfig
from shared_model.vit.model import ViT3D


def groups(site_norm: SiteNorm, encoder: EncoderUse) -> ParameterGroups:
    """Everything is federated; no part is pretrained, so a frozen encoder changes nothing."""
    return ParameterGroups(
        frozen=fixed_parameter_patterns(site_norm), site=site_parameter_patterns(site_norm)
    )


ENTRY = ModelEntry(
    config=ViTConfig,
    build=lambda config, frame: ViT3D(config, frame.labels, frame.sizes.grid.spacing_mm),
    groups=groups,
    about="Small 3D vision transformer on the patches of the brain, with an additive read-out.",
    source="Dosovitskiy et al. 2021 (arXiv:2010.11929), in 3D, with fixed positions; read-out "
    "after Ilse et al. 2018",
    tiny={"patch_mm": 32.0, "width": 8, "depth": 1, "heads": 2, "mlp": 8, "attention_features": 4},
)
