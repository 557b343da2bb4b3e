"""A figure as a table cell."""

from __future__ import annotations

from shared_model.evaluation.html import Cell
from shared_model.evaluation.results import Estimate
from shared_model.evaluation.wording import number, span


def figure_cell(metric: str, found: Estimate) -> Cell:
    """The value in the metric's unit, its interval below."""
    return Cell(number(metric, found.value), span(metric, found))
