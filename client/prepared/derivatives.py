"""Prepared scans as a BIDS derivatives dataset, for people and other software."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt

from client.agent.durable import TEMPORARY, write_durably, write_if_changed
from client.prepared.assessment import AssessedScan
from client.prepared.native_store import NativeStore
from shared_model.grid import ModelGrid

#: The template's name in BIDS: nilearn packages the symmetric 2009a version.
SPACE = "MNI152NLin2009aSym"
# Tables and the page are for people; BIDS knows nothing of them.
_NOT_BIDS = b"*.tsv\n*.html\n*_xfm.txt\n"


def write_derivatives(
    folder: Path, scans: Sequence[AssessedScan], store: NativeStore, grid: ModelGrid
) -> None:
    """Write or bring up to date one dataset; scans that are unchanged are not written again.

    Per scan: the volume and the brain mask on the model grid, the matrix from the scanner to MNI152
    and sidecars with provenance. What belongs to no scan of the archive any more is taken out.
    Nothing names a path of the archive. Raises OSError, and SMR-E286 for a damaged volume.
    """
    write_if_changed(folder / "dataset_description.json", _json(_description()))
    write_if_changed(folder / ".bidsignore", _NOT_BIDS)
    written = {path for scan in scans for path in _write_scan(folder, scan, store, grid)}
    current = {scan.patient.id for scan in scans}
    for subject in folder.glob("sub-*"):
        if subject.name not in current:
            shutil.rmtree(subject)
        else:
            _take_out(subject, written)


def _take_out(subject: Path, written: set[Path]) -> None:
    """Remove every file below that is none of ours, and the folders that this empties."""
    for path in list(subject.rglob("*")):
        if path.is_dir() or path in written or path.name.endswith(TEMPORARY):
            continue
        path.unlink(missing_ok=True)
        # Only these: another process may have just made a folder that it is about to fill.
        for folder in path.relative_to(subject).parents:
            with suppress(OSError):
                (subject / folder).rmdir()


def _write_scan(
    folder: Path, scan: AssessedScan, store: NativeStore, grid: ModelGrid
) -> tuple[Path, ...]:
    """Write one scan's files where they are missing or of another recipe; returns all of them."""
    record, session = scan.record, scan.scan.session
    name = "_".join(part for part in (scan.patient.id, session) if part)
    anat = folder / scan.patient.id / session / "anat"
    placed = f"{name}_space-{SPACE}_res-{f'{grid.spacing_mm:g}'.replace('.', 'p')}mm"
    sidecar = anat / f"{placed}_desc-prepared_T1w.json"
    volume_path, mask_path = (
        anat / f"{placed}_desc-{end}.nii.gz" for end in ("prepared_T1w", "brain_mask")
    )
    mask_sidecar = anat / f"{placed}_desc-brain_mask.json"
    matrix_path = anat / f"{name}_from-scanner_to-{SPACE}_mode-image_xfm.txt"
    files = (sidecar, volume_path, mask_path, mask_sidecar, matrix_path)
    resolution = f"isotropic voxels of {grid.spacing_mm:g} mm, the model grid"
    body = _json(
        {
            "SourceSHA256": record.source_sha256,
            "RecipeSHA256": store.digest,
            "SkullStripped": record.steps[-1]["parameters"]["strip"],
            "Resolution": resolution,
            "Units": "robust z-score within the brain",
            "Steps": [dict(step) for step in record.steps],
            "Findings": dict(record.findings),
        }
    )
    if all(path.exists() for path in files) and sidecar.read_bytes() == body:
        return files
    brain = store.brain(record.source_sha256)
    if brain is None:
        raise store.unprepared(record.source_sha256)
    # The sidecar says that the others are there: it goes first and comes last.
    sidecar.unlink(missing_ok=True)
    write_durably(volume_path, _nifti(store.volume(scan.scan), grid))
    write_durably(mask_path, _nifti(brain.astype(np.uint8), grid))
    write_durably(mask_sidecar, _json({"Type": "Brain", "Resolution": resolution}))
    matrix = "\n".join(" ".join(f"{x:.9g}" for x in row) for row in record.to_mni or ())
    write_durably(matrix_path, f"{matrix}\n".encode())
    write_durably(sidecar, body)
    return files


def _json(content: object) -> bytes:
    return json.dumps(content, indent=1).encode()


def _nifti(voxels: npt.NDArray[np.float32] | npt.NDArray[np.uint8], grid: ModelGrid) -> bytes:
    import nibabel

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
