"""How well a model of lesions does on this hospital's own test patients; stays at the hospital."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch

from client.training.examples import PatientExamples
from client.training.site_model import SiteModel
from shared_model.detection.decode import detections
from shared_model.detection.detector import DetectionOutput
from shared_model.metrics.boxes import Boxes, boxes_of
from shared_model.metrics.detection import Found
from shared_model.metrics.lesion_summary import (
    SegmentedScan,
    detection_summary,
    segmentation_summary,
)
from shared_model.metrics.lesionwise import lesion_counts
from shared_model.metrics.overlap import dice, hausdorff_95_mm, volume_error_ml


@dataclass(frozen=True, eq=False)
class DetectedScan:
    """Boxes of one scan in voxels of the grid, said and true; ``patient`` counts from 0."""

    patient: int
    found: Found
    truth: Boxes


def lesion_scores(
    model: SiteModel, examples: Sequence[PatientExamples], draws: int, seed: int
) -> dict[str, Any]:
    """Figures of the plan's task as JSON values, with 95 % intervals over patients."""
    if model.entry.task == "segmentation":
        return segmentation_summary(segmented_scans(model, examples), draws, seed)
    scans = detected_scans(model, examples)
    return detection_summary(
        [scan.found for scan in scans],
        [scan.truth for scan in scans],
        np.array([scan.patient for scan in scans], dtype=np.int64),
        draws,
        seed,
    )


@torch.no_grad()
def segmented_scans(model: SiteModel, examples: Sequence[PatientExamples]) -> list[SegmentedScan]:
    """Every scan's agreement with its mask on the model grid, each scan by itself."""
    model.model.eval()
    spacing = model.sizes.grid.spacing_mm
    out = []
    for row, patient in enumerate(examples):
        for inputs, targets in patient.chunks():
            logits = model.logits(inputs)
            for said, numbers in zip(
                (logits[:, 1] > logits[:, 0]).cpu().numpy(), targets.cpu().numpy(), strict=True
            ):
                truth = numbers > 0
                out.append(
                    SegmentedScan(
                        row,
                        dice(said, truth),
                        hausdorff_95_mm(said, truth, spacing),
                        volume_error_ml(said, truth, spacing),
                        float(truth.sum() * spacing**3 / 1000),
                        lesion_counts(said, numbers),
                    )
                )
    return out


@torch.no_grad()
def detected_scans(model: SiteModel, examples: Sequence[PatientExamples]) -> list[DetectedScan]:
    """Boxes of every scan, each scan by itself."""
    model.model.eval()
    out = []
    for row, patient in enumerate(examples):
        for inputs, targets in patient.chunks():
            output = cast(DetectionOutput, model.output(inputs))
            for found, numbers in zip(detections(output), targets.cpu().numpy(), strict=True):
                out.append(DetectedScan(row, found, boxes_of(numbers)))
    return out
