"""ResNet50 of key slices, with weights that were learnt from photographs."""

from __future__ import annotations

from shared_model.groups import ParameterGroups
from shared_model.layers.site_norm import (
    SiteNorm,
    fixed_parameter_patterns,
    site_parameter_patterns,
)
from shared_model.models.entry import EncoderUse, ModelEntry
from shared_model.resnet.config import ResNet50Config
from shared_model.resnet.model import slice_resnet

_BELOW = ("encoder.conv1.*", "encoder.layer[123].*")
#: Pretrained normalisation, wherever it lies.
FROZEN_AFFINE = ("*.scale", "*.offset")


def groups(site_norm: SiteNorm, encoder: EncoderUse) -> ParameterGroups:
    """The head trains; a shared encoder's last stage as well (``trained_stages = 1``)."""
    if encoder == "frozen":
        return ParameterGroups(
            frozen=("encoder.*",), site=site_parameter_patterns(site_norm, "place")
        )
    last = "encoder.layer4.*"
    return ParameterGroups(
        frozen=(*_BELOW, *FROZEN_AFFINE, *fixed_parameter_patterns(site_norm, last)),
        site=(
            *site_parameter_patterns(site_norm, last),
            *site_parameter_patterns(site_norm, "place"),
        ),
    )


ENTRY = ModelEntry(
    config=ResNet50Config,
    build=lambda config, frame: slice_resnet(config, frame.labels),
    groups=groups,
    about="ResNet50 of key slices in three planes, ImageNet weights from a local file.",
    source="He et al. 2016 (v1.5: stride on the 3x3), MONAI's network; slice attention as AXIAL "
    "(Lozupone et al. 2024)",
    tiny={
        "width": 2, "blocks": (1, 1, 1, 1), "slices": 2, "image_size": 32, "dropout": 0.0,
        "seeded": True,
    },
)  # fmt: skip
