"""The learning curves over the share of labels, as a picture."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from shared_model.atlas.cache import write_atomically
from simulations.few_labels.label_curve import ARMS, LabelCurve
from simulations.report.plots.style import GREY, MARKERS, PALETTE, STYLE

_TITLES = {
    "scratch": "from scratch (4 mm)",
    "public": "public encoder",
    "masked": "public encoder, masked-token start",
    "pseudo": "public encoder, pseudo-labels",
    "volumes": "true region volumes",
}


def draw_label_curve(result: LabelCurve, path: Path) -> None:
    """One line per arm with 95 % intervals over test patients; PNG."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 4.2), layout="constrained")
        axes = figure.subplots()
        for place, arm in enumerate(ARMS):
            points = [point for point in result.points if point.arm == arm]
            value = [100 * point.balanced_accuracy.value for point in points]
            low = [100 * point.balanced_accuracy.low for point in points]
            high = [100 * point.balanced_accuracy.high for point in points]
            axes.errorbar(
                # A little apart, so that intervals can be told from each other.
                [point.labels * 1.03 ** (place - 2) for point in points],
                value,
                yerr=[
                    [v - b for v, b in zip(value, low, strict=True)],
                    [t - v for v, t in zip(value, high, strict=True)],
                ],
                color=PALETTE[place],
                marker=MARKERS[place],
                markersize=5,
                linewidth=1.6,
                elinewidth=0.9,
                capsize=2,
                label=_TITLES[arm],
            )
        labels = sorted({point.labels for point in result.points})
        axes.set_xscale("log")
        axes.set_xticks(labels, [str(count) for count in labels])
        axes.minorticks_off()
        axes.axhline(100 / 3, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.set_xlabel("labelled training patients (10, 25, 50 and 100 %)")
        axes.set_ylabel("balanced accuracy, %")
        axes.set_title(f"CN, MCI, AD: {result.test_patients} test patients, 95 % intervals")
        axes.grid(axis="y")
        figure.legend(loc="outside lower center", ncols=3)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
    write_atomically(path, buffer.getvalue())
