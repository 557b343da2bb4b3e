"""Scans whose left and right are swapped, where that can be seen.

Three ways. A file whose sform and qform disagree on handedness is found from its header
(:mod:`client.quality.header`). Two sessions of one person of which one is mirrored are found
reliably here. A single mirrored scan with a consistent header is not detectable by itself; among
many people of a hospital it stands out, because brains share a weak asymmetry (right frontal and
left occipital petalia, LeMay 1976): a hint, measured on seven heads (docs/quality.md). A hospital
that mirrors every scan is not detectable.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from client.quality.duplicates import KnownScan
from client.quality.fingerprint import asymmetry
from client.quality.limits import QualityLimits
from client.quality.verdict import Reason


def flip_reasons(
    scans: Sequence[KnownScan], limits: QualityLimits
) -> dict[str, tuple[Reason, ...]]:
    """Review reasons ``mirrored-session`` and ``mirrored-scan`` by key; the rest is absent."""
    found: defaultdict[str, tuple[Reason, ...]] = defaultdict(tuple)
    for reasons in (mirrored_sessions(scans, limits), mirrored_scans(scans, limits)):
        for key, reason in reasons.items():
            found[key] += (reason,)
    return dict(found)


def mirrored_sessions(scans: Sequence[KnownScan], limits: QualityLimits) -> dict[str, Reason]:
    """Sessions of a person that mirror each other, by key.

    The antisymmetric parts of two scans of one brain agree; with one scan mirrored their
    correlation changes its sign. Of three and more sessions the minority is named; of two, both,
    because nothing says which one is right.
    """
    by_subject: defaultdict[str, list[KnownScan]] = defaultdict(list)
    for scan in scans:
        by_subject[scan.subject].append(scan)
    found: dict[str, Reason] = {}
    for visits in by_subject.values():
        if len(visits) > 1:
            found |= _subject(visits, limits)
    return found


def mirrored_scans(scans: Sequence[KnownScan], limits: QualityLimits) -> dict[str, Reason]:
    """Scans whose asymmetry opposes that of the hospital's other people, by key.

    Each person counts once in the mean, and never in the one they are held against.
    """
    people = sorted({scan.subject for scan in scans})
    if len(people) < limits.mirrored_least_people:
        return {}
    parts = asymmetry(np.stack([scan.fingerprint for scan in scans]))
    whose = np.array([people.index(scan.subject) for scan in scans])
    each = np.stack([parts[whose == person].mean(axis=0) for person in range(len(people))])
    others = each.sum(axis=0)[None] - each
    others /= np.maximum(np.linalg.norm(others, axis=1, keepdims=True), 1e-12)
    agreement = (parts * others[whose]).sum(axis=1)
    return {
        scan.key: Reason(
            id="mirrored-scan",
            level="note",
            text="Left and right may be swapped: the brain's asymmetry opposes that of this "
            "hospital's other people.",
            value=round(float(value), 4),
            limit=limits.mirrored_scan,
        )
        for scan, value in zip(scans, agreement, strict=True)
        if value <= limits.mirrored_scan
    }


def _subject(visits: Sequence[KnownScan], limits: QualityLimits) -> dict[str, Reason]:
    parts = asymmetry(np.stack([scan.fingerprint for scan in visits]))
    agreement = parts @ parts.T
    opposed = agreement <= limits.mirrored_session
    against = opposed.sum(axis=1)
    found: dict[str, Reason] = {}
    for index, scan in enumerate(visits):
        # A session that most others contradict is the mirrored one; at a tie nobody knows.
        others = np.flatnonzero(opposed[index])
        if not others.size or against[index] * 2 < len(visits):
            continue
        other = visits[int(min(others, key=lambda j: agreement[index, j]))]
        found[scan.key] = Reason(
            id="mirrored-session",
            level="review",
            text=f"Left and right are swapped in this scan or in {other.title}.",
            value=round(float(agreement[index].min()), 4),
            limit=limits.mirrored_session,
        )
    return found
