"""The same regions as discs on three template slices, seen through the brain as through glass."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from simulations.report.plots.region_importance import ranked_regions
from simulations.report.plots.style import BLUE, ORANGE
from simulations.report.plots.template_brain import AXIS_OF, draw_template, template_slice
from simulations.report.results import Explanations, PlaneName
from simulations.report.wording import region_title

_VIEWS: tuple[tuple[PlaneName, float, str], ...] = (
    ("sagittal", -2.0, "from the side"),
    ("coronal", -20.0, "from behind"),
    ("axial", 0.0, "from above"),
)
_LARGEST_DISC = 520.0
_INCH_PER_MM = 0.0168
_WIDTH_IN, _HEIGHT_IN = 8.6, 3.85
_TOUCHING_MM = 9.0


def region_projection(explanations: Explanations, named: int = 5) -> Figure:
    """Disc area is proportional to importance; the first few carry their rank number."""
    regions = ranked_regions(explanations)
    centres = np.asarray([region.centre_mm for region in regions])
    importance = np.asarray([region.importance for region in regions])
    area = _LARGEST_DISC * importance / max(float(importance.max()), 1e-12)
    colours = [ORANGE if region.is_atrophied is True else BLUE for region in regions]
    names = [f"{rank + 1} {region_title(r.name)}" for rank, r in enumerate(regions[:named])]
    figure = Figure(figsize=(_WIDTH_IN, _HEIGHT_IN))
    x = 0.02
    for plane, at_mm, title in _VIEWS:
        left, right, bottom, top = template_slice(plane, at_mm).extent_mm
        width, height = (right - left) * _INCH_PER_MM, (top - bottom) * _INCH_PER_MM
        y = 0.42 + (_HEIGHT_IN - 0.7 - height) / 2
        rectangle = (x / _WIDTH_IN, y / _HEIGHT_IN, width / _WIDTH_IN, height / _HEIGHT_IN)
        axes = figure.add_axes(rectangle)
        draw_template(axes, plane, at_mm)
        axes.set_aspect("auto")
        seen_by = [axis for axis in range(3) if axis != AXIS_OF[plane]]
        flat = centres[:, seen_by]
        axes.scatter(
            flat[:, 0],
            flat[:, 1],
            s=area,
            c=colours,
            alpha=0.72,
            edgecolors="white",
            linewidths=0.7,
            zorder=3,
        )
        _number(axes, flat[:named])
        axes.set_title(title, loc="center", weight="normal", size=9, pad=3)
        if plane != "sagittal":
            for at, side in ((0.03, "L"), (0.97, "R")):
                axes.text(at, 0.93, side, transform=axes.transAxes, ha="center", size=9)
        x += width + 0.12
    figure.text(0.5, 0.03, "     ".join(names), ha="center", size=8.5)
    return figure


def _number(axes: Axes, centres: npt.NDArray[np.float64]) -> None:
    """Write the ranks on the discs; discs that cover each other share one label."""
    labels: list[tuple[npt.NDArray[np.float64], list[str]]] = []
    for rank, centre in enumerate(centres):
        near = next(
            (names for at, names in labels if np.linalg.norm(at - centre) < _TOUCHING_MM), None
        )
        if near is None:
            labels.append((centre, [str(rank + 1)]))
        else:
            near.append(str(rank + 1))
    for (x, y), names in labels:
        text = axes.text(
            x, y, ",".join(names), ha="center", va="center", size=8, weight="bold", zorder=4
        )
        text.set_path_effects([withStroke(linewidth=2.2, foreground="white")])
