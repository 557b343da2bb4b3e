"""Times, sizes and figures as a person reads them."""

from __future__ import annotations

from datetime import UTC, datetime

from server.evaluation.intervals import Estimate

_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))


def lasting(seconds: float) -> str:
    """``42 s``, ``3.5 min``, ``2.1 h``."""
    for size, name in _UNITS:
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def sized(count: int) -> str:
    """``1.2 MB``."""
    for size, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= size:
            return f"{count / size:.1f} {name}"
    return f"{count} bytes"


def moment(text: str | datetime | None, *, seconds: bool = False) -> str:
    """``2026-11-21 23:40 UTC``; what is no time stays as it is."""
    if text is None:
        return "never"
    try:
        time = text if isinstance(text, datetime) else datetime.fromisoformat(text)
    except ValueError:
        return str(text)
    form = "%Y-%m-%d %H:%M:%S UTC" if seconds else "%Y-%m-%d %H:%M UTC"
    return time.astimezone(UTC).strftime(form)


def budget(value: float | None, mode: str) -> str:
    """An epsilon; none in mode ``none``."""
    if mode == "none":
        return "none"
    return "…" if value is None else f"{value:.3f}"


def with_interval(found: Estimate, factor: float = 1.0, digits: int = 3) -> tuple[str, str]:
    """The value (``?`` where noise hides it) and its interval."""
    value = "?" if found.value is None else f"{factor * found.value:.{digits}f}"
    return value, f"{factor * found.low:.{digits}f} to {factor * found.high:.{digits}f}"
