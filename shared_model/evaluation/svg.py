"""Plots as SVG text with nothing but the standard library: a hospital's page needs no matplotlib.

The colours are Okabe and Ito's, safe for the common kinds of colour blindness; every series has a
marker shape as well, so that a print in grey can be read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
SKY, VERMILLION, INK, YELLOW = "#56B4E9", "#D55E00", "#333333", "#B8A800"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILLION, INK, YELLOW)
GREY, FAINT = "#8a8f98", "#e3e6ea"
_MARKERS = ("circle", "square", "diamond", "triangle", "down", "plus", "cross", "circle")
#: Mean width of a character at font size 1 in common sans-serif fonts.
_CHARACTER = 0.56


def text_width(text: str, size: float) -> float:
    """About how wide a text is, px."""
    return len(text) * size * _CHARACTER


@dataclass
class Drawing:
    """Shapes of one picture, in px from the top left corner; ``title`` is read to the blind."""

    width: float
    height: float
    title: str
    parts: list[str] = field(default_factory=list)

    def line(
        self,
        x1: float,
        y1: float,
        x2: float,
        y2: float,
        colour: str = GREY,
        width: float = 1,
        dash: str = "",
    ) -> None:
        """A straight line."""
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
            f'stroke-width="{width:g}"{dashed}/>'
        )

    def path(self, points: Sequence[tuple[float, float]], colour: str, width: float = 2) -> None:
        """A polyline."""
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(
            f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="{width:g}" '
            'stroke-linejoin="round"/>'
        )

    def rectangle(
        self, x: float, y: float, width: float, height: float, fill: str, opacity: float = 1
    ) -> None:
        """A filled rectangle."""
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
            f'fill="{fill}" fill-opacity="{opacity:g}"/>'
        )

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        anchor: str = "start",
        size: float = 12,
        colour: str = INK,
        bold: bool = False,
        turn: float = 0,
    ) -> None:
        """Words whose baseline begins, is centred or ends at a point."""
        weight = ' font-weight="600"' if bold else ""
        turned = f' transform="rotate({turn:g} {x:.1f} {y:.1f})"' if turn else ""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size:g}" '
            f'fill="{colour}"{weight}{turned}>{escape(words)}</text>'
        )

    def marker(
        self, x: float, y: float, kind: int, colour: str, size: float = 4.5, hollow: bool = False
    ) -> None:
        """The mark of a series; ``hollow`` says that its interval holds the null."""
        shape, fill = _MARKERS[kind % len(_MARKERS)], "#fff" if hollow else colour
        style = f'fill="{fill}" stroke="{colour if hollow else "#fff"}" stroke-width="1.2"'
        if shape == "circle":
            self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:g}" {style}/>')
            return
        points = {
            "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
            "diamond": [(0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)],
            "triangle": [(0, -1.2), (1.1, 0.9), (-1.1, 0.9)],
            "down": [(0, 1.2), (1.1, -0.9), (-1.1, -0.9)],
            "plus": [
                (-0.4, -1.2), (0.4, -1.2), (0.4, -0.4), (1.2, -0.4), (1.2, 0.4), (0.4, 0.4),
                (0.4, 1.2), (-0.4, 1.2), (-0.4, 0.4), (-1.2, 0.4), (-1.2, -0.4), (-0.4, -0.4),
            ],
            "cross": [
                (-1.1, -0.5), (-0.5, -1.1), (0, -0.6), (0.5, -1.1), (1.1, -0.5), (0.6, 0),
                (1.1, 0.5), (0.5, 1.1), (0, 0.6), (-0.5, 1.1), (-1.1, 0.5), (-0.6, 0),
            ],
        }[shape]  # fmt: skip
        joined = " ".join(f"{x + size * a:.1f},{y + size * b:.1f}" for a, b in points)
        self.parts.append(f'<polygon points="{joined}" {style}/>')

    def render(self) -> str:
        """The picture as an ``<svg>`` element; the same bytes for the same shapes."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(self.title)}" '
            f'viewBox="0 0 {self.width:.0f} {self.height:.0f}" width="{self.width:.0f}" '
            f'height="{self.height:.0f}" font-family="system-ui, sans-serif">'
            f"<title>{escape(self.title)}</title>{''.join(self.parts)}</svg>"
        )


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers that cover a range, about ``count`` of them."""
    if high <= low:
        return [low]
    rough = (high - low) / count
    magnitude = 10.0 ** _floor_log10(rough)
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= rough)
    first = int(low / step) - 1
    found = [round(step * k, 10) for k in range(first, first + 4 * count + 4)]
    return [t + 0.0 for t in found if low - 1e-9 <= t <= high + 1e-9]


def scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """Data to px."""
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def _floor_log10(value: float) -> int:
    exponent = 0
    while value < 1:
        value *= 10
        exponent -= 1
    while value >= 10:
        value /= 10
        exponent += 1
    return exponent
