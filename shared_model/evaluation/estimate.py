"""The base of every record of an evaluation, and a figure with its interval."""

from __future__ import annotations

import math
from typing import Self

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Typed, frozen, and nothing but what is declared."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Estimate(Record):
    """A figure with its 95 % interval; ``None`` where the patients do not determine it."""

    value: float | None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, value: float, low: float = math.nan, high: float = math.nan) -> Self:
        """From numbers that may be NaN."""
        known = [x if math.isfinite(x) else None for x in (float(value), float(low), float(high))]
        return cls(value=known[0], low=known[1], high=known[2])
