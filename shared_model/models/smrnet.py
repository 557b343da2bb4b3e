"""SMR-Net: multi-resolution tokens, slice attention in three planes, atlas graph."""

from __future__ import annotations

from shared_model.groups import ParameterGroups
from shared_model.layers.site_norm import (
    SiteNorm,
    fixed_parameter_patterns,
    site_parameter_patterns,
)
from shared_model.models.entry import EncoderUse, ModelEntry
from shared_model.smrnet.config import SMRNetConfig
from shared_model.smrnet.model import SMRNet


def groups(site_norm: SiteNorm, encoder: EncoderUse) -> ParameterGroups:
    """The reasoner is federated; a shared encoder is so too; the standardiser is public always."""
    # A frozen encoder keeps its residuals at zero: cached tokens do not depend on the site.
    scope = "reasoner.*" if encoder == "frozen" else "*"
    public = ("encoder.*", "standardiser.*") if encoder == "frozen" else ("standardiser.*",)
    return ParameterGroups(
        frozen=public + fixed_parameter_patterns(site_norm, scope),
        shared=(scope,),
        site=site_parameter_patterns(site_norm, scope),
    )


#: The ladder of the article, one part more at each step; the last is the default.
LADDER: dict[str, dict[str, object]] = {
    "BaseNet": {"fusion": "finest", "slice_attention": False, "graph_blocks": 0},
    "SMR-M": {"fusion": "mean", "slice_attention": False, "graph_blocks": 0},
    "SMR-MF": {"slice_attention": False, "graph_blocks": 0},
    "SMR-MFA": {"graph_blocks": 0},
    "SMR-Net": {},
}

ENTRY = ModelEntry(
    config=SMRNetConfig,
    build=lambda config, frame: SMRNet(config, frame.labels, frame.adjacency),
    groups=groups,
    about="Multi-resolution network with slice attention in three planes and an atlas graph.",
    source="Kaur and Kaur 2026, as their article describes it; docs/models.md says what is ours",
    tiny={"width": 4},
    presets=LADDER,
)
