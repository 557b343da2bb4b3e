"""Small pictures of live pages: participation as a strip, a share as a bar, figures over rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from shared_model.evaluation.svg import (
    BLUE,
    FAINT,
    GREEN,
    GREY,
    PALETTE,
    VERMILLION,
    Drawing,
    scale,
    ticks,
)

_CELLS = 100
_HEIGHT = 16


@dataclass(frozen=True)
class Line:
    """Points of one name; an interval where ``spans`` has one."""

    name: str
    points: tuple[tuple[float, float], ...]
    spans: tuple[tuple[float, float, float], ...] = ()


def strip(taken: Sequence[bool | None], told: str) -> str:
    """Rounds from left to right: high where they counted, low where not, a line where not asked.

    Of more than a hundred, several share a cell, whose height is the share that counted.
    """
    count = len(taken)
    if not count:
        return ""
    cells = min(count, _CELLS)
    parts: list[str] = []
    for i in range(cells):
        group = taken[i * count // cells : (i + 1) * count // cells]
        known = [one for one in group if one is not None]
        share = sum(known) / len(known) if known else 0.0
        colour = GREY if not known else GREEN if share == 1 else VERMILLION
        height = 1.5 if not known else max(4.0, _HEIGHT * share)
        x, wide = i * 600 / cells, 600 / cells - (1.2 if cells <= 60 else 0.0)
        parts.append(
            f'<rect x="{x:.1f}" y="{_HEIGHT - height:.1f}" width="{wide:.2f}" '
            f'height="{height:.1f}" fill="{colour}"/>'
        )
    return (
        f'<svg class="strip" role="img" aria-label="{escape(told)}" viewBox="0 0 600 {_HEIGHT}" '
        f'preserveAspectRatio="none"><title>{escape(told)}</title>{"".join(parts)}</svg>'
    )


def bar(share: float, told: str) -> str:
    """How much of a whole, from 0 to 1."""
    wide = 200 * min(max(share, 0.0), 1.0)
    return (
        f'<svg class="bar-of" role="img" aria-label="{escape(told)}" viewBox="0 0 200 8" '
        f'preserveAspectRatio="none"><rect width="200" height="8" fill="{FAINT}"/>'
        f'<rect width="{wide:.1f}" height="8" fill="{BLUE}"/></svg>'
    )


def chart(
    title: str,
    lines: Sequence[Line],
    x_axis: str,
    last: float,
    *,
    floor: float | None = 0.0,
    limit: tuple[float, str] | None = None,
) -> str:
    """Lines over rounds 0 to ``last``; empty without points.

    ``limit`` is a dashed line with a name.
    ``floor`` is the lower end of the scale; None takes what the points need.
    """
    shown = [line for line in lines if line.points or line.spans]
    if not shown:
        return ""
    values = [y for line in shown for _, y in line.points]
    values += [y for line in shown for _, *span in line.spans for y in span]
    if limit is not None:
        values.append(limit[0])
    low = min(values) if floor is None else min([floor, *values])
    high = max(values)
    pad = (high - low or abs(high) or 1.0) * 0.06
    low, high = (low - pad if floor is None else low), high + pad
    width, left, right, top, bottom = 520.0, 52.0, 508.0, 16.0, 204.0
    rows = len(shown) if len(shown) > 1 else 0
    drawing = Drawing(width, bottom + 42 + 18 * rows, title)
    x_of, y_of = scale(0, max(last, 1), left, right), scale(low, high, bottom, top)
    for value in ticks(low, high, 4):
        drawing.line(left, y_of(value), right, y_of(value), FAINT)
        drawing.text(left - 6, y_of(value) + 4, f"{value:g}", anchor="end", size=11.5)
    for value in ticks(0, max(last, 1), 6):
        if value == int(value):
            drawing.text(x_of(value), bottom + 16, f"{value:g}", anchor="middle", size=11.5)
    drawing.line(left, bottom, right, bottom)
    drawing.text((left + right) / 2, bottom + 33, x_axis, anchor="middle", size=11.5)
    if limit is not None:
        drawing.line(left, y_of(limit[0]), right, y_of(limit[0]), VERMILLION, 1.5, "6 4")
        drawing.text(right, y_of(limit[0]) - 5, limit[1], anchor="end", size=11.5)
    for k, line in enumerate(shown):
        colour = PALETTE[k % len(PALETTE)]
        for x, start, end in line.spans:
            drawing.line(x_of(x), y_of(start), x_of(x), y_of(end), colour, 1.5)
        if len(line.points) > 1:
            drawing.path([(x_of(x), y_of(y)) for x, y in line.points], colour)
        if len(line.points) <= 40:
            for x, y in line.points:
                drawing.marker(x_of(x), y_of(y), k, colour, 3.4)
        if rows:
            y = bottom + 52 + 18 * k
            drawing.marker(left + 5, y - 4, k, colour)
            drawing.text(left + 18, y, line.name, size=11.5)
    return f"<figure><figcaption>{escape(title)}</figcaption>{drawing.render()}</figure>"
