"""What only a look at all scans of a hospital tells: copies and mirrored sessions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from client.agent.durable import write_durably
from client.prepared.native_store import NativeStore
from client.prepared.record import ScanRecord
from client.quality.limits import QualityLimits
from client.quality.verdict import VERDICT_VERSION, Reason

#: Reasons by the scan's key; scans without one are absent.
Reasons = Mapping[str, tuple[Reason, ...]]
_REASONS = TypeAdapter(dict[str, tuple[Reason, ...]])


@dataclass(frozen=True, eq=False)
class Compared:
    """One prepared scan as it is compared with the others."""

    key: str
    subject: str
    session: str
    record: ScanRecord


def reasons_between(
    store: NativeStore, scans: Sequence[Compared], limits: QualityLimits
) -> Reasons:
    """Copies, brains under two names, and mirrored sessions; see :mod:`client.quality.duplicates`.

    The answer is kept in one file under a digest of everything that it depends on: who has which
    scan, the scans' fingerprints by content, the recipe, the limits and the rules.
    """
    digest = _digest(store, scans, limits)
    path = store.folder / "between.json"
    kept = _kept(path, digest)
    if kept is not None:
        return kept
    found = _compare(store, scans, limits)
    body = json.dumps({"digest": digest, "reasons": _REASONS.dump_python(found, mode="json")})
    # It is only a memory; where something must be written, that says so itself.
    try:
        write_durably(path, body.encode())
    except OSError:
        # The old one names people who may have left the archive.
        with suppress(OSError):
            path.unlink(missing_ok=True)
    return found


def _digest(store: NativeStore, scans: Sequence[Compared], limits: QualityLimits) -> str:
    rows = [
        [s.key, s.subject, s.session, s.record.voxels_sha256, s.record.files.get(".print.npy")]
        for s in scans
    ]
    parts = [VERDICT_VERSION, store.digest, limits.model_dump(mode="json"), rows]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _kept(path: Path, digest: str) -> Reasons | None:
    try:
        content = json.loads(path.read_bytes())
        if content["digest"] != digest:
            return None
        return _REASONS.validate_python(content["reasons"])
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return None


def _compare(
    store: NativeStore, scans: Sequence[Compared], limits: QualityLimits
) -> dict[str, tuple[Reason, ...]]:
    from client.quality.duplicates import KnownScan, duplicate_reasons
    from client.quality.flips import flip_reasons

    known = []
    for scan in scans:
        print_ = store.fingerprint(scan.record.source_sha256)
        if print_ is None or scan.record.voxels_sha256 is None:
            raise store.unprepared(scan.record.source_sha256)
        known.append(
            KnownScan(scan.key, scan.subject, scan.session, scan.record.voxels_sha256, print_)
        )
    copies, flips = duplicate_reasons(known, limits), flip_reasons(known, limits)
    together = {key: (*copies.get(key, ()), *flips.get(key, ())) for key in {*copies, *flips}}
    return dict(sorted(together.items()))
