"""Detection of lesions: FROC, sensitivity at false positives per scan, average precision.

A detection is right when its box overlaps a lesion's by an IoU of at least a threshold and no
better detection took that lesion. Curves go over detections of all scans, best first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared_model.metrics.arrays import Bools, Floats, Ints, ratio
from shared_model.metrics.boxes import Boxes, iou

#: False positives per scan at which FROC is read (Setio et al. 2017, LUNA16).
FROC_POINTS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
#: IoU thresholds that 3D detection is judged at (Baumgartner et al. 2021, nnDetection).
IOU_THRESHOLDS = (0.1, 0.25, 0.5)


@dataclass(frozen=True, eq=False)
class Found:
    """What a detector says about one scan: boxes ``(N, 6)`` and scores ``(N,)``."""

    boxes: Boxes
    scores: Floats


@dataclass(frozen=True, eq=False)
class Judged:
    """Detections of many scans, best first.

    Attributes:
        scores: ``(N,)``.
        right: ``(N,)``.
        scan: ``(N,)`` row of the scan.
        lesions: ``(S,)`` of each scan.
    """

    scores: Floats
    right: Bools
    scan: Ints
    lesions: Ints


def judge(found: Sequence[Found], truth: Sequence[Boxes], threshold: float) -> Judged:
    """Match each scan's detections with its lesions, best score first."""
    rows: list[tuple[float, bool, int]] = []
    for number, (one, boxes) in enumerate(zip(found, truth, strict=True)):
        overlap = iou(one.boxes, boxes)
        free = np.ones(len(boxes), dtype=bool)
        for index in np.argsort(-one.scores, kind="stable"):
            candidates = np.where(free, overlap[index], -1.0)
            best = int(candidates.argmax()) if len(boxes) else 0
            hit = len(boxes) > 0 and bool(candidates[best] >= threshold)
            if hit:
                free[best] = False
            rows.append((float(one.scores[index]), hit, number))
    rows.sort(key=lambda row: -row[0])
    return Judged(
        np.array([row[0] for row in rows], dtype=np.float64),
        np.array([row[1] for row in rows], dtype=bool),
        np.array([row[2] for row in rows], dtype=np.int64),
        np.array([len(boxes) for boxes in truth], dtype=np.int64),
    )


def sensitivity_over(judged: Judged, false_positives: float, counts: Floats) -> Floats:
    """``(D,)`` sensitivity at no more than so many false positives per scan, over draws of scans.

    ``counts`` ``(D, S)``: how often a draw holds each scan. Detections of one score come together.
    NaN where a draw has no lesion; 0 without detections.
    """
    lesions, scans = counts @ judged.lesions.astype(np.float64), counts.sum(1)
    if not len(judged.scores):
        return np.where(lesions > 0, 0.0, np.nan)
    weights = counts[:, judged.scan]
    hits = np.cumsum(weights * judged.right, axis=1)[:, _last_of_score(judged.scores)]
    wrong = np.cumsum(weights * ~judged.right, axis=1)[:, _last_of_score(judged.scores)]
    allowed = wrong <= false_positives * scans[:, None] + 1e-9
    best = np.where(allowed, hits, 0.0).max(1)
    return ratio(best, lesions)


def average_precision_over(judged: Judged, counts: Floats) -> Floats:
    """``(D,)`` area under precision over recall, precision made monotone (Everingham et al. 2010).

    NaN where a draw has no lesion; 0 without detections.
    """
    lesions = counts @ judged.lesions.astype(np.float64)
    if not len(judged.scores):
        return np.where(lesions > 0, 0.0, np.nan)
    weights = counts[:, judged.scan]
    ends = _last_of_score(judged.scores)
    hits = np.cumsum(weights * judged.right, axis=1)[:, ends]
    all_found = np.cumsum(weights, axis=1)[:, ends]
    precision = np.divide(hits, all_found, out=np.zeros_like(hits), where=all_found > 0)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    gained = np.diff(hits, axis=1, prepend=0.0)
    area = (precision * gained).sum(1)
    return ratio(area, lesions)


def froc(judged: Judged, points: Sequence[float] = FROC_POINTS) -> dict[float, float]:
    """Sensitivity by false positives per scan, all scans once."""
    once = np.ones((1, len(judged.lesions)))
    return {point: float(sensitivity_over(judged, point, once)[0]) for point in points}


def _last_of_score(scores: Floats) -> Ints:
    """Where a threshold can lie: the last detection of each score."""
    last = np.append(scores[1:] != scores[:-1], True)
    return np.flatnonzero(last).astype(np.int64)
