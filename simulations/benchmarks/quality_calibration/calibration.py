"""All figures of one set of heads, together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from client.prepared.native_recipe import NativeRecipe
from client.quality.catalogue import CATALOGUE
from client.quality.limits import QualityLimits
from client.quality.verdict import Result, judge_scan
from simulations.benchmarks.quality_calibration.heads import HeadFile
from simulations.benchmarks.quality_calibration.left_right import LeftRight, left_right
from simulations.benchmarks.quality_calibration.likeness import (
    RESCAN,
    changed_heads,
    head_prints,
    on_the_grid,
    registered_again,
)
from simulations.benchmarks.quality_calibration.page_size import page_megabytes
from simulations.benchmarks.quality_calibration.plain_likeness import plain_likeness
from simulations.benchmarks.quality_calibration.prepared_heads import (
    OnGrid,
    PreparedHead,
    Refused,
    prepare_heads,
)
from simulations.benchmarks.quality_calibration.span import Span
from simulations.benchmarks.quality_calibration.spoiled import Spoiled, spoil

_SEED = 20261121


@dataclass(frozen=True)
class HeadRow:
    """One head: how it was stored, what was measured, what quality control says of it."""

    name: str
    result: Result
    reasons: tuple[str, ...]
    measures: dict[str, Any]


@dataclass(frozen=True)
class Calibration:
    """Everything that docs/quality.md tells about measured heads.

    Attributes:
        recipe: digest of the steps and the grid.
        heads, refused: what was prepared, and what was not.
        measures: range of each measure of the catalogue.
        likeness: correlations of fingerprints and of plain volumes.
        left_right: of asymmetries.
        spoiled: verdicts over heads with their skull that were spoiled on purpose.
        page_mb: size of the quality page of 200 such scans.
    """

    recipe: str
    heads: tuple[HeadRow, ...]
    refused: tuple[Refused, ...]
    measures: dict[str, Span | None]
    likeness: dict[str, Span | None]
    left_right: LeftRight
    spoiled: tuple[Spoiled, ...]
    page_mb: float


def calibrate(
    files: Iterable[HeadFile], recipe: NativeRecipe, told: Callable[[str], None]
) -> Calibration:
    """Prepare heads, do harm to them, and look. Raises ValueError when no head is prepared."""
    heads, refused = prepare_heads(files, recipe, told)
    if not heads:
        raise ValueError(f"no head could be prepared: {[r.case for r in refused]}")
    prints, plain, rescans = [], [], []
    spoiled: list[Spoiled] = []
    for head in heads:
        told(f"registering {head.name} again after changes")
        changed = changed_heads(head)
        prints.append(head_prints(head, changed))
        rescans.append(changed[RESCAN])
        work = head.work()
        plain.append(OnGrid.of(work))
        if not head.measures.already_stripped:
            told(f"spoiling {head.name}")
            spoiled += spoil(head, work)
    grid = recipe.input.grid
    return Calibration(
        recipe=recipe.store.digest,
        heads=tuple(map(_row, heads)),
        refused=refused,
        measures={m.name: Span.of(_values(heads, m.value)) for m in CATALOGUE},
        likeness={
            **registered_again(prints),
            **on_the_grid(plain, grid, _SEED),
            **plain_likeness(plain, rescans, grid),
        },
        left_right=left_right(prints),
        spoiled=tuple(spoiled),
        page_mb=page_megabytes(heads),
    )


def _row(head: PreparedHead) -> HeadRow:
    verdict = judge_scan(head.measures, QualityLimits())
    reasons = tuple(reason.id for reason in verdict.reasons)
    return HeadRow(head.name, verdict.result, reasons, head.measures.model_dump(mode="json"))


def _values(heads: Iterable[PreparedHead], value: Callable[[Any], float | None]) -> Iterable[float]:
    return (found for head in heads if (found := value(head.measures)) is not None)
