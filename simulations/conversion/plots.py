"""Kaplan-Meier of the two halves of predicted risk, as a picture."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from shared_model.atlas.cache import write_atomically
from simulations.conversion.study import Conversion
from simulations.report.plots.style import BLUE, STYLE, VERMILLION


def draw_conversion(result: Conversion, path: Path) -> None:
    """Share without AD since the landmark, with 95 % intervals; PNG."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.8), layout="constrained")
        axes = figure.subplots()
        for curve in result.curves:
            colour = VERMILLION if curve.group == "high" else BLUE
            months = [0.0, *curve.months]
            axes.step(
                months,
                [100.0, *(100 * share for share in curve.free)],
                where="post",
                color=colour,
                linewidth=2,
                label=f"{curve.group} predicted risk, {curve.people} people",
            )
            axes.fill_between(
                months,
                [100.0, *(100 * share for share in curve.low)],
                [100.0, *(100 * share for share in curve.high)],
                step="post",
                color=colour,
                alpha=0.15,
                linewidth=0,
            )
        axes.set_xlabel("months after the second scan")
        axes.set_ylabel("without Alzheimer's disease, %")
        axes.set_title(f"Halves of the risk by: {result.curve_of}")
        axes.set_ylim(0, 103)
        axes.set_xlim(left=0)
        axes.grid(axis="y")
        axes.legend(loc="lower left")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
    write_atomically(path, buffer.getvalue())
