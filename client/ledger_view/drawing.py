"""Epsilon over time as an SVG, drawn without any plotting library: a site has none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape

from client.ledger_view.timeline import Curve

WIDTH, HEIGHT = 860, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 24, 40, 62
_TOTAL = "#1b3a57"
_CAP = "#b3261e"
# Okabe and Ito 2008: told apart by everybody.
_PLANS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")


def drawing(
    curves: Sequence[Curve],
    names: Mapping[str, str],
    cap: float,
    delta: float,
    now: datetime | None = None,
) -> str:
    """The SVG: the whole ledger's curve, each plan's by itself, and the cap (dashed).

    ``names`` are the plans' names by digest. A curve is flat between charges and up to ``now``:
    what is spent stays spent.
    """
    end = now or datetime.now(UTC)
    times = [time for curve in curves for time in curve.times]
    first = min(times, default=end)
    last = max([end, *times])
    highest = max([cap, *(value for curve in curves for value in curve.epsilon)])
    scale = _Scale(first, last, 1.12 * highest)
    labels = [("whole ledger, worst patient", _TOTAL, 3.0)]
    parts = [_frame(scale, delta), _cap(scale, cap)]
    plans = [curve for curve in curves if curve.plan_digest is not None]
    for number, curve in enumerate(plans):
        colour = _PLANS[number % len(_PLANS)]
        parts.append(_path(scale, curve, last, colour, 1.8))
        assert curve.plan_digest is not None
        name = names.get(curve.plan_digest, curve.plan_digest[:12])
        labels.append((f"{name}, by itself", colour, 1.8))
    parts += [
        _path(scale, curve, last, _TOTAL, 3.0) for curve in curves if curve.plan_digest is None
    ]
    rows = math.ceil(len(labels) / 2)
    height = HEIGHT + 20 * rows
    parts.append(_legend(labels))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" role="img" '
        'font-family="Helvetica, Arial, sans-serif" font-size="13">'
        "<title>Privacy budget spent over time</title>"
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>{"".join(parts)}</svg>\n'
    )


class _Scale:
    """From a time and an epsilon to a place on the page."""

    def __init__(self, first: datetime, last: datetime, highest: float) -> None:
        self.first, self.last = first, last
        self.ticks = _ticks(highest)
        self.highest = max(highest, self.ticks[-1])
        self.seconds = max((last - first).total_seconds(), 1.0)

    def x(self, time: datetime) -> float:
        share = (time - self.first).total_seconds() / self.seconds
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def y(self, epsilon: float) -> float:
        return HEIGHT - _BOTTOM - epsilon / self.highest * (HEIGHT - _TOP - _BOTTOM)


def _ticks(highest: float) -> list[float]:
    step = 10.0 ** math.floor(math.log10(highest / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if highest / (step * factor) <= 6)
    return [step * number for number in range(math.floor(highest / step) + 1)]


def _frame(scale: _Scale, delta: float) -> str:
    parts = [_text(_LEFT, 22, f"epsilon of the worst patient, at delta {delta:g}", "start", 14)]
    for value in scale.ticks:
        y = scale.y(value)
        parts.append(_line(_LEFT, y, WIDTH - _RIGHT, y, "#e3e6ea"))
        parts.append(_text(_LEFT - 8, y + 4, f"{value:g}", "end"))
    count = 5
    whole_days = scale.seconds > 3 * 86400
    for number in range(count):
        time = scale.first + (scale.last - scale.first) * number / (count - 1)
        anchor = {0: "start", count - 1: "end"}.get(number, "middle")
        text = f"{time:%Y-%m-%d}" if whole_days else f"{time:%Y-%m-%d %H:%M}"
        parts.append(_text(scale.x(time), HEIGHT - _BOTTOM + 20, text, anchor, 12))
    base = scale.y(0)
    parts.append(_line(_LEFT, base, WIDTH - _RIGHT, base, "#5f6b76"))
    return "".join(parts)


def _cap(scale: _Scale, cap: float) -> str:
    y = scale.y(cap)
    text = _text(WIDTH - _RIGHT, y - 6, f"the hospital's cap: {cap:g}", "end", 12, _CAP)
    dashes = ' stroke-dasharray="7 5" stroke-width="1.6"'
    return _line(_LEFT, y, WIDTH - _RIGHT, y, _CAP, dashes) + text


def _path(scale: _Scale, curve: Curve, last: datetime, colour: str, width: float) -> str:
    if not curve.times:
        return ""
    height = scale.y(0)
    steps = [f"M{scale.x(curve.times[0]):.1f},{height:.1f}"]
    for time, value in zip(curve.times, curve.epsilon, strict=True):
        steps.append(f"H{scale.x(time):.1f}V{scale.y(value):.1f}")
    steps.append(f"H{scale.x(last):.1f}")
    return (
        f'<path d="{"".join(steps)}" fill="none" stroke="{colour}" stroke-width="{width}" '
        'stroke-linejoin="round"/>'
    )


def _legend(labels: Sequence[tuple[str, str, float]]) -> str:
    parts = []
    for number, (text, colour, width) in enumerate(labels):
        x = _LEFT + (number % 2) * (WIDTH - _LEFT - _RIGHT) / 2
        y = HEIGHT - 10 + 20 * (number // 2)
        stroke = f' stroke-width="{width}"'
        parts.append(_line(x, y, x + 26, y, colour, stroke))
        parts.append(_text(x + 34, y + 4, text if len(text) < 52 else f"{text[:49]}...", "start"))
    return "".join(parts)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, more: str = "") -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{more}/>'
    )


def _text(
    x: float, y: float, text: str, anchor: str, size: int = 13, colour: str = "#26313b"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'fill="{colour}">{escape(text)}</text>'
    )
