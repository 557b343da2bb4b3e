"""Which scan is explained: one of the archive, or an aligned file beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from client.archive.patients import Patient
from client.archive.problems import Defect, Problems
from client.config import SiteConfig
from client.prepared.pipeline import prepare_scan
from client.prepared.resample import Volume
from client.prepared.scan_fields import ScanFields
from client.prepared.scan_source import scan_source
from client.training.scan_inputs import ScanInputs, volume_of
from client.training.site_model import SiteModel
from shared_model.batch import Inputs
from shared_model.errors import SmrfedError
from shared_model.inputs import input_fields
from shared_model.plan import FederationPlan


@dataclass(frozen=True, eq=False)
class ChosenScan:
    """The scan to explain.

    Attributes:
        title: what the hospital calls it; stays on the hospital's page.
        inputs: of this one scan, as the model takes them.
        volume: ``(D, H, W)`` as prepared.
        voxels_sha256: digest of the original voxels; names the folder.
        age: years, if known; ``sex`` likewise.
    """

    title: str
    inputs: Inputs
    volume: Volume
    voxels_sha256: str
    age: float | None
    sex: str | None


def choose_scan(
    config: SiteConfig,
    plan: FederationPlan,
    model: SiteModel,
    name: str,
    age: float | None,
    sex: str | None,
) -> ChosenScan:
    """A scan by ``SUBJECT`` (its first visit), ``SUBJECT/SESSION``, or the path of a NIfTI file.

    A file must be skull-stripped and aligned to MNI152, and is prepared here; ``age`` and ``sex``
    are then all that is known of the person. Of an archive's scan they stand in for what it lacks.
    Raises SMR-E480 (no such scan), SMR-E481 (a file cannot bring what the model asks for), the
    archive's SMR-E2xx and, for a native scan that was not prepared, SMR-E286.
    """
    if name.endswith((".nii", ".nii.gz")):
        return _file(Path(name), plan, model, age, sex)
    subject, _, session = name.partition("/")
    source = scan_source(config, plan)
    patients = source.patients()
    found = [p for p in patients if p.id.removeprefix("sub-") == subject.removeprefix("sub-")]
    index = _visit(found[0], session) if found else None
    if index is None:
        raise _absent(name, patients, found)
    patient, scan = found[0], found[0].scans[index]
    inputs = ScanInputs(model, source, patient, ScanFields(config, plan)).read(index)
    return ChosenScan(
        title=f"{patient.id} {scan.session}".strip(),
        inputs=inputs,
        volume=volume_of(inputs)[0, 0].cpu().numpy(),
        voxels_sha256=source.voxels_sha256(scan.path),
        age=age if scan.age is None else scan.age,
        sex=sex if patient.sex is None else patient.sex,
    )


def _visit(patient: Patient, session: str) -> int | None:
    if not session:
        return 0
    wanted = session.removeprefix("ses-")
    names = [scan.session.removeprefix("ses-") for scan in patient.scans]
    return names.index(wanted) if wanted in names else None


def _file(
    path: Path, plan: FederationPlan, model: SiteModel, age: float | None, sex: str | None
) -> ChosenScan:
    asked = input_fields(model.entry.batch)
    if asked != ("volume",):
        raise SmrfedError(
            "SMR-E481",
            f"model {plan.model.name!r} cannot read a lone image file",
            expected="a model that asks for the volume alone, or a scan of the archive",
            found=f"it asks for {', '.join(asked)}",
            remedy="name the scan by subject and session, so that the archive brings the rest",
        )
    try:
        made = prepare_scan(path, plan.input.grid, plan.input.intensity)
    except Defect as defect:
        problems = Problems()
        problems.add(defect.kind, defect.case)
        problems.raise_any()
        raise
    volume = torch.from_numpy(np.ascontiguousarray(made.volume))[None, None].to(model.device)
    return ChosenScan(path.name, volume, made.volume, made.voxels_sha256, age, sex)


def _absent(name: str, patients: tuple[Patient, ...], found: list[Patient]) -> SmrfedError:
    visits = ", ".join(scan.session or "(no session)" for scan in found[0].scans) if found else ""
    return SmrfedError(
        "SMR-E480",
        f"the archive has no scan {name!r}",
        expected="SUBJECT or SUBJECT/SESSION as in the archive, or a path that ends in .nii or "
        ".nii.gz",
        found=f"visits {visits}" if found else f"{len(patients)} other people's scans",
        remedy="look the subject up in participants.tsv; scans that failed quality control are not "
        "explained",
    )
