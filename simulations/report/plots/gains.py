"""What each hospital gained by learning together: federated minus alone."""

from __future__ import annotations

from matplotlib.figure import Figure

from simulations.report.evidence import decide
from simulations.report.groups import shown_groups
from simulations.report.plots.style import BLUE, GREY, VERMILLION, new_figure
from simulations.report.results import Comparison, FederationReport


def gains(report: FederationReport) -> Figure | None:
    """Paired differences with intervals; hollow where the interval includes zero. May be None."""
    alone = report.first_arm("alone")
    if alone is None:
        return None
    rows = [
        (group.title, found)
        for group in shown_groups(report)
        if (found := report.comparison(report.headline_arm, alone.key, group.key)) is not None
    ]
    if not rows:
        return None
    figure = new_figure(7.6, 1.0 + 0.36 * len(rows))
    axes = figure.subplots()
    axes.axvline(0, color=GREY, linewidth=1)
    for y, (_, row) in enumerate(rows):
        colour, decided = _colour(row)
        axes.hlines(y, 100 * row.low, 100 * row.high, color=colour, linewidth=2)
        axes.plot(
            100 * row.difference,
            y,
            marker="o",
            markersize=8,
            color=colour,
            markerfacecolor=colour if decided else "white",
            markeredgewidth=1.6,
        )
    axes.set_yticks(range(len(rows)), [title for title, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("balanced accuracy, federated minus alone, percentage points")
    axes.grid(axis="x")
    return figure


def _colour(row: Comparison) -> tuple[str, bool]:
    verdict = decide(row.low, row.high)
    colours = {"shown": BLUE, "against": VERMILLION, "not shown": GREY}
    return colours[verdict], verdict != "not shown"
