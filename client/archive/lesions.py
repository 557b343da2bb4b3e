"""Lesion masks that people of the hospital drew, as BIDS derivatives beside the archive.

``derivatives/lesions/sub-XX/[ses-YY/]anat/sub-XX[_ses-YY]_*desc-lesion_mask.nii.gz`` or
``..._dseg.nii.gz``, on the voxels of the T1w image that it belongs to. A scan without a lesion has
a mask of zeros: a missing file says that nobody has looked, not that there is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
from scipy.ndimage import label

from client.archive.nifti import UNREADABLE
from client.archive.patients import Patient, Scan
from client.archive.problems import Defect, Problem
from client.archive.scan_files import check_inside
from shared_model.errors import SmrfedError

FOLDER = Path("derivatives") / "lesions"
#: More than these in one scan are noise that was taken for lesions.
MAX_LESIONS = 500
_ENDS = ("_desc-lesion_mask.nii.gz", "_desc-lesion_mask.nii", "_dseg.nii.gz", "_dseg.nii")
# Headers are written in float32: a matrix that went through it differs by this much, mm.
_TOLERANCE_MM = 1e-3
_SHOWN = 5

Numbers = npt.NDArray[np.int16]


@dataclass(frozen=True, eq=False)
class LesionMap:
    """The lesions of one scan on the scan's own voxels.

    Attributes:
        numbers: ``(I, J, K)``: 0 for none, 1..n.
        affine: ``(4, 4)`` stored voxel to mm, as the scan's.
    """

    numbers: Numbers
    affine: npt.NDArray[np.float64]


def lesion_file(root: Path, patient: Patient, scan: Scan) -> Path | None:
    """The mask of a scan, or None where there is none yet.

    Raises SMR-E225 where several claim to be it, SMR-E211 for one outside the archive.
    """
    stem = f"{patient.id}_{scan.session}_" if scan.session else f"{patient.id}_"
    folder = root / FOLDER / patient.id / scan.session / "anat"
    if not folder.is_dir():
        return None
    found = sorted(
        path
        for path in folder.iterdir()
        if path.name.startswith(stem)
        and path.name.endswith(_ENDS)
        and (scan.session or not path.name.startswith(f"{patient.id}_ses-"))
    )
    if len(found) > 1:
        raise SmrfedError(
            "SMR-E225",
            "several lesion masks of one scan",
            expected="one *_desc-lesion_mask.nii.gz or *_dseg.nii.gz per scan",
            found=", ".join(map(str, found[:_SHOWN])),
            remedy="keep the mask that is right, and take the others out of derivatives/lesions",
        )
    if not found:
        return None
    try:
        check_inside(root.resolve(), found[0])
    except Defect as defect:
        raise defect.error() from None
    return found[0]


def read_lesions(root: Path, patient: Patient, scan: Scan) -> LesionMap:
    """The lesions of one scan, numbered.

    A file with one value beside 0 holds lesions that touch nobody: its connected components
    (26 neighbours) are counted through. In a file with several values each is one lesion.

    Raises SMR-E225 (missing, or several), E226 (not on the scan's voxels), E227 (not numbers of
    lesions), E228 (too many), SMR-E211 and E212 (a link that leads away, or an unreadable file).
    """
    path = lesion_file(root, patient, scan)
    if path is None:
        raise _missing([f"{patient.id} {scan.session}".strip()])
    try:
        mask, image = nibabel.load(str(path)), nibabel.load(str(scan.path))
        # Before the voxels are read: a small file can claim more of them than memory holds.
        shape = mask.shape[:3] if set(mask.shape[3:]) <= {1} else mask.shape
        _check_place(path, shape, mask.affine, image.shape[:3], image.affine)
        values = np.asarray(mask.dataobj, dtype=np.float64).reshape(shape)
    except (*UNREADABLE, TypeError) as error:  # TypeError: colours
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise Defect(Problem.UNREADABLE_IMAGE, f"{path}: {reason}").error() from None
    return LesionMap(_numbered(path, values), np.asarray(mask.affine, dtype=np.float64))


def require_masks(root: Path, patients: Iterable[Patient]) -> None:
    """Raise one SMR-E225 for all scans without a mask."""
    without = [
        f"{patient.id} {scan.session}".strip()
        for patient in patients
        for scan in patient.scans
        if lesion_file(root, patient, scan) is None
    ]
    if without:
        raise _missing(without)


def divided_by_mask(
    root: Path, patients: Sequence[Patient]
) -> tuple[tuple[Patient, ...], tuple[Patient, ...]]:
    """Patients with the scans that have a mask, and patients with those that nobody marked yet."""
    marked: list[Patient] = []
    others: list[Patient] = []
    for patient in patients:
        parts: tuple[list[Scan], list[Scan]] = ([], [])
        for scan in patient.scans:
            parts[lesion_file(root, patient, scan) is None].append(scan)
        for scans, side in zip(parts, (marked, others), strict=True):
            if scans:
                side.append(replace(patient, scans=tuple(scans)))
    return tuple(marked), tuple(others)


def _check_place(
    path: Path,
    shape: tuple[int, ...],
    affine: npt.NDArray[np.float64],
    scan_shape: tuple[int, ...],
    scan_affine: npt.NDArray[np.float64],
) -> None:
    """The mask's outermost voxel centres must lie where the scan's do."""
    expected, found = f"{scan_shape}", f"{shape}"
    if tuple(shape) == tuple(scan_shape):
        corners = np.array(np.meshgrid(*[(0, side - 1) for side in shape])).reshape(3, -1)
        corners = np.vstack([corners, np.ones(corners.shape[1])])
        off = float(np.abs((affine - scan_affine) @ corners).max())
        if off <= _TOLERANCE_MM:
            return
        expected, found = f"corners within {_TOLERANCE_MM:g} mm of the scan's", f"{off:.4g} mm off"
    raise SmrfedError(
        "SMR-E226",
        "a lesion mask does not lie on the voxels of its scan",
        expected=expected,
        found=f"{path}: {found}",
        remedy="draw the mask on the T1w image of the archive itself, or resample it to that image "
        "with nearest neighbours",
    )


def _numbered(path: Path, real: npt.NDArray[np.float64]) -> Numbers:
    # A stored slope may leave 0.99999 for 1.
    whole = np.rint(real)
    if not np.isfinite(real).all() or (np.abs(real - whole) > 1e-3).any() or (whole < 0).any():
        raise SmrfedError(
            "SMR-E227",
            "a lesion mask holds something else than numbers of lesions",
            expected="0 where there is no lesion, and whole numbers above 0",
            found=f"{path}: from {np.nanmin(real):g} to {np.nanmax(real):g}",
            remedy="save the mask as a label image, not as probabilities",
        )
    found = np.unique(whole)
    kinds = found[found > 0]
    if len(kinds) == 1:
        numbers, count = label(whole > 0, structure=np.ones((3, 3, 3)))
    else:
        numbers, count = np.searchsorted(kinds, whole) + 1, len(kinds)
        numbers[whole == 0] = 0
    if count > MAX_LESIONS:
        raise SmrfedError(
            "SMR-E228",
            "a lesion mask holds too many lesions",
            expected=f"at most {MAX_LESIONS}",
            found=f"{path}: {count}",
            remedy="look at the mask: single voxels that a threshold left are no lesions",
        )
    return np.asarray(numbers, dtype=np.int16)


def _missing(scans: list[str]) -> SmrfedError:
    shown = "; ".join(scans[:_SHOWN])
    return SmrfedError(
        "SMR-E225",
        "scans have no lesion mask",
        expected=f"{FOLDER}/sub-XX/[ses-YY/]anat/*_desc-lesion_mask.nii.gz or *_dseg.nii.gz of "
        "every scan, of zeros where there is no lesion",
        found=shown if len(scans) <= _SHOWN else f"{len(scans)} scans, among them {shown}",
        remedy='mark the scans (smrfed-site annotate proposes masks), or set missing_masks = "skip"'
        " in site.toml to leave them out",
    )
