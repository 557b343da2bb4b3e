"""What quality control says about every prepared scan, and which ones training gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from client.archive.patients import Patient, Scan
from client.archive.problems import Defect, Exclusion
from client.prepared.between_scans import Compared, reasons_between
from client.prepared.native_store import NativeStore
from client.prepared.record import ScanRecord
from client.quality.admission import Refusal, Use, refusal
from client.quality.limits import QualityLimits
from client.quality.outliers import judge_site
from client.quality.overrides import Override
from client.quality.verdict import Verdict
from shared_model.errors import SmrfedError


@dataclass(frozen=True, eq=False)
class AssessedScan:
    """One scan that was prepared.

    Attributes:
        patient, scan: of the archive.
        record: what was found.
        verdict: of quality control.
        override: the latest decision of a person about exactly this file.
    """

    patient: Patient
    scan: Scan
    record: ScanRecord
    verdict: Verdict
    override: Override | None

    def refusal(self, use: Use) -> Refusal | None:
        """Why training does not get the scan; None where it does."""
        return refusal(self.verdict, self.override, use)


@dataclass(frozen=True, eq=False)
class Assessment:
    """All scans of an archive: assessed, or excluded because they could not be prepared."""

    scans: tuple[AssessedScan, ...]
    exclusions: tuple[Exclusion, ...]

    def admitted(self, use: Use) -> tuple[Patient, ...]:
        """Patients with the scans that training may take; those without any are left out."""
        kept: dict[str, tuple[Patient, list[Scan]]] = {}
        for scan in self.scans:
            if scan.refusal(use) is None:
                kept.setdefault(scan.patient.id, (scan.patient, []))[1].append(scan.scan)
        return tuple(replace(patient, scans=tuple(scans)) for patient, scans in kept.values())


def assess(
    store: NativeStore,
    patients: Sequence[Patient],
    overrides: Mapping[str, Override],
    limits: QualityLimits,
) -> Assessment:
    """Judge what was prepared, each scan by itself and among the others.

    Raises SMR-E286 when a scan was not prepared, or what was kept of one is damaged.
    """
    found: list[tuple[Patient, Scan, ScanRecord]] = []
    exclusions = []
    unprepared = 0
    for patient in patients:
        for scan in patient.scans:
            try:
                record = store.record(store.files.sha256(scan.path))
            except Defect as unreadable:
                # The header could be read, the rest cannot.
                exclusions.append(
                    Exclusion(unreadable.kind, unreadable.case, patient.id, scan.session, scan.path)
                )
                continue
            if record is None:
                unprepared += 1
            elif record.defect is not None:
                defect = record.defect
                exclusions.append(
                    Exclusion(defect.kind, defect.case, patient.id, scan.session, scan.path)
                )
            else:
                found.append((patient, scan, record))
    if unprepared:
        raise SmrfedError(
            "SMR-E286",
            "scans of the archive are not prepared",
            expected="every scan prepared as the plan says",
            found=f"{unprepared} scans that are new, changed, or prepared for another plan",
            remedy="run smrfed-site prepare; it does only what is missing",
        )
    keys = [f"{patient.id} {scan.session}" for patient, scan, _ in found]
    compared = [
        Compared(key, patient.id, scan.session, record)
        for key, (patient, scan, record) in zip(keys, found, strict=True)
    ]
    more = reasons_between(store, compared, limits)
    measures = {key: r.measures for key, (_, _, r) in zip(keys, found, strict=True) if r.measures}
    verdicts = judge_site(measures, limits, more)
    return Assessment(
        tuple(
            AssessedScan(p, s, r, verdicts[key], overrides.get(r.source_sha256))
            for key, (p, s, r) in zip(keys, found, strict=True)
        ),
        tuple(exclusions),
    )
