"""What one item of the battery says, and the list of all items."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class BatteryResult(BaseModel):
    """One item of science.md 3.6 on one or several seeds.

    Attributes:
        name: short name of the item.
        bar: what must hold, in words.
        figures: what was measured, by name.
        passed: whether it holds.
        note: what a reader must know beside the figures.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    bar: str
    figures: dict[str, float]
    passed: bool
    note: str = ""
