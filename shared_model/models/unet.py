"""Lesion segmentation by a U-Net."""

from __future__ import annotations

from shared_model.models.entry import ModelEntry
from shared_model.segmentation.config import UNetConfig
from shared_model.segmentation.groups import LESION_PLAN, trunk_groups
from shared_model.segmentation.losses import segmentation_losses
from shared_model.segmentation.network import LesionSegmentation

ENTRY = ModelEntry(
    config=UNetConfig,
    build=lambda config, frame: LesionSegmentation(config),
    groups=trunk_groups,
    about="Lesion segmentation: 3D U-Net of MONAI with layer A's norms.",
    source="Ronneberger et al. 2015, Kerfoot et al. 2018; monai.networks.nets.UNet",
    task="segmentation",
    losses=segmentation_losses,
    plan=LESION_PLAN,
    tiny={"channels": (4, 8), "strides": (2,), "features": 4},
)
