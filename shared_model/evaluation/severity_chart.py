"""A line per kind of corruption over its severity, as SVG."""

from __future__ import annotations

from collections.abc import Sequence

from shared_model.evaluation.beyond import CorruptionFigures
from shared_model.evaluation.svg import FAINT, GREY, PALETTE, Drawing, scale, ticks

_SMALL = 11.5


def severity_lines(
    title: str,
    heading: str,
    figures: Sequence[CorruptionFigures],
    names: dict[str, str],
    guessing: float,
) -> str | None:
    """Balanced accuracy in percent over severity with intervals; None without figures."""
    shown = [one for one in figures if one.balanced_accuracy.value is not None]
    if not shown:
        return None
    kinds = tuple(dict.fromkeys(one.kind for one in shown))
    ends = [
        100 * x
        for one in shown
        for x in (one.balanced_accuracy.value, one.balanced_accuracy.low,
                  one.balanced_accuracy.high)
        if x is not None
    ]  # fmt: skip
    low, high = min(100 * guessing, *ends) - 3, max(ends) + 3
    last = max(one.severity for one in shown)
    left, top, width, height = 52.0, 26.0, 330.0, 236.0
    drawing = Drawing(left + width + 22, top + height + 42 + 18.0 * len(kinds), title)
    x_of, y_of = scale(-0.3, last + 0.3, left, left + width), scale(low, high, top + height, top)
    drawing.text(left, 15, heading, bold=True)
    for tick in ticks(low, high, 6):
        drawing.line(left, y_of(tick), left + width, y_of(tick), FAINT)
        drawing.text(left - 6, y_of(tick) + 4, f"{tick:g}", anchor="end", size=_SMALL)
    for severity in range(last + 1):
        label = "as it is" if severity == 0 else f"{severity}"
        drawing.text(x_of(severity), top + height + 14, label, anchor="middle", size=_SMALL)
    level = y_of(100 * guessing)
    drawing.line(left, level, left + width, level, GREY, 1, "4 3")
    drawing.text(left + width, level - 4, "guessing", anchor="end", size=_SMALL, colour=GREY)
    for k, kind in enumerate(kinds):
        colour = PALETTE[k % len(PALETTE)]
        aside = (k - (len(kinds) - 1) / 2) * 0.09
        points = []
        for one in shown:
            found = one.balanced_accuracy
            if one.kind != kind or found.value is None:
                continue
            x, y = x_of(one.severity + aside), y_of(100 * found.value)
            points.append((x, y))
            if found.low is not None and found.high is not None:
                drawing.line(x, y_of(100 * found.low), x, y_of(100 * found.high), colour, 1.2)
            drawing.marker(x, y, k, colour, 3.6)
        drawing.path(points, colour, 1.4)
        y = top + height + 46 + 18 * k
        drawing.marker(left + 4, y - 4, k, colour)
        drawing.text(left + 16, y, names.get(kind, kind))
    drawing.text(left + width / 2, top + height + 31, "severity", anchor="middle")
    drawing.text(14, top + height / 2, "balanced accuracy, %", anchor="middle", turn=-90)
    return drawing.render()
