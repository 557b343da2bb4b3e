"""Tables for people: what was excluded, what quality control found, and how large regions are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from client.agent.durable import write_if_changed
from client.archive.problems import Exclusion
from client.prepared.assessment import AssessedScan
from client.quality.admission import Use
from client.quality.catalogue import CATALOGUE


def write_tables(
    folder: Path, scans: Sequence[AssessedScan], exclusions: Sequence[Exclusion], use: Use
) -> None:
    """Write ``excluded.tsv``, ``quality.tsv`` and ``volumes.tsv`` where they changed.

    Raises OSError.

    ``volumes.tsv`` is in long form: one row per scan and region, mm3 in the scanner's space; rows
    of the region ``head`` hold the volumes of the whole brain.
    """
    _write(folder / "excluded.tsv", _excluded(scans, exclusions, use))
    _write(folder / "quality.tsv", _quality(scans, use))
    _write(folder / "volumes.tsv", _volumes(scans))


def _excluded(
    scans: Sequence[AssessedScan], exclusions: Sequence[Exclusion], use: Use
) -> Iterable[Sequence[object]]:
    yield "code", "participant_id", "session_id", "reason", "remedy"
    for exclusion in exclusions:
        remedy = exclusion.kind.value[3]
        yield exclusion.code, exclusion.subject, exclusion.session, exclusion.reason, remedy
    for scan in scans:
        refused = scan.refusal(use)
        if refused is not None:
            yield (
                refused.code, scan.patient.id, scan.scan.session, refused.what, refused.remedy,
            )  # fmt: skip


def _quality(scans: Sequence[AssessedScan], use: Use) -> Iterable[Sequence[object]]:
    names = [measured.name for measured in CATALOGUE]
    yield ("participant_id", "session_id", "scan", "verdict", "used", "decision", "reasons", *names)
    for scan in scans:
        values = [
            None if scan.record.measures is None else measured.value(scan.record.measures)
            for measured in CATALOGUE
        ]
        yield (
            scan.patient.id, scan.scan.session, scan.record.source_sha256[:12],
            scan.verdict.result, "no" if scan.refusal(use) else "yes",
            scan.override.decision if scan.override else None,
            " ".join(reason.id for reason in scan.verdict.reasons), *values,
        )  # fmt: skip


def _volumes(scans: Sequence[AssessedScan]) -> Iterable[Sequence[object]]:
    kinds = sorted({k for s in scans for r in s.record.regions.values() for k in r})
    heads = sorted({k for s in scans for k in s.record.head})
    yield ("participant_id", "session_id", "region", *kinds, *heads)
    for scan in scans:
        who = (scan.patient.id, scan.scan.session)
        for name, volumes in scan.record.regions.items():
            yield (*who, name, *(volumes.get(kind) for kind in kinds), *(None for _ in heads))
        head = scan.record.head
        yield (*who, "head", *(None for _ in kinds), *(head.get(kind) for kind in heads))


def _write(path: Path, rows: Iterable[Sequence[object]]) -> None:
    lines = ("\t".join(map(_cell, row)) for row in rows)
    write_if_changed(path, ("\n".join(lines) + "\n").encode())


def _cell(value: object) -> str:
    if value is None or value == "":
        return "n/a"
    if isinstance(value, float):
        return f"{value:.6g}"
    # A cell holds no separator, whatever a reason quotes from a file.
    return " ".join(str(value).split())
