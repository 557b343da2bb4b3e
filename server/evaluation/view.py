"""Released figures on a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.markup import escape
from rich.table import Table

from server.evaluation.figures import Figures
from server.evaluation.intervals import Estimate
from server.evaluation.records import ReleaseRecord
from server.evaluation.summary import CONFIDENCE, summarise
from server.rounds.participation import share_in_words
from shared_model.plan import FederationPlan


def overview(records: Sequence[ReleaseRecord], plan: FederationPlan) -> Table:
    """One line per evaluation: all sites together, and the worst site."""
    table = Table("evaluated", "sites", "balanced accuracy", "macro AUC", "worst site (b. a.)")
    for record in records:
        if record.asked.kind != "evaluate":
            continue
        summary = summarise(record, plan)
        together, worst = summary.together, summary.worst_balanced_accuracy
        table.add_row(
            _when(record, plan),
            share_in_words(tuple(summary.sites), plan),
            _text(None if together is None else together.balanced_accuracy),
            _text(None if together is None else together.macro_auc),
            _text(worst),
        )
    return table


def site_table(record: ReleaseRecord, plan: FederationPlan) -> Table:
    """Every figure of one evaluation, a column per site that answered."""
    summary = summarise(record, plan)
    columns = [*summary.sites.items()]
    if summary.together is not None:
        columns.append(("all together", summary.together))
    table = Table(
        f"{_when(record, plan)}, {100 * CONFIDENCE:g} % intervals", *(escape(n) for n, _ in columns)
    )
    for name, values in _rows([figures for _, figures in columns], plan):
        table.add_row(escape(name), *values)
    for name, worst in (
        ("worst site, balanced accuracy", summary.worst_balanced_accuracy),
        ("worst site, macro AUC", summary.worst_macro_auc),
    ):
        table.add_row(name, *[""] * len(summary.sites), _text(worst))
    return table


def as_facts(record: ReleaseRecord, plan: FederationPlan) -> dict[str, Any]:
    """A release as JSON values: the figures of an evaluation, the offsets of a calibration."""
    facts: dict[str, Any] = {
        "kind": record.asked.kind,
        "after_round": record.after_round,
        "model_sha256": record.body_sha256,
        "accepted": list(record.asked.accepted),
        "missing": record.asked.set_aside,
        "answered": share_in_words(record.asked.accepted, plan),
    }
    if record.asked.kind == "calibrate":
        return facts | {"offsets": dict(zip(plan.task.labels, record.offsets or (), strict=False))}
    if record.asked.kind == "moments":
        return facts
    return facts | {"figures": asdict(summarise(record, plan))}


def offsets_text(record: ReleaseRecord, plan: FederationPlan) -> str:
    """What a calibration adds to the class biases, in words."""
    if not record.offsets or not any(record.offsets):
        return "no offsets: the noise hides what they would correct"
    pairs = zip(plan.task.labels, record.offsets, strict=True)
    return ", ".join(f"{label} {offset:+.3f}" for label, offset in pairs)


def _when(record: ReleaseRecord, plan: FederationPlan) -> str:
    at_the_end = record.asked.round == plan.training.rounds
    calibrated = at_the_end and plan.calibration.rule == "prior_free"
    return f"round {record.after_round}{', calibrated' if calibrated else ''}"


def _rows(columns: Sequence[Figures], plan: FederationPlan) -> list[tuple[str, list[str]]]:
    rows = [("test patients", [_text(f.patients, digits=0) for f in columns])]
    for name in ("balanced_accuracy", "macro_auc", "calibration_error"):
        shown = name.replace("_", " ").replace("auc", "AUC")
        rows.append((shown, [_text(getattr(f, name)) for f in columns]))
    for k, label in enumerate(plan.task.labels):
        for name in ("sensitivity", "auc", "calibration_gap"):
            shown = f"{name.replace('_', ' ').replace('auc', 'AUC')}, {label}"
            rows.append((shown, [_text(getattr(f, name)[k]) for f in columns]))
    return rows


def _text(estimate: Estimate | None, digits: int = 3) -> str:
    if estimate is None:
        return "-"
    value = "?" if estimate.value is None else f"{estimate.value:.{digits}f}"
    return f"{value} ({estimate.low:.{digits}f} to {estimate.high:.{digits}f})"
