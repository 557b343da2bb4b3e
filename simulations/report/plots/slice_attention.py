"""Where along one plane the model looked: the attention curve beside a slice of the template."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from simulations.report.plots.style import BLUE, GREY, ORANGE, new_figure
from simulations.report.plots.template_brain import AXIS_OF, axis_label, draw_template
from simulations.report.results import PlaneAttention, PlaneName

# The picture beside each curve is a slice that contains the curve's axis, through the medial
# temporal lobe.
_BACKGROUND: dict[PlaneName, tuple[PlaneName, float]] = {
    "sagittal": ("coronal", -20.0),
    "coronal": ("sagittal", -26.0),
    "axial": ("coronal", -20.0),
}


def slice_attention(attention: PlaneAttention) -> Figure:
    """Curve, chance and (where known) the truly atrophied share, on one axis in mm with a brain.

    Slices with more attention than chance tint the brain in orange.
    """
    upright = attention.plane == "axial"
    figure = new_figure(4.3, 4.3)
    if upright:
        brain, curve = figure.subplots(1, 2, sharey=True, width_ratios=(1.15, 1))
    else:
        brain, curve = figure.subplots(2, 1, sharex=True, height_ratios=(1.15, 1))
    draw_template(brain, *_BACKGROUND[attention.plane])
    brain.set_aspect("auto" if upright else "equal")
    brain.set_aspect("equal", adjustable="datalim" if upright else "box")
    position = np.asarray(attention.position_mm)
    weight, chance = np.asarray(attention.weight), np.asarray(attention.chance)
    _tint(brain, position, weight, chance, upright=upright)
    if attention.truth is not None:
        _area(curve, position, 100 * np.asarray(attention.truth), upright=upright)
    _line(curve, position, 100 * chance, GREY, "chance", upright=upright)
    _line(curve, position, 100 * weight, BLUE, "attention", upright=upright)
    label, axis = "share per slice, %", axis_label(AXIS_OF[attention.plane])
    if upright:
        curve.set_xlabel(label)
        curve.set_ylabel(axis)
        curve.yaxis.set_label_position("right")
        curve.yaxis.tick_right()
        curve.spines["left"].set_visible(False)
        curve.spines["right"].set_visible(True)
        curve.set_xlim(0, None)
    else:
        curve.set_ylabel(label)
        curve.set_xlabel(axis)
        curve.set_ylim(0, None)
    figure.suptitle(f"{attention.plane.capitalize()} slices", x=0.02, ha="left", weight="bold", size=10)
    figure.legend(loc="outside lower center", ncols=3, handlelength=1.4, columnspacing=1.2)
    return figure


def _line(
    axes: Axes,
    position: np.ndarray[tuple[int], np.dtype[np.float64]],
    value: np.ndarray[tuple[int], np.dtype[np.float64]],
    colour: str,
    label: str,
    *,
    upright: bool,
) -> None:
    x, y = (value, position) if upright else (position, value)
    style = "--" if label == "chance" else "-"
    axes.plot(x, y, color=colour, label=label, linestyle=style, linewidth=1.2 if style == "--" else 2)
