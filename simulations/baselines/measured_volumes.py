"""Region volumes read off an aligned scan: what a hospital has without a trained model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from client.archive.nifti import read_volume
from client.archive.patients import Scan
from client.preprocessing.aligned_volumes import aligned_volumes
from shared_model.atlas.atlas import Atlas
from shared_model.atlas.cache import write_atomically
from simulations.baselines.subject_table import Floats


def measured_volumes(scan: Scan, atlas: Atlas) -> tuple[Floats, float]:
    """Volumes ``(R,)`` in ml and the brain's in ml, of a skull-stripped scan in MNI152 space."""
    raw = read_volume(scan.path)
    return aligned_volumes(raw.voxels, raw.affine, atlas)


def kept_volumes(scan: Scan, atlas: Atlas, path: Path) -> tuple[Floats, float]:
    """:func:`measured_volumes`, kept in a JSON file so that a second call takes no time."""
    if path.exists():
        kept = json.loads(path.read_text("utf-8"))
        return np.asarray(kept["ml"], dtype=np.float64), float(kept["icv_ml"])
    ml, icv_ml = measured_volumes(scan, atlas)
    write_atomically(path, json.dumps({"icv_ml": icv_ml, "ml": ml.tolist()}).encode())
    return ml, icv_ml
