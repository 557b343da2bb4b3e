"""How numbers and names are written for a reader who is not a statistician."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def percent(fraction: float) -> str:
    """0.6123 as ``61.2 %``, with a narrow no-break space."""
    return f"{100 * fraction:.1f}\u202f%"


def interval(low: float, high: float) -> str:
    """Two fractions as ``52.0 to 69.4 %``."""
    return f"{100 * low:.1f} to {percent(high)}"


def points(difference: float) -> str:
    """A difference of fractions in signed percentage points: ``+3.1``, ``−0.4`` or ``0.0``."""
    text = f"{100 * difference:+.1f}".replace("-", "\u2212")
    return "0.0" if text[1:] == "0.0" else text


def points_interval(low: float, high: float) -> str:
    """Two differences as ``−1.0 to +6.2``."""
    return f"{points(low)} to {points(high)}"


def significant(value: float) -> str:
    """Up to three significant digits, without a trailing zero: ``7.98``, ``0.5``, ``10⁻⁵``."""
    text = f"{value:.3g}"
    if "e" not in text:
        return text
    mantissa, exponent = text.split("e")
    power = "10" + str(int(exponent)).translate(_RAISED)
    return power if mantissa == "1" else f"{mantissa} × {power}"


def moment(created: str) -> str:
    """ISO 8601 time as ``2 March 2026, 10:15 UTC``; text that is no time stays as it is."""
    try:
        at = datetime.fromisoformat(created)
    except ValueError:
        return created
    zone = f" {at.tzname()}" if at.tzinfo is not None else ""
    return f"{at.day} {at:%B %Y, %H:%M}{zone}"


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def region_title(name: str) -> str:
    """``inferior_lateral_ventricle_zone_left`` as ``Inferior lateral ventricle, left``."""
    stem, side = name, ""
    for ending in ("left", "right"):
        if name.endswith(f"_{ending}"):
            stem, side = name.removesuffix(f"_{ending}"), f", {ending}"
    words = stem.removesuffix("_zone").replace("_", " ")
    return words[:1].upper() + words[1:] + side


def duration(seconds: float) -> str:
    """``12 s``, ``4 min 10 s`` or ``2 h 5 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
