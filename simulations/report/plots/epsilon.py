"""Privacy budget spent by every hospital."""

from __future__ import annotations

from matplotlib.figure import Figure

from simulations.report.plots.style import BLUE, FAINT, INK, VERMILLION, new_figure
from simulations.report.results import FederationReport


def epsilon_spent(report: FederationReport) -> Figure | None:
    """Spent epsilon over the budget, one bar per hospital; None where no ledger was given."""
    if not report.privacy:
        return None
    rows = range(len(report.privacy))
    figure = new_figure(7.6, 0.9 + 0.36 * len(report.privacy))
    axes = figure.subplots()
    axes.barh(rows, [s.budget_epsilon for s in report.privacy], 0.62, color=FAINT)
    axes.barh(
        rows,
        [s.spent_epsilon for s in report.privacy],
        0.62,
        color=[VERMILLION if s.spent_epsilon > s.budget_epsilon else BLUE for s in report.privacy],
    )
    for y, site in enumerate(report.privacy):
        axes.vlines(site.budget_epsilon, y - 0.36, y + 0.36, color=INK, linewidth=1.6)
    axes.set_yticks(rows, [s.site for s in report.privacy])
    axes.set_ylim(len(report.privacy) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, None)
    axes.set_xlabel("ε spent (bar) and budget (line)")
    return figure
