"""Scans with what is true and what the models say, for people to look at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from client.training.examples import PatientExamples
from client.training.scan_inputs import volume_of
from client.training.site_model import SiteModel
from shared_model.atlas.select import load_atlas
from shared_model.detection.decode import detections
from shared_model.detection.detector import DetectionOutput
from shared_model.metrics.boxes import boxes_of
from shared_model.protocol.arrays import decode_arrays
from simulations.lesions.hospitals import SITES, hospitals, joined, open_workspace
from simulations.lesions.kinds import MICROBLEED_LIKE, STROKE_LIKE
from simulations.lesions.plans import Model, lesion_plan

if TYPE_CHECKING:
    from simulations.lesions.study import StudySettings

_SCANS = 6


def write_pictures(out: Path, settings: StudySettings) -> Iterator[Path]:
    """``OUT/segmentation.png`` and ``OUT/detection.png`` of the federated models that are there."""
    shown: tuple[tuple[Any, Model, str], ...] = (
        (STROKE_LIKE, "unet", "segmentation"),
        (MICROBLEED_LIKE, "lesion-detector", "detection"),
    )
    for kind, name, task in shown:
        weights = out / kind.name / "models" / "federated.safetensors"
        if not weights.exists():
            continue
        plan = lesion_plan(name, dict.fromkeys(SITES, 1), settings.schedule, seed=settings.seed)
        model = SiteModel.build(plan, load_atlas(plan.atlas, plan.input.grid))
        model.load_shared(decode_arrays(weights.read_bytes()))
        these = hospitals(open_workspace(out, kind), plan, model)
        tested = joined(these, "test", unseen=False) + joined(these, "test", unseen=True)
        step = max(1, len(tested) // _SCANS)
        yield _picture(out / f"{task}.png", model, tested[::step][:_SCANS])


@torch.no_grad()
def _picture(path: Path, model: SiteModel, patients: tuple[PatientExamples, ...]) -> Path:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.patches import Rectangle

    figure, axes = pyplot.subplots(1, len(patients), figsize=(3 * len(patients), 3.6))
    model.model.eval()
    for axis, patient in zip(axes, patients, strict=True):
        (inputs, targets), *_ = patient.chunks()
        numbers = targets[0].cpu().numpy()
        volume = volume_of(inputs)[0, 0].cpu().numpy()
        z = int((numbers > 0).sum((0, 1)).argmax()) or volume.shape[2] // 2
        axis.imshow(volume[:, :, z].T, cmap="gray", origin="lower", vmin=-4, vmax=3)
        output = model.output(inputs)
        if model.entry.task == "segmentation":
            said = (output.logits[0, 1] > output.logits[0, 0]).cpu().numpy()
            for mask, colour in ((numbers > 0, "lime"), (said, "red")):
                if mask[:, :, z].any():
                    axis.contour(mask[:, :, z].T, levels=[0.5], colors=colour, linewidths=1)
        else:
            (found,) = detections(cast(DetectionOutput, output))
            best = found.boxes[found.scores > 0.3]
            for boxes, colour in ((boxes_of(numbers), "lime"), (best, "red")):
                for box in boxes[(boxes[:, 2] <= z + 0.5) & (boxes[:, 5] >= z + 0.5)]:
                    axis.add_patch(
                        Rectangle(
                            (box[0] - 0.5, box[1] - 0.5),
                            *np.asarray(box[3:5] - box[:2]),
                            fill=False,
                            edgecolor=colour,
                        )
                    )
        axis.set_title(patient.id.removeprefix("sub-"), fontsize=8)
        axis.axis("off")
    figure.suptitle("green: truth, red: the federated model", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
    return path
