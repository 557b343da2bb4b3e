"""Prepared scans as a BIDS derivatives dataset, for people and other software."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt

from client.agent.durable import write_durably
from client.prepared.assessment import AssessedScan
from client.prepared.native_store import NativeStore
from shared_model.grid import ModelGrid

#: The template's name in BIDS: nilearn packages the symmetric 2009a version.
SPACE = "MNI152NLin2009aSym"
_DESCRIPTION = "dataset_description.json"


def write_derivatives(
    folder: Path, scans: Sequence[AssessedScan], store: NativeStore, grid: ModelGrid
) -> None:
    """Write or bring up to date one dataset; scans that are unchanged are not written again.

    Per scan: the volume and the brain mask on the model grid, the matrix from the scanner to MNI152
    and a sidecar with provenance. Subjects that are gone from the archive are taken out. Nothing
    names a path of the archive. Raises OSError.
    """
    ours = folder / _DESCRIPTION
    if not ours.exists():
        write_durably(ours, json.dumps(_description(), indent=1).encode())
    current = {scan.patient.id for scan in scans}
    for subject in folder.glob("sub-*"):
        if subject.name not in current:
            shutil.rmtree(subject)
    for scan in scans:
        _write_scan(folder, scan, store, grid)


def _write_scan(folder: Path, scan: AssessedScan, store: NativeStore, grid: ModelGrid) -> None:
    record, session = scan.record, scan.scan.session
    name = "_".join(part for part in (scan.patient.id, session) if part)
    anat = folder / scan.patient.id / session / "anat"
    placed = f"{name}_space-{SPACE}_res-{grid.spacing_mm:g}mm".replace(".", "p")
    sidecar = anat / f"{placed}_desc-prepared_T1w.json"
    content = {
        "SourceSHA256": record.source_sha256,
        "RecipeSHA256": store.digest,
        "SkullStripped": record.steps[-1]["parameters"]["strip"],
        "Units": "robust z-score within the brain",
        "Steps": [dict(step) for step in record.steps],
        "Findings": dict(record.findings),
    }
    body = json.dumps(content, indent=1).encode()
    if sidecar.exists() and sidecar.read_bytes() == body:
        return
    volume, brain = store.volume(scan.scan), store.brain(record.source_sha256)
    write_durably(anat / f"{placed}_desc-prepared_T1w.nii.gz", _nifti(volume, grid))
    if brain is not None:
        write_durably(
            anat / f"{placed}_desc-brain_mask.nii.gz", _nifti(brain.astype(np.uint8), grid)
        )
    matrix = "\n".join(" ".join(f"{x:.9g}" for x in row) for row in record.to_mni or ())
    write_durably(
        anat / f"{name}_from-scanner_to-{SPACE}_mode-image_xfm.txt", f"{matrix}\n".encode()
    )
    # Last: it says that the others are there.
    write_durably(sidecar, body)


def _nifti(voxels: npt.NDArray[np.float32] | npt.NDArray[np.uint8], grid: ModelGrid) -> bytes:
    image = nibabel.Nifti1Image(voxels, grid.affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(grid.affine, code="mni")
    image.set_qform(grid.affine, code="mni")
    # No time of day in the gzip header: the same scan, the same bytes.
    return gzip.compress(image.to_bytes(), compresslevel=4, mtime=0)


def _description() -> dict[str, object]:
    return {
        "Name": "smrfed prepared scans",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "smrfed", "Version": version("smrfed")}],
    }
