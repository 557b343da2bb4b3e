"""Hospitals' BIDS archives with lesions in the scans and masks in the derivatives."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from client.archive.lesions import FOLDER
from shared_model.atlas.cache import write_atomically
from simulations.cohort.anatomy import build_head, render
from simulations.cohort.bids_writer import (
    encode_nifti,
    native_grid,
    ras_voxel_mm,
    scan_path,
    write_archive_head,
    write_sessions,
)
from simulations.cohort.cohort import all_subjects, run_patients
from simulations.cohort.generate import scanner_of
from simulations.cohort.scanner import apply_scanner
from simulations.cohort.spec import CohortSpec
from simulations.cohort.subject import Subject, Visit
from simulations.lesions.kinds import LesionKind
from simulations.lesions.planting import Numbers, plant_lesions


def write_lesion_cohort(
    spec: CohortSpec, kinds: Sequence[LesionKind], out: Path, workers: int = 2
) -> None:
    """Write ``OUT/KIND/SITE`` archives with truth as masks; finished patients are kept.

    The same heads, scanners and noise for every kind: only the lesions differ.
    """
    subjects = all_subjects(spec)
    for kind in kinds:
        for site in spec.sites:
            own = [subject for subject in subjects if subject.site.name == site.name]
            archive = archive_of(out, kind, site.name)
            write_archive_head(archive, site, own)
            description = {
                "Name": f"synthetic {kind.name} lesions of {site.name}",
                "BIDSVersion": "1.10.0",
                "DatasetType": "derivative",
                "GeneratedBy": [{"Name": "smrfed", "Description": "simulations.lesions: truth"}],
            }
            write_atomically(
                archive / FOLDER / "dataset_description.json",
                (json.dumps(description, indent=2) + "\n").encode(),
            )
    waiting = [
        s
        for s in subjects
        if not _mask_path(archive_of(out, kinds[-1], s.site.name), s, s.visits[0]).exists()
    ]
    run_patients(partial(_write_patient, tuple(kinds), out), waiting, workers)


def archive_of(out: Path, kind: LesionKind, site: str) -> Path:
    """Where one hospital's archive of one kind lies."""
    return out / kind.name / site


def _mask_path(archive: Path, subject: Subject, visit: Visit) -> Path:
    scan = scan_path(archive, subject, visit)
    name = scan.name.replace("_T1w", "_desc-lesion_mask")
    return archive / FOLDER / scan.relative_to(archive).parent / name


def _write_patient(kinds: tuple[LesionKind, ...], out: Path, subject: Subject) -> None:
    site = subject.site
    affine, shape = native_grid(site)
    # The first visit's last mask marks the end.
    for visit in reversed(subject.visits):
        clean, _, brain = render(build_head(subject, visit), affine, shape)
        for kind in kinds:
            archive = archive_of(out, kind, site.name)
            # Each visit has lesions of its own: nobody is followed here.
            rng = subject.rng(f"lesions-{kind.name}-{visit.session}")
            image, numbers = plant_lesions(clean, brain, affine, kind, rng)
            image = apply_scanner(
                image, scanner_of(subject), subject.rng(f"scan-{visit.session}"), ras_voxel_mm(site)
            )
            write_atomically(
                scan_path(archive, subject, visit), encode_nifti(image, affine, site.orientation)
            )
            write_sessions(archive, subject)
            mask = encode_numbers(np.minimum(numbers, 1), affine, site.orientation)
            write_atomically(_mask_path(archive, subject, visit), mask)


def encode_numbers(numbers: Numbers, affine: npt.NDArray[np.float64], orientation: str) -> bytes:
    """A gzipped NIfTI-1 of uint8 numbers, axes stored as asked; the same bytes every time."""
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(orientation))
    stored = nibabel.orientations.apply_orientation(numbers, turn)
    place = affine @ inv_ornt_aff(turn, numbers.shape)
    image = nibabel.Nifti1Image(np.ascontiguousarray(stored, dtype=np.uint8), place)
    image.set_sform(place, 4)
    image.set_qform(place, 4)
    image.header.set_xyzt_units("mm", "sec")
    plain = io.BytesIO()
    image.to_file_map(
        {"header": nibabel.FileHolder(fileobj=plain), "image": nibabel.FileHolder(fileobj=plain)}
    )
    return gzip.compress(plain.getvalue(), compresslevel=4, mtime=0)
