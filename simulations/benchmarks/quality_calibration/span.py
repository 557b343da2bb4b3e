"""The smallest and largest of some figures, as docs/quality.md tells them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """A range of measured values; ``count`` says how many there were."""

    lowest: float
    highest: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Span | None:
        """The range of some values; None of none."""
        known = [float(value) for value in values]
        if not known:
            return None
        return cls(round(min(known), 4), round(max(known), 4), len(known))

    def __str__(self) -> str:
        low, high = (f"{value:.4g}" for value in (self.lowest, self.highest))
        return low if low == high else f"{low} to {high}"
