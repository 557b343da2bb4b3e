"""Named sets of patients and images, and the refusal of any two that overlap."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from client.archive.content import file_sha256
from client.archive.patients import Patient
from client.archive.problems import Defect
from shared_model.errors import SmrfedError

_SHOWN = 5
_HASH_SHOWN = 12


@dataclass(frozen=True)
class Cohort:
    """A set that must share nobody and no image with another: train, test, pretraining, external.

    Attributes:
        name: as an error calls it.
        patient_ids: identifiers at this hospital. Of cohorts from elsewhere leave them out: their
            ``sub-001`` is another person than ours, and only images tell.
        image_hashes: SHA-256, 64 hexadecimal digits, of files and of voxels
            (:func:`client.prepared.resample.voxels_sha256`), in one set.
    """

    name: str
    patient_ids: frozenset[str] = field(default_factory=frozenset)
    image_hashes: frozenset[str] = field(default_factory=frozenset)


def cohort_of(
    name: str,
    patients: Iterable[Patient],
    voxels_sha256: Callable[[Path], str] | None = None,
) -> Cohort:
    """The patients of this hospital as a cohort.

    Args:
        name: ``train``, ``test``.
        patients: of the archive.
        voxels_sha256: digest of the voxels of an image, as its preparation recorded it; finds a
            copy that was compressed or turned anew. Without it only equal files are found.

    Raises SMR-E212 for an image that cannot be read.
    """
    ids, hashes = set(), set()
    for patient in patients:
        ids.add(patient.id)
        for scan in patient.scans:
            try:
                hashes.add(file_sha256(scan.path))
            except Defect as defect:
                raise defect.error() from None
            if voxels_sha256 is not None:
                hashes.add(voxels_sha256(scan.path))
    return Cohort(name, frozenset(ids), frozenset(hashes))


def refuse_overlap(*cohorts: Cohort) -> None:
    """Raise SMR-E232 where two cohorts share a patient or an image, naming both, and what.

    Equal files and equal voxels are found. A scan that was resampled, cropped or stripped on the
    way into another cohort has other voxels: quality control looks for such near copies within a
    hospital, nobody can by hashes alone.
    """
    found = []
    for one, other in combinations(cohorts, 2):
        ids = sorted(one.patient_ids & other.patient_ids)
        images = sorted(one.image_hashes & other.image_hashes)
        if ids or images:
            found.append(_overlap(one, other, ids, images))
    if found:
        raise SmrfedError(
            "SMR-E232",
            "two sets of patients that must be apart overlap",
            expected="every patient and every image in one of "
            + ", ".join(cohort.name for cohort in cohorts),
            found="; ".join(found),
            remedy="take the named patients or images out of one of the two; with pretraining data "
            "or an external cohort: out of this archive",
        )


def _overlap(one: Cohort, other: Cohort, ids: list[str], images: list[str]) -> str:
    parts = []
    if ids:
        parts.append(f"{len(ids)} patients: {_first(ids)}")
    if images:
        parts.append(f"{len(images)} images: {_first([h[:_HASH_SHOWN] for h in images])}")
    return f"{one.name} and {other.name} share {', '.join(parts)}"


def _first(items: list[str]) -> str:
    return " ".join(items[:_SHOWN]) + (" ..." if len(items) > _SHOWN else "")
