"""The figures of a scenario as Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from shared_model.evaluation.results import Estimate
from simulations.scenarios.results import ArmFigures, Difference, ScenarioResults

#: Groups of the main table and how they are called.
GROUPS = {
    "seen": "seen",
    "worst-seen": "worst seen",
    "unseen": "unseen",
    "worst-unseen": "worst unseen",
}


def shown_groups(results: ScenarioResults) -> tuple[str, ...]:
    """The groups that some arm has."""
    return tuple(group for group in GROUPS if any(group in arm.groups for arm in results.arms))


def columns(results: ScenarioResults) -> tuple[str, ...]:
    """Titles of the main table."""
    groups = shown_groups(results)
    balanced = tuple(f"BA, {GROUPS[group]}" for group in groups)
    ranked = tuple(f"AUC, {GROUPS[group]}" for group in groups if group in ("seen", "unseen"))
    return ("arm", "ε", *balanced, *ranked)


def row_cells(results: ScenarioResults, arm: ArmFigures) -> tuple[str, ...]:
    """One arm as texts."""
    balanced, ranked = [], []
    for group in shown_groups(results):
        figure = arm.groups.get(group)
        balanced.append("" if figure is None else words(figure.balanced_accuracy))
        if group in ("seen", "unseen"):
            auc = None if figure is None else figure.macro_auc
            ranked.append("" if auc is None else words(auc))
    epsilon = "none" if arm.epsilon is None else f"{arm.epsilon:.2g}"
    return (arm.title, epsilon, *balanced, *ranked)


def difference_cells(results: ScenarioResults, row: Difference) -> tuple[str, ...]:
    """One paired difference as texts."""
    pair = f"{results.arm(row.arm).title} − {results.arm(row.minus).title}"
    p = "" if row.p_holm is None else f"{row.p_holm:.3f}"
    return (pair, place(row.where), words(row.difference, signed=True), p, row.verdict)


def place(where: str) -> str:
    """A group as people read it."""
    group, _, site = where.partition(":")
    return f"{site} ({group})" if site else GROUPS[group]


def words(estimate: Estimate, *, signed: bool = False) -> str:
    """``0.62 [0.56, 0.68]``; empty where the patients do not determine it."""
    if estimate.value is None:
        return ""
    form = "+.3f" if signed else ".2f"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:{form}}"
    return f"{estimate.value:{form}} [{estimate.low:{form}}, {estimate.high:{form}}]"


def markdown(results: ScenarioResults) -> str:
    """Main table, hospitals and differences."""
    seeds = ", ".join(map(str, results.seeds))
    lines = [f"# {results.title}", "", results.about, ""] if results.about else []
    lines = lines or [f"# {results.title}", ""]
    lines += [
        f"`{results.command}`, seeds {seeds}; commit {results.commit or 'unknown'}. Mean over the "
        f"cohorts with the 95 % interval over test patients (and noise draws), {results.draws} "
        "draws; BA: balanced accuracy; worst: the worst hospital in each draw. Simulated "
        "patients only.",
        "",
        *_table(columns(results), [row_cells(results, arm) for arm in results.arms]),
    ]
    if results.differences:
        titles = ("difference in balanced accuracy", "where", "difference", "p (Holm)", "shown")
        rows = [difference_cells(results, row) for row in results.differences]
        lines += ["", "## Paired differences", "", *_table(titles, rows)]
    if results.readings:
        lines += ["", "## Where it helps, and where it does not", ""]
        lines += [f"- {text}" for text in results.readings]
    sites = [key for arm in results.arms for key in arm.groups if ":" in key]
    if sites:
        keys = tuple(dict.fromkeys(sites))
        rows = [(arm.title, *(_site_cell(arm, key) for key in keys)) for arm in results.arms]
        lines += ["", "## Balanced accuracy at each hospital", ""]
        lines += _table(("arm", *(place(key) for key in keys)), rows)
    lines += ["", "## Hospitals", ""]
    lines += _table(
        ("hospital", "patients per seed", "CN / MCI / AD", "age shift, years", "scanner"),
        [
            (
                h.name, str(h.patients),
                "" if h.prevalence is None else " / ".join(f"{p:.2f}" for p in h.prevalence),
                "" if h.age_shift is None else f"{h.age_shift:+g}", h.scanner,
            )
            for h in results.hospitals
        ],
    )  # fmt: skip
    return "\n".join(lines) + "\n"


def csv_text(results: ScenarioResults) -> str:
    """Every figure in long form: one row per arm, group and metric, and per difference."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        ("arm", "minus", "where", "metric", "value", "low", "high", "patients", "p", "p_holm")
    )
    for arm in results.arms:
        for group, figure in arm.groups.items():
            for metric, estimate in (
                ("balanced_accuracy", figure.balanced_accuracy), ("macro_auc", figure.macro_auc),
            ):  # fmt: skip
                if estimate is not None:
                    numbers = _numbers(estimate)
                    writer.writerow(
                        (arm.name, "", group, metric, *numbers, figure.patients, "", "")
                    )
    for row in results.differences:
        writer.writerow(
            (
                row.arm, row.minus, row.where, "balanced_accuracy", *_numbers(row.difference), "",
                *("" if p is None else f"{p:.6g}" for p in (row.p_value, row.p_holm)),
            )
        )  # fmt: skip
    return buffer.getvalue()


def _site_cell(arm: ArmFigures, key: str) -> str:
    figure = arm.groups.get(key)
    return "" if figure is None else words(figure.balanced_accuracy)


def _numbers(estimate: Estimate) -> tuple[str, ...]:
    known = (estimate.value, estimate.low, estimate.high)
    return tuple("" if value is None else f"{value:.6f}" for value in known)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(titles)} |", f"|{' --- |' * len(titles)}"]
    lines += [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    return lines
