"""Takes the measures of one scan."""

from __future__ import annotations

from typing import Any

import numpy as np

from client.preprocessing.agreement import agreement
from client.preprocessing.image import Work
from client.quality.background import Background, measure_background
from client.quality.entropy import entropy_focus
from client.quality.geometry import brain_at_edge, centre_shift_mm, lost_share, placement
from client.quality.header import HeaderFacts
from client.quality.scan_measures import MEASURES_VERSION, ScanMeasures
from client.quality.sharpness import smoothness_mm
from client.quality.tissue import split_tissues
from shared_model.grid import ModelGrid

# The record lives apart, so that who only reads it needs no torch.
__all__ = ["MEASURES_VERSION", "ScanMeasures", "measure_scan"]

_DIGITS = 4


def measure_scan(work: Work, header: HeaderFacts, grid: ModelGrid) -> ScanMeasures:
    """Measure a scan whose brain has been found; one to three seconds at 1 mm on one core.

    ``work.to_mni`` and what lies on the grid may be missing: the scan was not registered then, and
    what depends on it is None. Deterministic. Raises ValueError without a brain.

    Args:
        work: what the steps made of the scan, ``image`` with or without its skull.
        header: of the file as it came.
        grid: the plan's grid.
    """
    image, brain = work.image, work.brain
    if brain is None or not brain.any():
        raise ValueError("quality is measured on a scan with a brain")
    voxel_ml = float(abs(np.linalg.det(image.affine[:3, :3]))) / 1000
    brain_ml = float(np.count_nonzero(brain)) * voxel_ml
    edge = brain_at_edge(image, brain)
    background = measure_background(image, brain)
    absent: dict[str, str] = {}
    smoothness = smoothness_mm(image, brain)
    if smoothness is None:
        absent["smoothness_mm"] = "the image is rougher than white noise"
    found: dict[str, Any] = {
        "already_stripped": bool(work.findings.get("already_stripped", False)),
        "efc": entropy_focus(image.voxels),
        "background_zero_share": background.zero_share,
        "smoothness_mm": smoothness,
        "brain_ml": brain_ml,
        "edge_faces": edge.faces,
        "edge_cm2": edge.cm2,
        **_greys(work, background, absent),
        **_registration(work, brain_ml, grid, absent),
    }
    rounded = {k: round(v, _DIGITS) if isinstance(v, float) else v for k, v in found.items()}
    return ScanMeasures.model_validate({"header": header, "absent": absent, **rounded})


def _greys(work: Work, background: Background, absent: dict[str, str]) -> dict[str, float | None]:
    tissue_names = ("snr_white", "snr_grey", "cnr", "cjv", "white_over_grey")
    found: dict[str, float | None] = {}
    missing = background.missing
    if missing is not None:
        absent["noise_percent"] = absent["fber"] = missing
    elif background.energy > 0:
        found["fber"] = background.head_energy / background.energy
    else:
        absent["fber"] = "the air's median is zero"
    if work.to_mni is None or work.brain is None:
        absent |= dict.fromkeys((*tissue_names, "noise_percent"), "the scan was not registered")
        return found
    tissues = split_tissues(work.image, work.brain, work.to_mni)
    if tissues is None or tissues.white.mean <= 0 or tissues.grey.mean <= 0:
        why = "the brain does not fall into three tissues"
        absent |= dict.fromkeys(tissue_names, why)
        absent.setdefault("noise_percent", why)
        return found
    white, grey = tissues.white, tissues.grey
    air = 0.0 if missing is not None else background.deviation
    distance = abs(white.mean - grey.mean)
    found |= {
        "snr_white": white.mean / white.deviation,
        "snr_grey": grey.mean / grey.deviation,
        "cnr": distance / float(np.hypot(np.hypot(white.deviation, grey.deviation), air)),
        "white_over_grey": white.mean / grey.mean,
    }
    if missing is None:
        found["noise_percent"] = 100 * air / white.mean
    if distance > 0:
        found["cjv"] = (white.deviation + grey.deviation) / distance
    else:
        absent["cjv"] = "white and grey matter are equally bright"
    return found


def _registration(
    work: Work, brain_ml: float, grid: ModelGrid, absent: dict[str, str]
) -> dict[str, float | None]:
    names = ("dice", "correlation", "determinant", "stretch", "rotation_degrees")
    on_grid = ("centre_shift_mm", "lost_share")
    if work.to_mni is None or work.brain is None:
        absent |= dict.fromkeys((*names, *on_grid), "the scan was not registered")
        return {}
    dice = work.findings.get("registration_dice")
    correlation = work.findings.get("registration_correlation")
    if dice is None or correlation is None:
        # Scans that came aligned have no registration; the gate's own measure still holds.
        met = agreement(work.image.voxels, work.brain, work.image.affine, work.to_mni)
        dice, correlation = met.dice, met.correlation
    put = placement(work.to_mni)
    found: dict[str, float | None] = {
        "dice": float(dice),
        "correlation": float(correlation),
        "determinant": put.determinant,
        "stretch": put.stretch,
        "rotation_degrees": put.rotation_degrees,
    }
    if work.brain_on_grid is None or not work.brain_on_grid.any():
        absent |= dict.fromkeys(on_grid, "no brain in the model's field of view")
        return found
    found["centre_shift_mm"] = centre_shift_mm(work.brain_on_grid, grid)
    found["lost_share"] = lost_share(brain_ml, work.to_mni, work.brain_on_grid, grid)
    return found
