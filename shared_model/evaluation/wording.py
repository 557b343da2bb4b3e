"""Figures as a reader who is no statistician sees them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

from shared_model.evaluation.results import Estimate

#: What stands where a figure is not determined.
NONE = "–"
#: Figures shown in percent; differences of them in percentage points.
PERCENT = (
    "balanced_accuracy",
    "accuracy",
    "sensitivity",
    "specificity",
    "ppv",
    "npv",
    "referral_rate_at_95_npv",
    "specificity_at_90_sensitivity",
)


def number(metric: str, value: float | None) -> str:
    """One value in the metric's unit."""
    if value is None or not math.isfinite(value):
        return NONE
    if metric in PERCENT:
        return f"{100 * value:.1f}"
    return f"{value:.3f}".replace("-", "\u2212")


def span(metric: str, found: Estimate) -> str:
    """``52.0 to 69.4``; empty where there is no interval."""
    if found.low is None or found.high is None:
        return ""
    return f"{number(metric, found.low)} to {number(metric, found.high)}"


def with_interval(metric: str, found: Estimate | None) -> str:
    """``61.2 (52.0 to 69.4)``."""
    if found is None or found.value is None:
        return NONE
    interval = span(metric, found)
    return (
        f"{number(metric, found.value)} ({interval})" if interval else number(metric, found.value)
    )


def difference(metric: str, found: Estimate) -> str:
    """``+3.1 (-1.0 to +7.2)``, in percentage points for figures in percent."""
    if found.value is None:
        return NONE
    text = signed(metric, found.value)
    if found.low is None or found.high is None:
        return text
    return f"{text} ({signed(metric, found.low)} to {signed(metric, found.high)})"


def signed(metric: str, value: float) -> str:
    """A difference with its sign."""
    text = f"{100 * value:+.1f}" if metric in PERCENT else f"{value:+.3f}"
    return text.replace("-", "\u2212")


def p_value(p: float | None) -> str:
    """``0.021``, ``< 0.001``."""
    if p is None:
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def moment(created: str) -> str:
    """ISO 8601 as ``2 March 2026, 10:15 UTC``; what is no time stays."""
    try:
        at = datetime.fromisoformat(created)
    except ValueError:
        return created
    zone = f" {at.tzname()}" if at.tzinfo is not None else ""
    return f"{at.day} {at:%B %Y, %H:%M}{zone}"
