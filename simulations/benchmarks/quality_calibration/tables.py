"""The figures as tables, in the order of docs/quality.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from client.quality.catalogue import BY_NAME
from client.quality.limits import Bounds, QualityLimits
from simulations.benchmarks.quality_calibration.calibration import Calibration
from simulations.benchmarks.quality_calibration.span import Span


def print_tables(found: Calibration, console: Console) -> None:
    """Print all of them."""
    for table in (
        _heads(found),
        _measures(found.measures),
        _spans("Fingerprints and plain volumes: correlation", found.likeness),
        _left_right(found),
        _spoiled(found),
    ):
        console.print(table)
    console.print(f"the quality page of 200 such scans has {found.page_mb:g} MB")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _heads(found: Calibration) -> Table:
    table = _table("Heads", "head", "stored", "stripped", "verdict", "reasons")
    for row in found.heads:
        header = row.measures["header"]
        sides = " x ".join(f"{mm:g}" for mm in header["spacing_mm"])
        stored = f"{header['orientation']} {header['dtype']} {sides} mm"
        stripped = "yes" if row.measures["already_stripped"] else "no"
        table.add_row(row.name, stored, stripped, row.result, " ".join(row.reasons))
    for refused in found.refused:
        table.add_row(refused.name, "", "", refused.code, refused.case)
    return table


def _measures(measures: Mapping[str, Span | None]) -> Table:
    table = _table("Measures", "measure", "heads", "with it", "review", "fail")
    limits = QualityLimits()
    for name, span in measures.items():
        bounds = getattr(limits, name, None)
        review, fail = _limits(bounds) if isinstance(bounds, Bounds) else ("", "")
        digits = BY_NAME[name].digits + 2
        told = "" if span is None else f"{span.lowest:.{digits}f} to {span.highest:.{digits}f}"
        table.add_row(name, told, str(span.count if span else 0), review, fail)
    return table


def _limits(bounds: Bounds) -> tuple[str, str]:
    def both(below: float | None, above: float | None) -> str:
        sides = (("<", below), (">", above))
        return ", ".join(f"{sign} {limit:g}" for sign, limit in sides if limit is not None)

    final = " *" if bounds.final else ""
    review = both(bounds.review_below, bounds.review_above)
    return review, both(bounds.fail_below, bounds.fail_above) + final


def _spans(title: str, spans: Mapping[str, Span | None]) -> Table:
    table = _table(title, "pair", "lowest to highest", "pairs")
    for name, span in spans.items():
        table.add_row(name, str(span or ""), str(span.count if span else 0))
    return table


def _left_right(found: Calibration) -> Table:
    measured = found.left_right
    spans = {
        "one person": measured.one_person,
        "one person, one session mirrored in the file": measured.one_mirrored,
        "different people": measured.different_people,
        "a head against the mean of the others": measured.against_others,
        "a mirrored head against the mean of the others": measured.mirrored_against_others,
    }
    table = _spans("Left and right: correlation of asymmetries", spans)
    table.add_row("both signs right", f"{measured.right_signs} of {len(found.heads)} heads", "")
    table.add_row("expected with 20 others, not measured", str(measured.with_twenty or ""), "")
    return table


def _spoiled(found: Calibration) -> Table:
    heads = list(dict.fromkeys(row.head for row in found.spoiled))
    moved = "moved by a quarter in every head"
    table = _table("Spoiled on purpose", "harm", *heads, "reasons in any head", moved)
    for harm in dict.fromkeys(row.harm for row in found.spoiled):
        rows = {row.head: row for row in found.spoiled if row.harm == harm}
        verdicts = (f"{row.result}{', final' if row.final else ''}" for row in rows.values())
        reasons = dict.fromkeys(reason for row in rows.values() for reason in row.reasons)
        common = set.intersection(*(set(row.moved) for row in rows.values()))
        table.add_row(harm, *verdicts, " ".join(reasons), " ".join(sorted(common)))
    return table


def as_json(found: Calibration) -> dict[str, object]:
    """The same for scripts."""
    return asdict(found)
