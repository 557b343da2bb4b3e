"""SMR-Net on a scan and the one before it."""

from __future__ import annotations

from shared_model.groups import ParameterGroups
from shared_model.layers.site_norm import SiteNorm
from shared_model.models.entry import EncoderUse, ModelEntry
from shared_model.models.smrnet import groups as of_smrnet
from shared_model.smrnet.config import SMRNetConfig
from shared_model.smrnet.longitudinal import LongitudinalSMRNet, VisitPair


def groups(site_norm: SiteNorm, encoder: EncoderUse) -> ParameterGroups:
    """As those of SMR-Net; what a change adds is federated."""
    base = of_smrnet(site_norm, encoder)
    # A shared encoder is written as everything: then the change is in it already.
    more = () if "*" in base.shared else ("change.*",)
    return base.model_copy(update={"shared": base.shared + more})


ENTRY = ModelEntry(
    config=SMRNetConfig,
    build=lambda config, frame: LongitudinalSMRNet(config, frame.labels, frame.adjacency),
    groups=groups,
    about="SMR-Net on a patient's scan and the newest scan before it, with the years between.",
    source="SMR-Net of this package; docs/longitudinal.md",
    batch=VisitPair,
    tiny={"width": 4},
)
