"""How fine the model looked at each region: the adaptive weights of the scales."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from simulations.report.plots.style import BLUE, GREEN, INK, ORANGE, PURPLE, SKY, new_figure
from simulations.report.results import Explanations
from simulations.report.wording import region_title, significant

_COLOURS = (BLUE, SKY, ORANGE, GREEN, PURPLE)


def fusion_weights(explanations: Explanations, top: int = 20) -> Figure:
    """Stacked shares of the scales for the most important regions, below the mean of all."""
    order = sorted(
        range(len(explanations.regions)), key=lambda r: -explanations.regions[r].importance
    )[:top]
    weights = np.asarray(explanations.fusion_regions)
    rows = np.vstack([weights.mean(axis=0), weights[order]])
    names = ["Mean of all regions", *(region_title(explanations.regions[r].name) for r in order)]
    position = np.concatenate([[0.0], np.arange(1, len(order) + 1) + 0.4])
    figure = new_figure(7.6, 1.3 + 0.22 * len(names))
    axes = figure.subplots()
    left = np.zeros(len(names))
    for scale, size_mm in enumerate(explanations.scales_mm):
        colour = _COLOURS[scale % len(_COLOURS)]
        label = f"{significant(size_mm)} mm"
        axes.barh(
            position, 100 * rows[:, scale], 0.78, left=left, color=colour, label=label, ec="white"
        )
        left += 100 * rows[:, scale]
    axes.set_yticks(position, names)
    axes.get_yticklabels()[0].set_fontweight("bold")
    axes.set_ylim(position[-1] + 0.6, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 100)
    axes.set_xlabel("weight of each scale, %")
    axes.spines["left"].set_visible(False)
    figure.legend(
        loc="outside upper center",
        ncols=len(explanations.scales_mm),
        title="voxel size of the scale",
        labelcolor=INK,
        title_fontsize=8.5,
    )
    return figure
