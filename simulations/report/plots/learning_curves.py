"""Balanced accuracy after every round, at hospitals that took part and at the unseen one."""

from __future__ import annotations

from typing import Literal

from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from simulations.report.plots.style import arm_looks, chance_line, new_figure
from simulations.report.results import FederationReport

_PANELS: tuple[tuple[Literal["seen", "unseen"], str], ...] = (
    ("seen", "Hospitals that took part"),
    ("unseen", "Unseen hospital"),
)


def learning_curves(report: FederationReport) -> Figure | None:
    """One panel per group, one line per arm that has a curve; None where no arm has one."""
    panels = [panel for panel in _PANELS if any(a.curves.get(panel[0]) for a in report.arms)]
    if not panels:
        return None
    figure = new_figure(8.6, 3.4)
    all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    looks = arm_looks(report)
    handles: dict[str, Artist] = {}
    for axes, (key, title) in zip(all_axes, panels, strict=True):
        for arm in report.arms:
            points = arm.curves.get(key, ())
            if not points:
                continue
            (line,) = axes.plot(
                [p.round for p in points],
                [100 * p.balanced_accuracy for p in points],
                color=looks[arm.key].colour,
                marker=looks[arm.key].marker,
                markersize=4,
                markevery=max(1, len(points) // 12),
                linewidth=2 if arm.key == report.headline_arm else 1.4,
            )
            handles.setdefault(arm.title, line)
        axes.set_title(title)
        axes.set_xlabel("round")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y")
        chance_line(axes, 100 * report.chance)
    all_axes[0].set_ylabel("balanced accuracy, %")
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=min(4, len(handles)),
    )
    return figure
