"""The spread of each measure over a hospital's scans, as small inline drawings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import numpy.typing as npt

from client.quality.catalogue import Measured
from client.quality.limits import Bounds
from client.quality.verdict import Result

_WIDTH, _HEIGHT, _MARGIN = 320, 40, 6
_BINS = 24
# The golden ratio's part: neighbouring scans are spread evenly over the strip's height.
_SPREAD = 0.6180339887


@dataclass(frozen=True)
class Dot:
    """One scan on a strip; ``index`` is its place on the page."""

    index: int
    value: float
    result: Result


def strip(measured: Measured, dots: Sequence[Dot], bounds: Bounds | None) -> str:
    """An SVG with one dot per scan, a histogram behind, and the limits that lie in its range.

    Each dot has the class of its verdict and the scan's index as ``data-s``, for the page's script
    to mark. Empty for no dots.
    """
    if not dots:
        return ""
    values = np.array([dot.value for dot in dots])
    low, high = _range(values)
    scale = (_WIDTH - 2 * _MARGIN) / (high - low)

    def x(value: float) -> float:
        return _MARGIN + (min(max(value, low), high) - low) * scale

    title = escape(f"{measured.title}{f', {measured.unit}' if measured.unit else ''}")
    parts = [_histogram(values, low, high), *_lines(bounds, low, high, x)]
    for dot in dots:
        y = 6 + (dot.index * _SPREAD % 1) * (_HEIGHT - 12)
        out = "" if low <= dot.value <= high else " out"
        parts.append(
            f'<circle class="{dot.result}{out}" data-s="{dot.index}" cx="{x(dot.value):.1f}" '
            f'cy="{y:.1f}" r="2.5"/>'
        )
    ends = (
        f"<span>{escape(measured.shown(float(values.min())))}</span>"
        f"<span>{escape(measured.shown(float(values.max())))}</span>"
    )
    return (
        f'<figure class="strip"><figcaption>{title}'
        f'<b data-m="{measured.name}"></b></figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">'
        f'{"".join(parts)}</svg><div class="ends">{ends}</div></figure>'
    )


def _range(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """From the lowest to the highest value, but no more than four boxes away from the quartiles.

    A phantom among heads would otherwise press all heads into one line.
    """
    lower, upper = np.quantile(values, (0.25, 0.75))
    box = 4 * float(upper - lower)
    low, high = float(values.min()), float(values.max())
    if box > 0:
        low, high = max(low, float(lower) - box), min(high, float(upper) + box)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return low - room, high + room


def _histogram(values: npt.NDArray[np.float64], low: float, high: float) -> str:
    counts, _ = np.histogram(values, _BINS, range=(low, high))
    width = (_WIDTH - 2 * _MARGIN) / _BINS
    heights = counts / max(int(counts.max()), 1) * (_HEIGHT - 2)
    bars = "".join(
        f'<rect x="{_MARGIN + i * width:.1f}" y="{_HEIGHT - h:.1f}" '
        f'width="{width - 0.5:.1f}" height="{h:.1f}"/>'
        for i, h in enumerate(heights)
        if h
    )
    return f'<g class="bars">{bars}</g>'


def _lines(
    bounds: Bounds | None, low: float, high: float, x: Callable[[float], float]
) -> list[str]:
    if bounds is None:
        return []
    limits = (
        ("fail", bounds.fail_below), ("review", bounds.review_below),
        ("review", bounds.review_above), ("fail", bounds.fail_above),
    )  # fmt: skip
    return [
        f'<line class="{kind}" x1="{x(at):.1f}" x2="{x(at):.1f}" y1="0" y2="{_HEIGHT}"/>'
        for kind, at in limits
        if at is not None and low <= at <= high
    ]
