"""The regions that drove the model's output, ranked."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from simulations.report.plots.style import BLUE, INK, ORANGE, new_figure
from simulations.report.results import Explanations, RegionImportance
from simulations.report.wording import region_title


def ranked_regions(explanations: Explanations) -> list[RegionImportance]:
    """Regions by falling importance; ties in node order."""
    return sorted(explanations.regions, key=lambda region: -region.importance)


def region_importance(explanations: Explanations, top: int = 20) -> Figure:
    """Bars for the first regions, a tick at chance; truly atrophied regions orange and hatched."""
    chosen = ranked_regions(explanations)[:top]
    rows = range(len(chosen))
    figure = new_figure(7.6, 1.2 + 0.22 * len(chosen))
    axes = figure.subplots()
    for y, region in zip(rows, chosen, strict=True):
        marked = region.is_atrophied is True
        axes.barh(
            y,
            100 * region.importance,
            0.74,
            color=ORANGE if marked else BLUE,
            hatch="///" if marked else None,
            edgecolor="white",
            linewidth=0,
        )
        axes.vlines(100 * region.chance, y - 0.42, y + 0.42, color=INK, linewidth=1.6)
    axes.set_yticks(rows, [region_title(region.name) for region in chosen])
    axes.set_ylim(len(chosen) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("share of the read-out over regions, %")
    axes.grid(axis="x")
    handles: list[Patch | Line2D] = [
        Line2D([], [], color=INK, marker="|", markersize=10, linestyle="none", label="chance")
    ]
    if any(region.is_atrophied is not None for region in explanations.regions):
        handles = [
            Patch(facecolor=ORANGE, hatch="///", edgecolor="white", label="truly atrophied region"),
            Patch(facecolor=BLUE, label="other region"),
            *handles,
        ]
    axes.legend(handles=handles, loc="lower right")
    return figure
