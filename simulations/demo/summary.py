"""The demonstration's result on the terminal: one table, and where the report lies."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from simulations.report.results import SEEN, UNSEEN, FederationReport


def print_summary(report: FederationReport, html: Path, console: Console) -> None:
    """Balanced accuracy of every arm at seen sites and at the unseen one, with 95 % intervals."""
    table = Table(
        title=f"Balanced accuracy, {len(report.labels)} classes, chance {report.chance:.2f}"
    )
    table.add_column("arm")
    table.add_column("seen hospitals", justify="right")
    table.add_column("unseen hospital", justify="right")
    table.add_column("epsilon", justify="right")
    for arm in report.arms:
        cells = []
        for group in (SEEN, UNSEEN):
            score = arm.scores.get(group)
            cells.append(
                f"{score.balanced_accuracy:.2f} [{score.low:.2f}, {score.high:.2f}]"
                if score
                else "-"
            )
        style = "bold" if arm.key == report.headline_arm else None
        epsilon = f"{arm.epsilon:.2f}" if arm.epsilon is not None else "-"
        table.add_row(arm.title, *cells, epsilon, style=style)
    console.print(table)
    seconds = sum(phase.seconds for phase in report.run.phases)
    console.print(f"{seconds:.0f} s. Report: {html.resolve()}", soft_wrap=True)
