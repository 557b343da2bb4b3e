"""Figures of lesions over patients, with bootstrap intervals, as JSON values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from shared_model.metrics.arrays import Floats, Ints
from shared_model.metrics.bootstrap import (
    counts_of,
    over_draws,
    percentile_interval,
    stratified_draws,
)
from shared_model.metrics.boxes import Boxes
from shared_model.metrics.detection import (
    FROC_POINTS,
    IOU_THRESHOLDS,
    Found,
    average_precision_over,
    froc,
    judge,
    sensitivity_over,
)
from shared_model.metrics.lesionwise import LesionCounts


@dataclass(frozen=True)
class SegmentedScan:
    """One scan's agreement; ``patient`` counts from 0."""

    patient: int
    dice: float
    hausdorff_95_mm: float
    volume_error_ml: float
    lesion_ml: float
    counts: LesionCounts


def segmentation_summary(scans: Sequence[SegmentedScan], draws: int, seed: int) -> dict[str, Any]:
    """Figures of a segmentation; the unit of every mean and draw is the patient.

    ``dice`` and ``hausdorff_95_mm`` are of patients with a lesion, a missed one with 0 and with
    infinity; the second is their median. Others count in ``false_alarms``, and in ``lesion_f1``,
    which is over the lesions of all patients.
    """
    rows = np.array([scan.patient for scan in scans], dtype=np.int64)
    patients = int(rows.max()) + 1
    by_patient = [[scan for scan in scans if scan.patient == p] for p in range(patients)]
    dice = np.array([_mean([s.dice for s in own if s.lesion_ml > 0]) for own in by_patient])
    distance = np.array(
        [_mean([s.hausdorff_95_mm for s in own if s.lesion_ml > 0]) for own in by_patient]
    )
    error = np.array([_mean([abs(s.volume_error_ml) for s in own]) for own in by_patient])
    marked = np.array([any(s.counts.lesions for s in own) for own in by_patient])
    counts = np.array(
        [
            (
                sum(s.counts.lesions for s in own),
                sum(s.counts.found for s in own),
                sum(s.counts.predicted for s in own),
                sum(s.counts.right for s in own),
            )
            for own in by_patient
        ]
    )
    figures: dict[str, Callable[[Ints], float]] = {
        "dice": lambda i: _mean(dice[i]),
        "hausdorff_95_mm": lambda i: _median(distance[i]),
        "absolute_volume_error_ml": lambda i: _mean(error[i]),
        "lesion_f1": lambda i: LesionCounts(*map(int, counts[i].sum(0))).f1,
    }
    out: dict[str, Any] = {
        "patients": patients,
        "patients_with_lesions": int(marked.sum()),
        "lesions": int(counts[:, 0].sum()),
        "lesions_found": int(counts[:, 1].sum()),
        "predicted_lesions": int(counts[:, 2].sum()),
        "mean_volume_error_ml": _number(_mean([s.volume_error_ml for s in scans])),
        "mean_lesion_ml": _number(_mean([s.lesion_ml for s in scans])),
        "false_alarms": int(sum(not m and bool(c[2]) for m, c in zip(marked, counts, strict=True))),
    }
    resampled = stratified_draws(marked.astype(np.int64), draws, seed)
    everybody = np.arange(patients)
    for name, figure in figures.items():
        interval = percentile_interval(figure(everybody), [figure(i) for i in resampled])
        out[name] = _number(interval.estimate)
        out[f"{name}_95"] = [_number(interval.low), _number(interval.high)]
    return out


def detection_summary(
    found: Sequence[Found], truth: Sequence[Boxes], patient: Ints, draws: int, seed: int
) -> dict[str, Any]:
    """Figures of a detector over scans; a draw holds all scans of a patient or none.

    ``patient`` ``(S,)`` counts from 0.
    """
    patients = int(patient.max()) + 1
    lesions = np.array([len(boxes) for boxes in truth], dtype=np.int64)
    has = np.array([lesions[patient == p].any() for p in range(patients)], dtype=np.int64)
    drawn = stratified_draws(has, draws, seed)
    counts = counts_of(drawn)
    by_scan, once = counts[:, patient], np.ones((1, len(truth)))
    loose = judge(found, truth, IOU_THRESHOLDS[0])
    figures: dict[str, Callable[[Floats], Floats]] = {
        "sensitivity_at_1_fp": partial(sensitivity_over, loose, 1.0)
    }
    for threshold in IOU_THRESHOLDS:
        judged = judge(found, truth, threshold)
        figures[f"ap_iou_{threshold:g}"] = partial(average_precision_over, judged)
    out: dict[str, Any] = {
        "patients": patients,
        "scans": len(truth),
        "patients_with_lesions": int(has.sum()),
        "lesions": int(lesions.sum()),
        "froc": {f"{point:g}": _number(value) for point, value in froc(loose).items()},
        "froc_points": list(FROC_POINTS),
    }
    for name, figure in figures.items():
        values = over_draws(lambda part, f=figure: {"value": f(part)}, by_scan)["value"]  # type: ignore[misc]
        interval = percentile_interval(float(figure(once)[0]), values)
        out[name] = _number(interval.estimate)
        out[f"{name}_95"] = [_number(interval.low), _number(interval.high)]
    return out


def _mean(values: Sequence[float] | Floats) -> float:
    """Over what is determined; NaN where nothing is."""
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    return float(known.mean()) if known.size else math.nan


def _median(values: Floats) -> float:
    known = np.sort(values[~np.isnan(values)])
    if not known.size:
        return math.nan
    middle = known[[(known.size - 1) // 2, known.size // 2]]
    return float(middle.max() if np.isinf(middle).any() else middle.mean())


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
