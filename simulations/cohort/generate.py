"""One patient from nothing to files, with the truth measured on the deformed labels."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shared_model.atlas.cache import write_atomically
from simulations.cohort.anatomy import anatomy_volume, build_head, measure, render
from simulations.cohort.bids_writer import (
    encode_nifti,
    native_grid,
    ras_voxel_mm,
    scan_path,
    write_sessions,
)
from simulations.cohort.scanner import apply_scanner, random_scanner
from simulations.cohort.spec import ScannerModel
from simulations.cohort.subject import Subject, Visit
from simulations.cohort.template import Image


@dataclass(frozen=True, eq=False)
class Scan:
    """One acquired image and what is true of the head in it.

    Attributes:
        image: ``(X, Y, Z)`` float32, RAS+, on the site's grid.
        affine: ``(4, 4)``, mm.
        region_ml: ``(R,)`` millilitres.
        icv_ml: millilitres of brain and CSF.
    """

    image: Image
    affine: npt.NDArray[np.float64]
    region_ml: npt.NDArray[np.float64]
    icv_ml: float


def acquire(subject: Subject, visit: Visit) -> Scan:
    """Scan a visit at the patient's hospital (0.5 to 1 s)."""
    affine, shape = native_grid(subject.site)
    head = build_head(subject, visit)
    clean, labels, brain = render(head, affine, shape)
    voxel_mm = ras_voxel_mm(subject.site)
    region_ml, icv_ml = measure(head, labels, brain, float(np.prod(voxel_mm)))
    rng = subject.rng(f"scan-{visit.session}")
    image = apply_scanner(clean, scanner_of(subject), rng, voxel_mm)
    return Scan(image, affine, region_ml, icv_ml)


def scanner_of(subject: Subject) -> ScannerModel:
    """The hospital's scanner, or the patient's own random one."""
    scanner = subject.site.scanner
    return random_scanner(subject.rng("scanner")) if scanner == "random" else scanner


def write_patient(subject: Subject, archive: Path, truth: Path) -> None:
    """Write a patient's images and session table, and last the truth file: it marks the end."""
    visits = []
    for visit in subject.visits:
        scan = acquire(subject, visit)
        content = encode_nifti(scan.image, scan.affine, subject.site.orientation)
        write_atomically(scan_path(archive, subject, visit), content)
        visits.append(_visit_truth(visit, scan.region_ml, scan.icv_ml))
    write_sessions(archive, subject)
    _write_truth(truth, subject, visits)


def write_anatomy(subject: Subject, volumes: Path, truth: Path) -> None:
    """Write a patient's clean first-visit volume as ``<participant>.npz``, then its truth file.

    The file holds ``volume`` ``(88, 104, 88)`` float16 canonical greys on the 2 mm model grid,
    ``region_ml`` ``(R,)`` and ``icv_ml``.
    """
    visit = subject.visits[0]
    volume, region_ml, icv_ml = anatomy_volume(subject, visit)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, volume=volume.astype(np.float16), region_ml=region_ml, icv_ml=np.asarray(icv_ml)
    )
    write_atomically(volumes / f"{subject.participant}.npz", buffer.getvalue())
    _write_truth(truth, subject, [_visit_truth(visit, region_ml, icv_ml)])


def truth_path(truth: Path, subject: Subject) -> Path:
    """The file whose presence says that a patient is complete."""
    return truth / subject.site.name / f"sub-{subject.participant}.json"


def _visit_truth(
    visit: Visit, region_ml: npt.NDArray[np.float64], icv_ml: float
) -> dict[str, object]:
    return {
        "session": visit.session,
        "age": visit.age,
        "severity": round(visit.severity, 4),
        "coarse": round(visit.coarse, 4),
        "fine": round(visit.fine, 4),
        "icv_ml": round(icv_ml, 3),
        "region_ml": [round(float(ml), 4) for ml in region_ml],
    }


def _write_truth(truth: Path, subject: Subject, visits: list[dict[str, object]]) -> None:
    content = {
        "participant_id": f"sub-{subject.participant}",
        "site": subject.site.name,
        "diagnosis": subject.diagnosis,
        "sex": subject.sex,
        "visits": visits,
    }
    write_atomically(truth_path(truth, subject), json.dumps(content).encode())
