"""Where along one plane the model looked: the attention curve beside a slice of the template."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from simulations.report.plots.style import BLUE, GREY, INK, ORANGE
from simulations.report.plots.template_brain import (
    AXIS_OF,
    axis_label,
    draw_template,
    template_slice,
)
from simulations.report.results import PlaneAttention, PlaneName

# The picture beside a curve is a slice that contains the curve's axis, through the medial temporal
# lobe: plane and position in mm.
_BACKGROUND: dict[PlaneName, tuple[PlaneName, float]] = {
    "sagittal": ("coronal", -20.0),
    "coronal": ("sagittal", -26.0),
    "axial": ("coronal", -20.0),
}
_INCH_PER_MM = 0.0124
_WIDTH_IN, _CURVE_IN = 3.2, 1.1

Floats = npt.NDArray[np.float64]


def slice_attention(attention: PlaneAttention) -> Figure:
    """Curve, chance and (where known) the truly atrophied share, on one axis in mm with a brain.

    Slices with more attention than chance tint the brain, the more the darker. Axial slices run
    upwards, beside the brain; the others run below it.
    """
    upright = attention.plane == "axial"
    plane, at_mm = _BACKGROUND[attention.plane]
    left, right, bottom, top = template_slice(plane, at_mm).extent_mm
    width, height = (right - left) * _INCH_PER_MM, (top - bottom) * _INCH_PER_MM
    figure_height = height + (0.95 if upright else _CURVE_IN + 1.2)
    figure = Figure(figsize=(_WIDTH_IN, figure_height))

    def place(x: float, y: float, w: float, h: float) -> Axes:
        return figure.add_axes((x / _WIDTH_IN, y / figure_height, w / _WIDTH_IN, h / figure_height))

    if upright:
        brain = place(0.02, 0.7, width, height)
        curve = place(width + 0.08, 0.7, _WIDTH_IN - width - 0.66, height)
    else:
        start = 0.55 + (_WIDTH_IN - 0.6 - width) / 2
        brain = place(start, _CURVE_IN + 0.9, width, height)
        curve = place(start, 0.8, width, _CURVE_IN)
    draw_template(brain, plane, at_mm)
    brain.set_aspect("auto")
    low, high = (bottom, top) if upright else (left, right)
    _draw(brain, curve, attention, upright=upright)
    label = "share per slice, %"
    along = axis_label(AXIS_OF[attention.plane])
    if upright:
        curve.set(xlabel=label, ylabel=along, ylim=(low, high), xlim=(0, None))
        curve.yaxis.set_label_position("right")
        curve.yaxis.tick_right()
        curve.spines["left"].set_visible(False)
        curve.spines["right"].set_visible(True)
    else:
        curve.set(ylabel=label, xlabel=along, xlim=(low, high), ylim=(0, None))
    title = f"{attention.plane.capitalize()} slices"
    figure.text(0.05 / _WIDTH_IN, 1 - 0.05 / figure_height, title, weight="bold", size=10, va="top")
    handles, labels = curve.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="lower center",
        ncols=3,
        handlelength=1.4,
        columnspacing=1.0,
        fontsize=7.5,
    )
    return figure


def _draw(brain: Axes, curve: Axes, attention: PlaneAttention, *, upright: bool) -> None:
    position = np.asarray(attention.position_mm, dtype=np.float64)
    order = np.argsort(position)
    position = position[order]
    weight = 100 * np.asarray(attention.weight, dtype=np.float64)[order]
    chance = 100 * np.asarray(attention.chance, dtype=np.float64)[order]
    _tint(brain, attention.plane, position, np.maximum(weight - chance, 0), upright=upright)
    if attention.truth is not None:
        truth = 100 * np.asarray(attention.truth, dtype=np.float64)[order]
        fill = curve.fill_betweenx if upright else curve.fill_between
        fill(position, 0, truth, color=ORANGE, alpha=0.45, linewidth=0, label="truly atrophied")
    for values, colour, style, name in (
        (chance, GREY, "--", "chance"),
        (weight, BLUE, "-", "attention"),
    ):
        x, y = (values, position) if upright else (position, values)
        curve.plot(x, y, color=colour, linestyle=style, linewidth=1.8, label=name)
    # The zero lines tie both drawings to the midline, the anterior commissure and its level.
    for axes in (brain, curve):
        line = axes.axhline if upright else axes.axvline
        line(0, color=INK, linewidth=0.5, alpha=0.4)


def _tint(
    brain: Axes, plane: PlaneName, position: Floats, surplus: Floats, *, upright: bool
) -> None:
    """Colour the brain by the attention above chance."""
    chosen = template_slice(*_BACKGROUND[plane])
    left, right, bottom, top = chosen.extent_mm
    rows, columns = chosen.image.shape
    count, low, high = (rows, bottom, top) if upright else (columns, left, right)
    pixel = (high - low) / count
    at = low + pixel * (np.arange(count) + 0.5)
    strength = np.interp(at, position, surplus / max(float(surplus.max()), 1e-12))
    layer = np.zeros((rows, columns, 4))
    layer[..., :3] = to_rgb(ORANGE)
    alpha = 0.6 * (strength[:, None] if upright else strength[None, :])
    layer[..., 3] = np.where(np.ma.getmaskarray(chosen.image), 0, alpha)
    brain.imshow(
        layer, origin="lower", extent=chosen.extent_mm, aspect="auto", interpolation="nearest"
    )
