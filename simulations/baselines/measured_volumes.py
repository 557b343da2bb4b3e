"""Region volumes read off an aligned scan: what a hospital has without a trained model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from client.archive.nifti import read_volume
from client.archive.patients import Scan
from client.preprocessing.image import Image, Work
from client.preprocessing.region_volumes import region_volumes
from shared_model.atlas.atlas import Atlas
from shared_model.atlas.cache import write_atomically
from simulations.baselines.subject_table import Floats

# A region without any of its tissue must not give log 0.
_SMALLEST_ML = 0.02
_FLUID = "ventricle"


def measured_volumes(scan: Scan, atlas: Atlas) -> tuple[Floats, float]:
    """Volumes ``(R,)`` in ml and the brain's in ml, of a skull-stripped scan in MNI152 space.

    The same tissue classification and atlas as ``smrfed-site prepare`` reports
    (:func:`client.preprocessing.region_volumes.region_volumes`), without a warp: brain tissue
    inside the region, and fluid inside the ventricles. Scanner effects are in it.
    """
    raw = read_volume(scan.path)
    image = Image(raw.voxels, raw.affine)
    found = region_volumes(Work(image, brain=raw.voxels > 0, to_mni=np.eye(4)), atlas)
    fluid = np.array([_FLUID in name for name in atlas.names])
    ml = np.where(fluid, found.csf_mm3, found.gm_mm3 + found.wm_mm3) / 1000
    return np.maximum(ml, _SMALLEST_ML), found.brain_mask_mm3 / 1000


def kept_volumes(scan: Scan, atlas: Atlas, path: Path) -> tuple[Floats, float]:
    """:func:`measured_volumes`, kept in a JSON file so that a second call takes no time."""
    if path.exists():
        kept = json.loads(path.read_text("utf-8"))
        return np.asarray(kept["ml"], dtype=np.float64), float(kept["icv_ml"])
    ml, icv_ml = measured_volumes(scan, atlas)
    write_atomically(path, json.dumps({"icv_ml": icv_ml, "ml": ml.tolist()}).encode())
    return ml, icv_ml
