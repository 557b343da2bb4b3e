"""Lesion segmentation by a hybrid of U-Net and transformer."""

from __future__ import annotations

from shared_model.models.entry import ModelEntry
from shared_model.segmentation.config import HybridConfig
from shared_model.segmentation.groups import LESION_PLAN, trunk_groups
from shared_model.segmentation.losses import segmentation_losses
from shared_model.segmentation.network import LesionSegmentation

ENTRY = ModelEntry(
    config=HybridConfig,
    build=lambda config, frame: LesionSegmentation(config),
    groups=trunk_groups,
    about="Lesion segmentation: MONAI's 3D U-Net with a transformer at its coarsest level.",
    source="Chen et al. 2021 (TransUNet, arXiv:2102.04306), in 3D; monai.networks.nets.UNet",
    task="segmentation",
    losses=segmentation_losses,
    plan=LESION_PLAN,
    tiny={
        "channels": (4, 8, 12),
        "strides": (2, 2),
        "features": 4,
        "layers": 1,
        "heads": 2,
        "hidden": 16,
    },
)
