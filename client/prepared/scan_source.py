"""Which patients and volumes training takes from a hospital, for either kind of archive."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from client.archive.bids import read_bids_archive
from client.archive.lesions import divided_by_mask, require_masks
from client.archive.patients import Patient, Scan
from client.config import SiteConfig
from client.prepared.native_site import NativeSite
from client.prepared.resample import Volume
from client.prepared.store import PreparedStore, Progress
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan


class ScanSource(Protocol):
    """A hospital's archive as training sees it."""

    def patients(self) -> tuple[Patient, ...]:
        """Patients whose scans training may take; raises what is wrong with the archive."""
        ...

    def prepare(self, patients: Sequence[Patient], progress: Progress | None = None) -> None:
        """Make sure that every volume is there; ``progress`` is called once per scan."""
        ...

    def volume(self, scan: Scan) -> Volume:
        """``(D, H, W)`` float32 on the model grid, standardised."""
        ...

    def voxels_sha256(self, path: Path) -> str:
        """Digest of a prepared scan's original voxels in RAS+."""
        ...


class AlignedScans:
    """Scans that came skull-stripped and aligned to MNI152; prepared here when needed.

    A single defect in the archive stops it: nobody has looked at such scans before. For a task of
    lesions, diagnoses are not looked at, and every scan needs a mask instead.
    """

    def __init__(self, config: SiteConfig, plan: FederationPlan) -> None:
        self._config = config
        self._lesions = plan.task.kind != "classification"
        self._labels = () if self._lesions else plan.task.labels
        self._store = PreparedStore(config.state_dir, plan.input.grid, plan.input.intensity)

    def patients(self) -> tuple[Patient, ...]:
        """Everybody; raises SMR-E203 to E228."""
        config = self._config
        patients = read_bids_archive(config.dataset, config.label_mapping, self._labels)
        if not self._lesions:
            return patients
        marked, _ = divided_by_mask(config.dataset, patients)
        if config.missing_masks == "error" or not marked:
            require_masks(config.dataset, patients)
        return marked

    def prepare(self, patients: Sequence[Patient], progress: Progress | None = None) -> None:
        """See :meth:`PreparedStore.prepare`."""
        self._store.prepare(patients, progress)

    def volume(self, scan: Scan) -> Volume:
        """See :meth:`PreparedStore.volume`."""
        return self._store.volume(scan)

    def voxels_sha256(self, path: Path) -> str:
        """See :meth:`PreparedStore.voxels_sha256`."""
        return self._store.voxels_sha256(path)


class NativeScans:
    """Scans as acquired, which ``smrfed-site prepare`` has prepared and a person could look at.

    Only what passed quality control, or what the plan lets a person accept, is trained on. Nothing
    is prepared here: training never decides about a scan by itself.
    """

    def __init__(self, config: SiteConfig, plan: FederationPlan) -> None:
        self._site = NativeSite(config, plan.input, plan.atlas, plan.task.labels)
        self._store = self._site.recipe.store

    def patients(self) -> tuple[Patient, ...]:
        """Patients with an admitted scan; raises SMR-E286 and SMR-E288."""
        assessment = self._site.assessment()
        patients = assessment.admitted(self._site.input.quality)
        if len({patient.label for patient in patients}) < 2:
            raise SmrfedError(
                "SMR-E288",
                "quality control leaves too little to train on",
                expected="scans of at least two labels that pass, or that a person accepted",
                found=f"{len(patients)} patients; {len(assessment.scans)} scans prepared, "
                f"{len(assessment.exclusions)} excluded",
                remedy="look at derivatives/quality.html in state_dir; mend the archive, or accept "
                "scans with smrfed-site review",
            )
        return patients

    def prepare(self, patients: Sequence[Patient], progress: Progress | None = None) -> None:
        """Everything is there already; raises SMR-E286 where it is not."""
        done = 0
        count = sum(len(patient.scans) for patient in patients)
        for patient in patients:
            for scan in patient.scans:
                self._store.volume(scan)
                done += 1
                if progress is not None:
                    progress(done, count)

    def volume(self, scan: Scan) -> Volume:
        """The prepared volume; raises SMR-E286."""
        return self._store.volume(scan)

    def voxels_sha256(self, path: Path) -> str:
        """As it was recorded; raises SMR-E286."""
        source = self._store.files.sha256(path)
        record = self._store.record(source)
        if record is None or record.voxels_sha256 is None:
            raise self._store.unprepared(source)
        return record.voxels_sha256


def scan_source(config: SiteConfig, plan: FederationPlan) -> ScanSource:
    """The source that a plan asks for; SMR-E229 for lesions on scans as acquired."""
    if plan.input.preparation.source == "native":
        if plan.task.kind != "classification":
            raise SmrfedError(
                "SMR-E229",
                "lesion masks are read for aligned scans only",
                expected='input.preparation.source = "mni152" in a plan of this task',
                found='"native"',
                remedy="align scans and masks to MNI152 together before they enter the archive",
            )
        return NativeScans(config, plan)
    return AlignedScans(config, plan)
