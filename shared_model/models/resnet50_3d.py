"""ResNet50 of the whole volume, with Med3D's weights."""

from __future__ import annotations

from shared_model.models.entry import ModelEntry
from shared_model.models.resnet50 import groups
from shared_model.resnet.config import ResNet503DConfig
from shared_model.resnet.model import volume_resnet

ENTRY = ModelEntry(
    config=ResNet503DConfig,
    build=lambda config, frame: volume_resnet(config),
    groups=groups,
    about="3D ResNet50 with a stem of stride 2, Med3D (MedicalNet) weights from a local file.",
    source="Chen, Ma and Zheng 2019 (Med3D, arXiv:1904.00625), MONAI's network",
    tiny={"width": 2, "blocks": (1, 1, 1, 1), "dropout": 0.0, "seeded": True},
)
