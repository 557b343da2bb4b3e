"""Pass, review or fail, with every reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from client.quality.catalogue import BY_NAME
from client.quality.limits import Bounds, QualityLimits
from client.quality.scan_measures import ScanMeasures

Result = Literal["pass", "review", "fail"]
#: A note is for a person's eyes and changes no verdict: it rests on other people's scans, and one
#: patient must not decide whether another is trained on (docs/quality.md).
Level = Literal["note", "review", "fail"]
_WORST_FIRST = ("fail", "review", "note")
#: Raise it with any change of how measures become verdicts; the limits speak for themselves.
VERDICT_VERSION = 1


class Reason(BaseModel):
    """Why a scan does not simply pass."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(description="kind of reason, e.g. dice-low; stable, for filters and counts")
    level: Level
    text: str = Field(description="one sentence; names no person")
    measure: str | None = Field(default=None, description="attribute of ScanMeasures")
    value: float | None = None
    limit: float | None = None
    final: bool = Field(default=False, description="a person cannot accept the scan all the same")


class Verdict(BaseModel):
    """What is decided about one scan: its worst reason, or pass without one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    result: Result
    reasons: tuple[Reason, ...] = ()

    @property
    def final(self) -> bool:
        """Whether the scan fails in a way that no person can accept."""
        return any(reason.final and reason.level == "fail" for reason in self.reasons)

    def with_reasons(self, more: Iterable[Reason]) -> Verdict:
        """The verdict with what was found by looking at other scans too."""
        return verdict_of((*self.reasons, *more))


def verdict_of(reasons: Iterable[Reason]) -> Verdict:
    """Fail before review before pass; notes alone pass."""
    given = tuple(sorted(reasons, key=lambda reason: _WORST_FIRST.index(reason.level)))
    worst = given[0].level if given else "note"
    return Verdict(result="pass" if worst == "note" else worst, reasons=given)


def judge_scan(measures: ScanMeasures, limits: QualityLimits) -> Verdict:
    """Judge one scan by itself."""
    reasons = list(_technical(measures))
    for name in QualityLimits.model_fields:
        bounds = getattr(limits, name)
        if isinstance(bounds, Bounds):
            value = BY_NAME[name].value(measures)
            if value is not None and (reason := _beyond(name, value, bounds)) is not None:
                reasons.append(reason)
    return verdict_of(reasons)


def count_results(verdicts: Mapping[str, Verdict]) -> dict[Result, int]:
    """How many scans pass, need review and fail."""
    counts: dict[Result, int] = {"pass": 0, "review": 0, "fail": 0}
    for verdict in verdicts.values():
        counts[verdict.result] += 1
    return counts


def _technical(measures: ScanMeasures) -> Iterable[Reason]:
    """What no single number tells."""
    if measures.dice is None or measures.correlation is None:
        yield Reason(
            id="not-registered",
            level="fail",
            text="The scan was not registered to MNI152.",
            measure="dice",
            final=True,
        )
    elif measures.centre_shift_mm is None:
        yield Reason(
            id="outside-grid",
            level="fail",
            text="There is no brain in the model's field of view.",
            measure="centre_shift_mm",
            final=True,
        )
    if measures.determinant is not None and measures.determinant < 0:
        yield Reason(
            id="mirrored",
            level="fail",
            text="The registration swaps left and right.",
            measure="determinant",
            value=measures.determinant,
            limit=0,
            final=True,
        )
    if measures.dice is not None and measures.white_over_grey is None:
        yield Reason(
            id="no-tissues",
            level="fail",
            text="What was taken for a brain has no fluid, grey and white matter.",
            measure="white_over_grey",
            final=True,
        )
    if measures.header.handedness_disagrees:
        yield Reason(
            id="left-right-unknown",
            level="review",
            text="sform and qform of the file disagree on which side is left.",
        )


def _beyond(name: str, value: float, bounds: Bounds) -> Reason | None:
    sides: tuple[tuple[float | None, Literal["review", "fail"], Literal["low", "high"]], ...] = (
        (bounds.fail_below, "fail", "low"),
        (bounds.fail_above, "fail", "high"),
        (bounds.review_below, "review", "low"),
        (bounds.review_above, "review", "high"),
    )
    measured = BY_NAME[name]
    for limit, level, side in sides:
        if limit is not None and (value < limit if side == "low" else value > limit):
            least = "at least" if side == "low" else "at most"
            text = (
                f"{measured.title} {measured.shown(value)}, {least} "
                f"{measured.shown(limit)} expected: {measured.hint}."
            )
            return Reason(
                id=f"{name.replace('_', '-')}-{side}",
                level=level,
                text=text,
                measure=name,
                value=value,
                limit=limit,
                final=bounds.final and level == "fail",
            )
    return None
