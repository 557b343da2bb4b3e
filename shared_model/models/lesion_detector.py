"""Detection of lesions by an anchor-free detector."""

from __future__ import annotations

from shared_model.detection.detector import DetectionLosses, LesionDetector
from shared_model.models.entry import ModelEntry
from shared_model.segmentation.config import UNetConfig
from shared_model.segmentation.groups import LESION_PLAN, trunk_groups

ENTRY = ModelEntry(
    config=UNetConfig,
    build=lambda config, frame: LesionDetector(config),
    groups=trunk_groups,
    about="Detection of lesions: heatmap of centres and boxes on MONAI's 3D U-Net.",
    source="Zhou et al. 2019 (CenterNet, arXiv:1904.07850), in 3D",
    task="detection",
    losses=DetectionLosses(),
    plan=LESION_PLAN,
    tiny={"channels": (4, 8), "strides": (2,), "features": 4},
)
