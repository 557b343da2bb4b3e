"""One look for all figures: Okabe-Ito colours, light ground, and a figure as an inline SVG."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simulations.report.results import FederationReport

# Okabe and Ito's palette, safe for the common kinds of colour blindness; yellow is too pale for
# thin lines on white and comes last.
BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, INK, YELLOW = "#CC79A7", "#56B4E9", "#333333", "#F0E442"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILLION, INK, YELLOW)
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
GREY = "#8a8f98"
FAINT = "#e3e6ea"

# Any: matplotlib types the keys by release.
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "text.color": INK,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "smrfed",
    "savefig.dpi": 144,
}


@dataclass(frozen=True)
class Look:
    """Colour and marker of one arm, the same in every figure."""

    colour: str
    marker: str


def arm_looks(report: FederationReport) -> dict[str, Look]:
    """A look for every arm by key; the headline arm has the first colour."""
    keys = [report.headline_arm, *(a.key for a in report.arms if a.key != report.headline_arm)]
    return {
        key: Look(PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)])
        for index, key in enumerate(keys)
    }


def new_figure(width_in: float, height_in: float) -> Figure:
    """An empty figure that no global state holds on to."""
    return Figure(figsize=(width_in, height_in), layout="constrained")


def chance_line(axes: Axes, chance: float, *, vertical: bool = False, label: bool = True) -> None:
    """Dashed line where guessing lies, in the units of the axis."""
    draw = axes.axvline if vertical else axes.axhline
    draw(chance, color=GREY, linestyle=(0, (4, 3)), linewidth=1, zorder=1)
    if not label:
        return
    if vertical:
        at, transform = (chance, 1.0), axes.get_xaxis_transform()
        axes.text(
            *at, "guessing", transform=transform, ha="center", va="bottom", color=GREY, size=8
        )
    else:
        at, transform = (1.0, chance), axes.get_yaxis_transform()
        axes.text(
            *at, "guessing ", transform=transform, ha="right", va="bottom", color=GREY, size=8
        )


def svg_data_uri(figure: Figure) -> str:
    """The figure as ``data:image/svg+xml;base64,...``: the same bytes for the same numbers."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
