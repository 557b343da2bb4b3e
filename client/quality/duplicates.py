"""The same image, or the same brain, filed under several people or sessions; and the reverse."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from client.quality.fingerprint import Fingerprint, mirrored
from client.quality.limits import QualityLimits
from client.quality.verdict import Reason

# Rows of the table of correlations that are in memory at a time.
_ROWS = 256


@dataclass(frozen=True, eq=False)
class KnownScan:
    """What is compared of one scan.

    Attributes:
        key: any, e.g. the SHA-256 of its file.
        subject, session: pseudonymous; session may be empty.
        voxels_sha256: of its voxels in RAS+ (client.prepared.resample.voxels_sha256).
        fingerprint: ``(N,)`` of :func:`client.quality.fingerprint.fingerprint`.
    """

    key: str
    subject: str
    session: str
    voxels_sha256: str
    fingerprint: Fingerprint

    @property
    def title(self) -> str:
        """Subject and session."""
        return f"{self.subject} {self.session}".strip()


@dataclass(frozen=True)
class Pair:
    """Two scans, by index, and how alike they are.

    Attributes:
        first, second: indices into the scans, first < second.
        same_voxels: the digests of the voxels are equal.
        direct: correlation of the fingerprints.
        mirrored: the same with one of them mirrored.
    """

    first: int
    second: int
    same_voxels: bool
    direct: float
    mirrored: float

    @property
    def alike(self) -> float:
        """The larger of the two correlations: a copy may have been mirrored."""
        return max(self.direct, self.mirrored)


def compared(scans: Sequence[KnownScan], least: float) -> Iterator[Pair]:
    """All pairs of one subject, and pairs of different ones that are alike by ``least`` or copies.

    Quadratic in the scans, by matrix products: 1000 scans take seconds.
    """
    if len(scans) < 2:
        return
    prints = np.stack([scan.fingerprint for scan in scans]).astype(np.float32)
    subjects = np.unique([scan.subject for scan in scans], return_inverse=True)[1]
    digests = np.unique([scan.voxels_sha256 for scan in scans], return_inverse=True)[1]
    for start in range(0, len(scans), _ROWS):
        rows = prints[start : start + _ROWS]
        direct, other = rows @ prints.T, mirrored(rows).astype(np.float32) @ prints.T
        here = np.arange(start, start + len(rows))[:, None]
        same_voxels = digests[here] == digests[None]
        wanted = (subjects[here] == subjects[None]) | same_voxels
        wanted |= np.maximum(direct, other) >= least
        wanted &= here < np.arange(len(scans))[None]
        for row, column in zip(*np.nonzero(wanted), strict=True):
            yield Pair(
                start + int(row),
                int(column),
                bool(same_voxels[row, column]),
                round(float(direct[row, column]), 4),
                round(float(other[row, column]), 4),
            )


def duplicate_reasons(
    scans: Sequence[KnownScan], limits: QualityLimits
) -> dict[str, tuple[Reason, ...]]:
    """Reasons by the scans' keys; scans without one are absent.

    Between subjects: ``copied-image`` (fail) for equal voxels or brains alike as copies are,
    ``same-brain`` (review) for a brain that is probably the same person's. Between sessions of a
    subject: ``repeated-image`` (review) for copies, ``other-brain`` (review) for brains of two
    people.
    """
    found: defaultdict[str, list[Reason]] = defaultdict(list)
    for pair in compared(scans, limits.same_brain):
        first, second = scans[pair.first], scans[pair.second]
        reason = _between_subjects if first.subject != second.subject else _within_subject
        for scan, other in ((first, second), (second, first)):
            if (told := reason(pair, other, limits)) is not None:
                found[scan.key].append(told)
    return {key: tuple(reasons) for key, reasons in found.items()}


def _between_subjects(pair: Pair, other: KnownScan, limits: QualityLimits) -> Reason | None:
    turned = ", mirrored" if pair.mirrored > pair.direct else ""
    if pair.same_voxels or pair.alike >= limits.same_image:
        return Reason(
            id="copied-image",
            level="fail",
            text=f"The same image{turned} is filed under {other.title}: one could be trained on "
            "and the other tested on.",
            value=pair.alike,
            limit=limits.same_image,
        )
    if pair.alike >= limits.same_brain:
        return Reason(
            id="same-brain",
            level="review",
            text=f"The brain looks like that of {other.title}{turned}: one person under two names?",
            value=pair.alike,
            limit=limits.same_brain,
        )
    return None


def _within_subject(pair: Pair, other: KnownScan, limits: QualityLimits) -> Reason | None:
    if pair.same_voxels or pair.alike >= limits.same_image:
        return Reason(
            id="repeated-image",
            level="review",
            text=f"{other.title} holds the same image: a session has the wrong one?",
            value=pair.alike,
            limit=limits.same_image,
        )
    if pair.alike < limits.other_brain:
        return Reason(
            id="other-brain",
            level="review",
            text=f"The brain does not look like that of {other.title}: is one filed under the "
            "wrong person?",
            value=pair.alike,
            limit=limits.other_brain,
        )
    return None


def similarity(scans: Sequence[KnownScan]) -> npt.NDArray[np.float32]:
    """``(n, n)`` correlations of the fingerprints, for calibration."""
    prints = np.stack([scan.fingerprint for scan in scans]).astype(np.float32)
    table: npt.NDArray[np.float32] = prints @ prints.T
    return table
