"""Which diagnosis was taken for which: one confusion matrix."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from simulations.report.plots.style import INK, new_figure
from simulations.report.results import Score


def confusion_matrix(score: Score, labels: tuple[str, ...], title: str) -> Figure:
    """Counts, coloured by the share of the true class; rows are the truth."""
    counts = np.asarray(score.confusion, dtype=np.float64)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 1.9 + 0.32 * len(labels)
    figure = new_figure(side + 0.3, side)
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1.15)
    for row in range(len(labels)):
        for column in range(len(labels)):
            axes.text(
                column,
                row,
                f"{counts[row, column]:.0f}\n{100 * share[row, column]:.0f} %",
                ha="center",
                va="center",
                size=9,
                weight="bold" if row == column else "normal",
                color="white" if share[row, column] > 0.7 else INK,
            )
    axes.set_xticks(range(len(labels)), labels)
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("model's output")
    axes.set_ylabel("true class")
    axes.set_title(title)
    return figure
