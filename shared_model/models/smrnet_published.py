"""SMR-Net as its authors' public code computes it: 2D, one plane, slices as graph nodes."""

from __future__ import annotations

from shared_model.groups import ParameterGroups
from shared_model.layers.site_norm import (
    SiteNorm,
    fixed_parameter_patterns,
    site_parameter_patterns,
)
from shared_model.models.entry import EncoderUse, ModelEntry
from shared_model.smrnet.config import PublishedConfig
from shared_model.smrnet.published import INERT, SMRNetPublished


def groups(site_norm: SiteNorm, encoder: EncoderUse) -> ParameterGroups:
    """All is federated, or with a frozen encoder what lies above the two branches."""
    if encoder == "frozen":  # all norms are in the two branches
        return ParameterGroups(frozen=("low.*", "high.*", *INERT))
    return ParameterGroups(
        frozen=(*INERT, *fixed_parameter_patterns(site_norm)),
        site=site_parameter_patterns(site_norm),
    )


ENTRY = ModelEntry(
    config=PublishedConfig,
    build=lambda config, frame: SMRNetPublished(config),
    groups=groups,
    about="SMR-Net as its authors' public code computes it: axial slices, 12,330,628 parameters.",
    source="github.com/arshpreetofficial/SMR-Net, model.py 3b0fe8b",
    tiny={"width": 16},
)
