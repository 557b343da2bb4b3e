"""One scan, already in MNI152 space, to one model input."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from client.archive.nifti import read_volume
from client.archive.problems import Defect, Problem
from client.prepared.brain_mask import find_brain
from client.prepared.intensity import Intensity, standardise
from client.prepared.resample import Volume, to_grid, voxels_sha256
from client.preprocessing.label_image import refuse_labels
from client.quality.header import count_grey_levels
from shared_model.grid import ModelGrid

#: Part of every cache key: raise it with any change of what a prepared voxel is.
PIPELINE_VERSION = 1
#: Adult brains with their CSF have 1000 to 2000 ml; less than this is a wrong or misplaced image.
MIN_BRAIN_ML = 500.0
#: More than this part of the image away from the MNI152 brain is a skull, or another space.
MAX_ELSEWHERE = 0.25


@dataclass(frozen=True, eq=False)
class PreparedScan:
    """A model input and where it comes from, without a name or a path.

    Attributes:
        volume: ``(D, H, W)`` float32.
        source_sha256: of the file's bytes.
        voxels_sha256: of the image's voxels in RAS+.
        brain_ml: brain found in the MNI152 field of view.
    """

    volume: Volume
    source_sha256: str
    voxels_sha256: str
    brain_ml: float


def prepare_scan(path: Path, grid: ModelGrid, intensity: Intensity) -> PreparedScan:
    """Read a scan, turn it to RAS+, resample it to the grid and standardise it.

    The scan must be linearly aligned to MNI152 and skull-stripped; alignment and stripping are not
    done here. Deterministic, and a function of this scan alone. Raises a Defect: SMR-E212 to E215
    for the file, SMR-E248 for a segmentation, SMR-E240 when there is less than 500 ml of brain
    where MNI152 has one, or over a quarter of the image elsewhere.
    """
    raw = read_volume(path)
    try:
        refuse_labels(raw.voxels, count_grey_levels(raw.voxels))
    except Defect as defect:
        raise Defect(defect.kind, f"{path}: {defect.case}") from None
    on_grid = to_grid(raw.voxels, raw.affine, grid)
    brain = find_brain(on_grid, grid)
    if brain.foreground_ml < MIN_BRAIN_ML:
        found = f"{brain.foreground_ml:.0f} ml of brain where MNI152 has one"
        raise Defect(Problem.NOT_IN_MNI, f"{path}: {found}")
    if brain.elsewhere > MAX_ELSEWHERE:
        found = f"{brain.elsewhere:.0%} of the image lies beside the MNI152 brain"
        raise Defect(Problem.NOT_IN_MNI, f"{path}: {found}")
    try:
        volume = standardise(on_grid, brain.mask, intensity)
    except ValueError as error:
        raise Defect(Problem.BAD_VOXELS, f"{path}: {error}") from None
    return PreparedScan(
        volume,
        raw.file_sha256,
        voxels_sha256(raw.voxels, raw.affine),
        brain.foreground_ml,
    )
