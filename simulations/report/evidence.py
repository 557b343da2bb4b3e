"""When an interval counts as clear of a level: only if the printed digits say so too."""

from __future__ import annotations

from typing import Literal

# Half of the last printed digit (0.1 percentage points): a claim never contradicts its own numbers,
# and rounding noise of a degenerate interval is no evidence.
_HALF_DIGIT = 0.0005

Decision = Literal["shown", "not shown", "against"]


def decide(low: float, high: float, level: float = 0.0) -> Decision:
    """``shown`` if the whole interval lies above the level, ``against`` if below, else neither."""
    if low > level + _HALF_DIGIT:
        return "shown"
    if high < level - _HALF_DIGIT:
        return "against"
    return "not shown"
