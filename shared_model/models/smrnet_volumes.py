"""SMR-Net with region volumes and clinical data, as node features and in late fusion."""

from __future__ import annotations

from shared_model.models.entry import ModelEntry
from shared_model.models.smrnet import LADDER, groups
from shared_model.smrnet.volumes import ScanWithVolumes, SMRNetVolumes, SMRNetVolumesConfig
from shared_model.volumes.reference import PACKAGED_SHA256

ENTRY = ModelEntry(
    config=SMRNetVolumesConfig,
    build=lambda config, frame: SMRNetVolumes(
        config, frame.labels, frame.adjacency, frame.sizes.clinical
    ),
    groups=groups,
    about="SMR-Net that also reads region volumes, age and sex: in the graph's nodes, and late.",
    source="SMR-Net of this package; volumes because they are strong baselines "
    "(docs/models.md)",
    batch=ScanWithVolumes,
    plan={
        "model": {"config": {"reference_sha256": PACKAGED_SHA256}},
        "input": {
            "clinical": {
                "mode": "without-cognition",
                "variables": [
                    {
                        "name": "age", "unit": "years", "mean": 75.0, "sd": 7.0, "lowest": 0.0,
                        "highest": 120.0,
                    },
                    {"name": "sex", "kind": "category", "categories": ["F", "M"]},
                ],
            }
        },
    },
    tiny={"width": 4},
    presets={f"{name} with volumes": dict(options) for name, options in LADDER.items()},
)  # fmt: skip
