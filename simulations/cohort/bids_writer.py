"""A hospital's archive as BIDS: what a real site would point smrfed at."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from shared_model.atlas.cache import write_atomically
from shared_model.grid import FIELD_OF_VIEW_CORNER_MM, FIELD_OF_VIEW_MM
from simulations.cohort.clinical import clinical_of
from simulations.cohort.course import course_of
from simulations.cohort.spec import SiteSpec, Triple
from simulations.cohort.subject import Subject, Visit
from simulations.cohort.template import Image

BIDS_VERSION = "1.10.0"
# Bytes of a NIfTI-1 header with an empty extension.
_DATA_OFFSET = 352


def native_grid(site: SiteSpec) -> tuple[npt.NDArray[np.float64], tuple[int, int, int]]:
    """RAS+ affine ``(4, 4)`` in mm, and shape, of a site's field of view before reorientation.

    ``voxel_mm`` names the stored axes, so it is permuted back to right, anterior, superior.
    """
    order = axcodes2ornt(site.orientation)[:, 0].astype(int)
    voxel = np.empty(3)
    voxel[order] = site.voxel_mm
    x, y, z = (round(side / size) for side, size in zip(FIELD_OF_VIEW_MM, voxel, strict=True))
    affine = np.diag([*voxel, 1.0])
    affine[:3, 3] = np.asarray(FIELD_OF_VIEW_CORNER_MM) + voxel / 2
    return affine, (x, y, z)


def ras_voxel_mm(site: SiteSpec) -> Triple:
    """Voxel size of a site along right, anterior, superior."""
    x, y, z = np.diagonal(native_grid(site)[0])[:3]
    return float(x), float(y), float(z)


def encode_nifti(scan: Image, affine: npt.NDArray[np.float64], orientation: str) -> bytes:
    """A gzipped NIfTI-1 with int16 voxels, ``scl_slope``, and the axes stored as asked.

    Args:
        scan: ``(X, Y, Z)`` RAS+, non-negative.
        affine: ``(4, 4)`` of the RAS+ array, mm.
        orientation: stored axes, such as LAS.

    Returns:
        The same bytes for the same scan (no time stamp).
    """
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(orientation))
    stored = nibabel.orientations.apply_orientation(scan, turn)
    stored_affine = affine @ inv_ornt_aff(turn, scan.shape)
    top = float(stored.max())
    slope = top / 32000 if top > 0 else 1.0
    image = nibabel.Nifti1Image(np.rint(stored / slope).astype(np.int16), stored_affine)
    image.header.set_slope_inter(slope, 0)
    image.header.set_xyzt_units("mm", "sec")
    # 4: MNI152, the space that a linear registration left the scan in.
    image.set_sform(stored_affine, 4)
    image.set_qform(stored_affine, 4)
    # Voxels are integers already; nibabel would scale an array with a slope a second time.
    image.header.set_data_offset(_DATA_OFFSET)
    header = io.BytesIO()
    image.header.write_to(header)
    voxels = np.asarray(image.dataobj, dtype="<i2").tobytes(order="F")
    plain = header.getvalue().ljust(_DATA_OFFSET, b"\0") + voxels
    return gzip.compress(plain, compresslevel=4, mtime=0)


def scan_path(archive: Path, subject: Subject, visit: Visit) -> Path:
    """Where a visit's T1w image lies in the archive."""
    stem = f"sub-{subject.participant}_ses-{visit.session}"
    folder = archive / f"sub-{subject.participant}" / f"ses-{visit.session}" / "anat"
    return folder / f"{stem}_T1w.nii.gz"


def write_sessions(archive: Path, subject: Subject) -> None:
    """``sub-XX_sessions.tsv``: session_id, age (years), diagnosis, months since the first, MMSE.

    A patient with MCI has further rows: the yearly visits without a scan. Written only where it
    would change, so that older cohorts get their rows.
    """
    first = subject.visits[0]
    rows: list[tuple[str, ...]] = [
        (
            f"ses-{v.session}",
            f"{v.age:.1f}",
            subject.diagnosis,
            f"{12 * (v.age - first.age):.1f}",
            score,
        )
        for v, score in zip(subject.visits, clinical_of(subject).mmse, strict=True)
    ]
    course = course_of(subject)
    rows += [
        (f"ses-{v.session}", f"{v.age:.1f}", v.diagnosis, f"{v.months:.1f}", "n/a")
        for v in (course.visits if course else ())
    ]
    name = f"sub-{subject.participant}"
    path = archive / name / f"{name}_sessions.tsv"
    columns = ("session_id", "age", "diagnosis", "months", "mmse")
    if not path.exists() or path.read_text("utf-8") != _tsv_text(columns, rows):
        write_tsv(path, columns, rows)


def write_archive_head(archive: Path, site: SiteSpec, subjects: Sequence[Subject]) -> None:
    """``dataset_description.json``, ``README``, ``participants.tsv`` and its columns' meaning."""
    _write_json(
        archive / "dataset_description.json",
        {
            "Name": f"smrfed synthetic archive of {site.name}",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "raw",
            "License": "CC0",
            "GeneratedBy": [{"Name": "smrfed", "Description": "simulations.cohort: nobody's head"}],
        },
    )
    write_atomically(
        archive / "README",
        b"Synthetic T1-weighted images: deformed MNI152 template (see the NOTICE of smrfed).\n"
        b"Skull-stripped, linearly registered to MNI152. No person was scanned.\n",
    )
    _write_json(
        archive / "T1w.json",
        {
            "SkullStripped": True,
            "Modality": "MR",
            "Manufacturer": "Simulated",
            "ManufacturersModelName": site.name,
        },
    )
    _write_json(
        archive / "participants.json",
        {
            "age": {"Description": "age at the first session", "Units": "year"},
            "sex": {"Levels": {"F": "female", "M": "male"}},
            "education": {"Description": "years of education", "Units": "year"},
            "apoe4": {"Description": "APOE e4 alleles, 0 to 2"},
        },
    )
    rows = []
    for subject in subjects:
        known = clinical_of(subject)
        age = f"{subject.visits[0].age:.1f}"
        name = f"sub-{subject.participant}"
        rows.append((name, age, subject.sex, known.education, known.apoe4))
    columns = ("participant_id", "age", "sex", "education", "apoe4")
    write_tsv(archive / "participants.tsv", columns, rows)


def write_tsv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A tab-separated table, whole or not at all."""
    write_atomically(path, _tsv_text(columns, rows).encode())


def _tsv_text(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["\t".join(columns), *("\t".join(row) for row in rows)]
    return "\n".join(lines) + "\n"


def _write_json(path: Path, content: dict[str, object]) -> None:
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())
