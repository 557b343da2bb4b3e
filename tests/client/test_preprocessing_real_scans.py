"""Public scans of real heads go through every step; a phantom does not."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from client.archive.nifti import read_volume
from client.archive.problems import Defect, Problem
from client.prepared.brain_mask import brain_prior
from client.prepared.resample import to_grid
from client.preprocessing.bias_field import CorrectBiasField
from client.preprocessing.brain_extraction import ExtractBrain, deepbet_mask, stripped_foreground
from client.preprocessing.image import Image, Work
from client.preprocessing.region_volumes import region_volumes
from client.preprocessing.registration import RegisterToMNI
from client.preprocessing.reorient import Reorient
from client.preprocessing.resample_step import Resample
from client.preprocessing.template import mni_template
from shared_model.atlas.seeded import seeded_atlas
from shared_model.grid import ModelGrid

_HERE = Path(__file__).parents[2]
DATA = Path(os.environ.get("SMRFED_SHARED_DATA", _HERE.parent / "shared" / "data"))
GRID = ModelGrid(spacing_mm=2.0)
# Whether others stripped it already. Only the anisotropic head is fast enough for every run.
SCANS = [
    pytest.param("ucla/sub-10", False),
    pytest.param("ucla/sub-01", False, marks=pytest.mark.slow),
    pytest.param("brainchop/sub-01", False, marks=pytest.mark.slow),
    pytest.param("colin27/sub-01", True, marks=pytest.mark.slow),
    pytest.param("niimathdemo/sub-01", True, marks=pytest.mark.slow),
    pytest.param("novosibirsk/sub-01", True, marks=pytest.mark.slow),
]
PHANTOM = DATA / "dicom" / "ge_signa_pioneer_mprage_PHANTOM.tar.gz"

pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"no public scans at {DATA}; set SMRFED_SHARED_DATA to their folder"
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def scan(path: Path) -> Work:
    raw = read_volume(path)
    return Work(Image(raw.voxels, raw.affine))


@pytest.mark.parametrize(("subject", "stripped"), SCANS)
def test_a_real_head_is_aligned_the_right_way_round(subject: str, stripped: bool) -> None:
    (path,) = (DATA / "bids" / subject / "anat").glob("*_T1w.nii.gz")
    work = scan(path)
    for step in (Reorient(), ExtractBrain(), CorrectBiasField(), RegisterToMNI(), Resample(GRID)):
        work = step(work)
    found = work.findings
    assert found["already_stripped"] is stripped
    assert 1200 < found["brain_ml"] < 1900
    assert found["mask_touches_edge"] == 0
    assert found["registration_method"] == "correlation"
    assert found["registration_dice"] > 0.94
    assert found["registration_correlation"] > 0.55
    assert found["brain_outside_grid"] < 0.01
    assert work.on_grid is not None
    assert work.brain_on_grid is not None
    # Turned about any axis it fits worse than as it is.
    template = gaussian_filter(to_grid(mni_template().brain.copy(), mni_template().affine, GRID), 1)
    inside = brain_prior(GRID).brain & work.brain_on_grid
    here = np.corrcoef(work.on_grid[inside], template[inside])[0, 1]
    for axes in ((0, 1), (0, 2), (1, 2)):
        turned = np.flip(work.on_grid, axes)
        assert np.corrcoef(turned[inside], template[inside])[0, 1] < here - 0.1
    volumes = region_volumes(work, seeded_atlas())
    assert volumes.plausible
    assert 1.1 < volumes.brain_gm_mm3 / volumes.brain_wm_mm3 < 2.2
    assert volumes.template_scaled_mm3 == pytest.approx(volumes.brain_mask_mm3, rel=0.1)
    if stripped:
        original = Reorient()(scan(path)).image
        voxel_ml = float(abs(np.linalg.det(original.affine[:3, :3]))) / 1000
        truth = stripped_foreground(original.voxels, voxel_ml)
        assert truth is not None
        mask = deepbet_mask(original)
        assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.95


@pytest.mark.slow
def test_a_phantom_is_refused_though_a_brain_is_found_in_it(tmp_path: Path) -> None:
    with tarfile.open(PHANTOM) as archive:
        archive.extractall(tmp_path / "dicom", filter="data")
    dcm2niix = pytest.importorskip("dcm2niix").bin
    command = [dcm2niix, "-z", "y", "-b", "n", "-f", "phantom", "-o", tmp_path, tmp_path / "dicom"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    work = ExtractBrain()(Reorient()(scan(tmp_path / "phantom.nii.gz")))
    assert 1000 < work.findings["brain_ml"] < 2000
    with pytest.raises(Defect) as raised:
        RegisterToMNI()(CorrectBiasField()(work))
    assert raised.value.kind is Problem.NOT_REGISTERED
