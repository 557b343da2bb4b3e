"""The plots of an evaluation: forest, reliability, ROC, confusion and coverage-risk, as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from shared_model.evaluation.results import Curve, Estimate
from shared_model.evaluation.svg import (
    BLUE,
    FAINT,
    GREY,
    INK,
    PALETTE,
    VERMILLION,
    Drawing,
    scale,
    text_width,
    ticks,
)

_SMALL = 11.5
_WIDTH = 860.0
# An axis shows at least that much, so that equal figures do not look different.
_NARROWEST = 0.1


@dataclass(frozen=True)
class Series:
    """Estimates of one arm, a row each; None leaves a row empty."""

    title: str
    rows: tuple[Estimate | None, ...]
    bold: bool = False


def forest(
    title: str,
    rows: Sequence[str],
    series: Sequence[Series],
    axis: str,
    *,
    null: float | None = None,
    null_name: str = "",
    hundredfold: bool = True,
) -> str | None:
    """Estimates with intervals, row by row; None where there is nothing to draw.

    A mark is hollow where its interval holds ``null`` and there is only one series.
    """
    factor = 100.0 if hundredfold else 1.0
    known = [e for s in series for e in s.rows if e is not None and e.value is not None]
    if not known or not rows:
        return None
    ends = [x * factor for e in known for x in (e.value, e.low, e.high) if x is not None]
    if null is not None:
        ends.append(null * factor)
    low, high = min(ends), max(ends)
    pad = max(0.04 * (high - low), (_NARROWEST * factor - (high - low)) / 2)
    low, high = low - pad, high + pad
    pitch = 15.0 * len(series) + 12
    left = 16 + max(text_width(name, 12) for name in rows)
    legend = [s.title for s in series] if len(series) > 1 else []
    column = (_WIDTH - 20 - left) / 2
    columns = 2 if all(text_width(name, 12) + 24 < column for name in legend) else 1
    below = 18.0 * math.ceil(len(legend) / columns)
    top, width = 22.0, _WIDTH
    bottom = top + pitch * len(rows)
    drawing = Drawing(width, bottom + 44 + below, title)
    at = scale(low, high, left, width - 20)
    for i in range(0, len(rows), 2):
        drawing.rectangle(left, top + i * pitch, width - 20 - left, pitch, "#f5f6f8")
    for tick in ticks(low, high, 7):
        drawing.line(at(tick), top, at(tick), bottom, FAINT)
        drawing.text(at(tick), bottom + 15, f"{tick:g}", anchor="middle", size=_SMALL)
    if null is not None:
        drawing.line(at(null * factor), top - 4, at(null * factor), bottom, GREY, 1.2, "4 3")
        if null_name:
            drawing.text(
                at(null * factor), top - 8, null_name, anchor="middle", size=_SMALL, colour=GREY
            )
    for i, name in enumerate(rows):
        drawing.text(left - 8, top + (i + 0.5) * pitch + 4, name, anchor="end")
        for k, one in enumerate(series):
            found = one.rows[i]
            if found is None or found.value is None:
                continue
            y = top + i * pitch + 6 + 15 * (k + 0.5)
            colour = PALETTE[k % len(PALETTE)]
            hollow = False
            if len(series) == 1 and null is not None and found.low is not None:
                assert found.high is not None
                hollow = found.low <= null <= found.high
                colour = GREY if hollow else BLUE if found.low > null else VERMILLION
            if found.low is not None and found.high is not None:
                wide = 3.0 if one.bold else 1.8
                drawing.line(at(found.low * factor), y, at(found.high * factor), y, colour, wide)
            drawing.marker(at(found.value * factor), y, k, colour, 5.2 if one.bold else 4.2, hollow)
    drawing.text((left + width - 20) / 2, bottom + 34, axis, anchor="middle")
    for k, name in enumerate(legend):
        x = left + (k % columns) * (width - 20 - left) / columns
        y = bottom + 56 + 18 * (k // columns)
        drawing.marker(x, y - 4, k, PALETTE[k % len(PALETTE)])
        drawing.text(x + 12, y, name, bold=series[k].bold)
    return drawing.render()


def unit_square(
    title: str,
    curves: Sequence[Curve],
    x_axis: str,
    y_axis: str,
    *,
    marks: bool = False,
    diagonal: bool = True,
    heading: str = "",
    names: Sequence[str] = (),
) -> str | None:
    """Curves in the unit square; ``marks`` draws their points with a size by patients."""
    drawn = [c for c in curves if c.x]
    if not drawn:
        return None
    side, left, top = 236.0, 52.0, 26.0
    below = 18.0 * len(drawn) if len(drawn) > 1 or names else 0.0
    drawing = Drawing(left + side + 22, top + side + 42 + below, title)
    x_of, y_of = scale(0, 1, left, left + side), scale(0, 1, top + side, top)
    if heading:
        drawing.text(left, 15, heading, bold=True)
    for tick in (0, 0.25, 0.5, 0.75, 1):
        drawing.line(left, y_of(tick), left + side, y_of(tick), FAINT)
        drawing.line(x_of(tick), top, x_of(tick), top + side, FAINT)
        drawing.text(x_of(tick), top + side + 14, f"{tick:g}", anchor="middle", size=_SMALL)
        drawing.text(left - 6, y_of(tick) + 4, f"{tick:g}", anchor="end", size=_SMALL)
    if diagonal:
        drawing.line(x_of(0), y_of(0), x_of(1), y_of(1), GREY, 1, "4 3")
    for k, curve in enumerate(drawn):
        colour = PALETTE[k % len(PALETTE)]
        points = [(x_of(x), y_of(y)) for x, y in zip(curve.x, curve.y, strict=True)]
        drawing.path(points, colour, 1.4 if marks else 2)
        if marks:
            for x, y in points:
                drawing.marker(x, y, k, colour, 3.6)
        if below:
            y = top + side + 46 + 18 * k
            drawing.marker(left + 4, y - 4, k, colour)
            drawing.text(left + 16, y, names[k] if names else curve.name)
    drawing.text(left + side / 2, top + side + 31, x_axis, anchor="middle")
    drawing.text(14, top + side / 2, y_axis, anchor="middle", turn=-90)
    return drawing.render()


def confusion(
    title: str, labels: Sequence[str], counts: Sequence[Sequence[int]], heading: str
) -> str:
    """Patients by true class (row) and decision (column), shaded by the share of the row."""
    cell, top = 62.0, 26.0
    left = 30 + max(text_width(name, 12) for name in labels)
    side = cell * len(labels)
    drawing = Drawing(max(left + side + 12, left + text_width(heading, 13)), top + side + 42, title)
    drawing.text(left, 15, heading, bold=True)
    for r, row in enumerate(counts):
        total = sum(row)
        y = top + r * cell
        drawing.text(left - 8, y + cell / 2 + 4, labels[r], anchor="end")
        drawing.text(left + (r + 0.5) * cell, top + side + 16, labels[r], anchor="middle")
        for c, count in enumerate(row):
            share = count / total if total else 0.0
            x = left + c * cell
            drawing.rectangle(x, y, cell - 1, cell - 1, BLUE, round(0.06 + 0.84 * share, 3))
            colour = "#fff" if share > 0.55 else INK
            middle = x + cell / 2
            drawing.text(middle, y + 27, str(count), anchor="middle", colour=colour, bold=r == c)
            if total:
                drawing.text(
                    middle,
                    y + 43,
                    f"{100 * share:.0f} %",
                    anchor="middle",
                    size=_SMALL,
                    colour=colour,
                )
    drawing.text(left + side / 2, top + side + 34, "decision of the model", anchor="middle")
    drawing.text(12, top + side / 2, "true class", anchor="middle", turn=-90)
    return drawing.render()
