"""Public scans of real heads, registered: they pass, copies and mirror images are found.

The scans that came stripped need no network to find the brain; the rest is done by the real steps.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform, gaussian_filter
from scipy.spatial.transform import Rotation

from client.archive.nifti import read_volume
from client.prepared.resample import to_grid, to_ras
from client.preprocessing.image import Affine, Image, Mask, Volume, Work
from client.preprocessing.registration import RegisterToMNI
from client.quality.duplicates import KnownScan, duplicate_reasons
from client.quality.fingerprint import Fingerprint, fingerprint
from client.quality.flips import flip_reasons
from client.quality.header import read_header
from client.quality.limits import QualityLimits
from client.quality.measures import measure_scan
from client.quality.verdict import judge_scan
from shared_model.grid import ModelGrid

_HERE = Path(__file__).parents[2]
DATA = Path(os.environ.get("SMRFED_SHARED_DATA", _HERE.parent / "shared" / "data")) / "bids"
STRIPPED = ("niimathdemo", "novosibirsk")
GRID = ModelGrid()
LIMITS = QualityLimits()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not DATA.is_dir(),
        reason=f"no public scans at {DATA}; set SMRFED_SHARED_DATA to their folder",
    ),
]


def path_of(dataset: str) -> Path:
    return DATA / dataset / "sub-01" / "anat" / "sub-01_T1w.nii.gz"


def native(dataset: str) -> tuple[Volume, Affine, Mask]:
    raw = read_volume(path_of(dataset))
    voxels, affine = to_ras(raw.voxels, raw.affine)
    return voxels, affine, voxels > 0


def exported_again(voxels: Volume, affine: Affine) -> tuple[Volume, Affine, Mask]:
    """Turned by ten degrees, resampled to 1.3 mm, rounded to 900 greys."""
    spacing, shape = 1.3, (160, 180, 160)
    turned = np.eye(4)
    turned[:3, :3] = spacing * Rotation.from_euler("xyz", (8, -4, 6), degrees=True).as_matrix()
    centre = affine[:3, :3] @ ((np.array(voxels.shape) - 1) / 2) + affine[:3, 3]
    turned[:3, 3] = centre - turned[:3, :3] @ ((np.array(shape) - 1) / 2)
    to_old = np.linalg.inv(affine) @ turned
    here = {"output_shape": shape, "order": 1}
    out = affine_transform(gaussian_filter(voxels, 0.5), to_old, **here)
    mask = affine_transform((voxels > 0).astype(np.float32), to_old, **here) > 0.5
    return np.round(out / out.max() * 900).astype(np.float32), turned, mask


@lru_cache(maxsize=8)
def registered(dataset: str, how: str) -> Work:
    torch.set_num_threads(1)
    voxels, affine, mask = native(dataset)
    if how == "mirrored":
        voxels, mask = (np.ascontiguousarray(a[::-1]) for a in (voxels, mask))
    elif how == "copy":
        voxels, affine, mask = exported_again(voxels, affine)
    work = RegisterToMNI()(Work(Image(voxels, affine), mask))
    assert work.to_mni is not None
    on_grid = to_grid(voxels, work.to_mni @ affine, GRID)
    brain = to_grid(mask.astype(np.float32), work.to_mni @ affine, GRID) > 0.5
    return Work(work.image, mask, work.to_mni, on_grid, brain, work.findings)


def print_of(dataset: str, how: str) -> Fingerprint:
    work = registered(dataset, how)
    assert work.on_grid is not None
    assert work.brain_on_grid is not None
    return fingerprint(work.on_grid, work.brain_on_grid, GRID)


@pytest.mark.parametrize("dataset", STRIPPED)
def test_a_real_stripped_head_passes(dataset: str) -> None:
    work = registered(dataset, "plain")
    found = measure_scan(work, read_header(path_of(dataset), work.image.voxels), GRID)
    assert judge_scan(found, LIMITS).reasons == ()
    assert found.noise_percent is None
    assert found.white_over_grey is not None
    assert 1.2 < found.white_over_grey < 1.8
    assert 1200 < found.brain_ml < 1800


def test_a_copy_and_a_mirrored_session_of_a_real_head_are_found() -> None:
    first, second = STRIPPED
    scans = [
        KnownScan("plain", "sub-1", "", "1", print_of(first, "plain")),
        KnownScan("copy", "sub-2", "", "2", print_of(first, "copy")),
        KnownScan("before", "sub-3", "ses-1", "3", print_of(second, "plain")),
        KnownScan("after", "sub-3", "ses-2", "4", print_of(second, "mirrored")),
    ]
    found = {key: [r.id for r in reasons] for key, reasons in flip_reasons(scans, LIMITS).items()}
    assert found == {"before": ["mirrored-session"], "after": ["mirrored-session"]}
    copies = duplicate_reasons(scans, LIMITS)
    assert {key: {r.id for r in reasons} for key, reasons in copies.items()} == {
        "plain": {"copied-image"},
        "copy": {"copied-image"},
        "before": {"repeated-image"},
        "after": {"repeated-image"},
    }
