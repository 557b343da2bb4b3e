"""Proposed masks on the hospital's disk: files that a viewer opens, and a list of what to look at.

The folder is a BIDS derivatives dataset. A person corrects a mask where it lies and copies it to
``derivatives/lesions`` of the archive, where training reads it; nothing is trained on before. What
a person has changed is never written over, and a proposal that nobody changed goes once its scan
has a mask.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt

from client.agent.durable import make_private_folder, write_durably
from client.annotation.propose import Proposal, propose
from client.archive.patients import Patient, Scan
from client.prepared.lesion_grid import lesions_to_scan
from client.training.scan_inputs import FieldSource, ScanInputs, VolumeSource
from client.training.site_model import SiteModel
from shared_model.grid import ModelGrid

WORKLIST = "worklist.tsv"
#: Digests of the masks as they were proposed, by path: what differs is a person's work.
PROPOSED = "proposed.json"
_COLUMNS = ("scan", "mask", "confidence", "lesion_ml", "advice")


@dataclass(frozen=True)
class Written:
    """One mask as it lies on the disk; ``corrected``: by a person, whose work it stays.

    ``confidence`` and ``lesion_ml`` are the model's.
    """

    scan: str
    path: Path
    confidence: float
    lesion_ml: float
    confident: bool
    corrected: bool

    @property
    def advice(self) -> str:
        """What a person does with it."""
        if self.corrected:
            return "copy to the archive"
        return "glance" if self.confident else "correct"


def write_proposals(
    folder: Path,
    model: SiteModel,
    patients: Sequence[Patient],
    source: VolumeSource,
    fields: FieldSource,
    about: str,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Written, ...]:
    """Propose a mask for every scan of these patients, on the scan's own voxels.

    Writes ``sub-XX/[ses-YY/]anat/*_desc-lesion_mask.nii.gz`` and the worklist, least sure first.
    ``about`` says which model it was. Everything stays readable by its owner only. Of an earlier
    call, masks that a person changed stay as they are; others are replaced, and removed where their
    scan is not asked for any more.
    """
    make_private_folder(folder)
    before = _Before.read(folder)
    write_durably(folder / "dataset_description.json", _description(about))
    done, total = 0, sum(len(patient.scans) for patient in patients)
    out = []
    for patient in patients:
        inputs = ScanInputs(model, source, patient, fields)
        for index, scan in enumerate(patient.scans):
            (proposal,) = propose(model, inputs.read(index))
            out.append(_write(before, patient, scan, proposal, model.sizes.grid))
            done += 1
            if progress is not None:
                progress(done, total)
    before.remove_all_but({one.path for one in out})
    out.sort(key=lambda one: (one.corrected, one.confidence))
    write_durably(folder / WORKLIST, _worklist(folder, out))
    return tuple(out)


@dataclass(frozen=True)
class _Before:
    """The masks of earlier calls in ``folder``: digest as proposed, by path within it."""

    folder: Path
    proposed: dict[str, str]

    @classmethod
    def read(cls, folder: Path) -> _Before:
        try:
            content = json.loads((folder / PROPOSED).read_bytes())
        except FileNotFoundError:
            content = {}
        return cls(folder, {str(path): str(digest) for path, digest in content.items()})

    def corrected(self, path: Path) -> bool:
        """Whether what lies there is not what was proposed."""
        if not path.exists():
            return False
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        return found != self.proposed.get(str(path.relative_to(self.folder)))

    def write(self, path: Path, content: bytes) -> None:
        """Put a proposal there; noted first, so that a crash makes no person's work of it."""
        self.proposed[str(path.relative_to(self.folder))] = hashlib.sha256(content).hexdigest()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self._note()
        write_durably(path, content)

    def remove_all_but(self, asked: set[Path]) -> None:
        """Proposals of scans that are not asked for any more go, unless somebody changed them."""
        for name in sorted(self.proposed):
            path = self.folder / name
            if path not in asked:
                if not self.corrected(path):
                    path.unlink(missing_ok=True)
                del self.proposed[name]
        self._note()

    def _note(self) -> None:
        content = json.dumps(self.proposed, indent=1, sort_keys=True) + "\n"
        write_durably(self.folder / PROPOSED, content.encode())


def _write(
    before: _Before, patient: Patient, scan: Scan, proposal: Proposal, grid: ModelGrid
) -> Written:
    image = nibabel.load(str(scan.path))
    i, j, k = image.shape[:3]
    affine = np.asarray(image.affine, dtype=np.float64)
    mask = lesions_to_scan(proposal.mask.astype(np.int16), grid, affine, (i, j, k))
    stem = f"{patient.id}_{scan.session}" if scan.session else patient.id
    path = before.folder / patient.id / scan.session / "anat" / f"{stem}_desc-lesion_mask.nii.gz"
    corrected = before.corrected(path)
    if not corrected:
        before.write(path, encode_mask(mask, affine))
    ml = float(mask.sum()) * abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    return Written(stem, path, proposal.confidence, ml, proposal.confident, corrected)


def encode_mask(mask: npt.NDArray[np.int16], affine: npt.NDArray[np.float64]) -> bytes:
    """A gzipped NIfTI-1 of uint8 in MNI152 space; the same bytes every time."""
    image = nibabel.Nifti1Image(mask.astype(np.uint8), affine)
    image.set_sform(affine, 4)
    image.set_qform(affine, 4)
    plain = io.BytesIO()
    holder = nibabel.FileHolder(fileobj=plain)
    image.to_file_map({"header": holder, "image": holder})
    return gzip.compress(plain.getvalue(), compresslevel=4, mtime=0)


def _worklist(folder: Path, rows: Sequence[Written]) -> bytes:
    lines = ["\t".join(_COLUMNS)]
    lines += [
        "\t".join(
            (
                row.scan,
                str(row.path.relative_to(folder)),
                f"{row.confidence:.3f}",
                f"{row.lesion_ml:.2f}",
                row.advice,
            )
        )
        for row in rows
    ]
    return ("\n".join(lines) + "\n").encode()


def _description(about: str) -> bytes:
    content = {
        "Name": "Proposed lesion masks: nobody has looked at them",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "smrfed", "Version": version("smrfed"), "Description": about}],
    }
    return (json.dumps(content, indent=2) + "\n").encode()
