"""VGG16, ResNet50 and clinical data, fused late."""

from __future__ import annotations

from shared_model.fusion.config import MultimodalConfig
from shared_model.fusion.model import Multimodal, VolumeAndClinical
from shared_model.groups import ParameterGroups
from shared_model.layers.site_norm import SiteNorm, site_parameter_patterns
from shared_model.models.entry import EncoderUse, ModelEntry
from shared_model.models.resnet50 import FROZEN_AFFINE

#: The last block of VGG16 (from ``features.24``) and the last stage of ResNet50 lie above these.
_BELOW = (
    "resnet50.conv1.*", "resnet50.layer[123].*",
    "vgg16.features.[0-9].*", "vgg16.features.1[0-9].*", "vgg16.features.2[0-3].*",
)  # fmt: skip


def groups(site_norm: SiteNorm, encoder: EncoderUse) -> ParameterGroups:
    """Pools, clinical branch and head train; of shared backbones the last stage as well.

    To freeze one branch and train the other, name its parameters under ``frozen``:
    ``vgg16.*`` or ``resnet50.*``.
    """
    frozen = ("vgg16.*", "resnet50.*") if encoder == "frozen" else (*_BELOW, *FROZEN_AFFINE)
    return ParameterGroups(frozen=frozen, site=site_parameter_patterns(site_norm, "place"))


ENTRY = ModelEntry(
    config=MultimodalConfig,
    build=lambda config, frame: Multimodal(config, frame.labels, frame.sizes.clinical),
    groups=groups,
    about="Late fusion of VGG16 and ResNet50 on key slices with clinical data.",
    source="Simonyan and Zisserman 2015, He et al. 2016, Qiu et al. 2020 (imaging beside clinical "
    "data); [GAP VGG16 | GAP ResNet50 | MLP], dropout, linear",
    batch=VolumeAndClinical,
    plan={"input": {"clinical": {"mode": "without-cognition"}}},
    tiny={
        "vgg_width": 2, "resnet_width": 2, "blocks": (1, 1, 1, 1), "slices": 2, "image_size": 32,
        "clinical_features": 3, "dropout": 0.0, "seeded": True,
    },
)  # fmt: skip
