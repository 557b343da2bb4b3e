"""Slices of nilearn's packaged MNI152 template as a background, found by their position in mm."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from nilearn.datasets import load_mni152_template

from simulations.report.results import PlaneName

AXIS_OF: dict[PlaneName, int] = {"sagittal": 0, "coronal": 1, "axial": 2}
_AXIS_LABELS = ("left – right", "back – front", "bottom – top")
_SPACING_MM = 1


@dataclass(frozen=True, eq=False)
class TemplateSlice:
    """One slice for drawing.

    Attributes:
        image: ``(V, H)`` grey in [0, 1], masked outside the brain, row 0 at the bottom.
        extent_mm: left, right, bottom, top in MNI mm.
    """

    image: npt.NDArray[np.float32]
    extent_mm: tuple[float, float, float, float]


@lru_cache(maxsize=1)
def _template() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Grey ``(X, Y, Z)`` cut to the brain, and the MNI mm of its first voxel; axes run RAS+."""
    image = load_mni152_template(resolution=_SPACING_MM)
    grey = np.asarray(image.get_fdata(), dtype=np.float32)
    grey = grey / grey.max()
    box = tuple(
        slice(int(inside[0]), int(inside[-1]) + 1)
        for axis in range(3)
        for inside in (
            np.flatnonzero((grey > 0.1).any(axis=tuple(a for a in range(3) if a != axis))),
        )
    )
    first = np.asarray(image.affine, dtype=np.float64) @ [*(s.start for s in box), 1.0]
    return grey[box], first[:3]


def template_slice(plane: PlaneName, at_mm: float) -> TemplateSlice:
    """The slice of one plane nearest to a position, in MNI mm."""
    grey, origin = _template()
    axis = AXIS_OF[plane]
    index = int(np.clip(np.rint((at_mm - origin[axis]) / _SPACING_MM), 0, grey.shape[axis] - 1))
    picture = np.take(grey, index, axis=axis).T
    horizontal, vertical = (a for a in range(3) if a != axis)
    half = _SPACING_MM / 2
    extent = (
        origin[horizontal] - half,
        origin[horizontal] + grey.shape[horizontal] * _SPACING_MM - half,
        origin[vertical] - half,
        origin[vertical] + grey.shape[vertical] * _SPACING_MM - half,
    )
    return TemplateSlice(np.ma.masked_less(picture, 0.1), extent)


def draw_template(axes: Axes, plane: PlaneName, at_mm: float) -> None:
    """Draw a slice on axes in mm; left in the picture is the left of the brain."""
    chosen = template_slice(plane, at_mm)
    axes.imshow(
        chosen.image,
        cmap="Greys_r",
        vmin=-0.1,
        vmax=1.05,
        origin="lower",
        extent=chosen.extent_mm,
        interpolation="bilinear",
    )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def axis_label(axis: int) -> str:
    """Direction of an axis in words, with its unit."""
    return f"{_AXIS_LABELS[axis]}, mm"
