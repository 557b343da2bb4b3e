"""The study's figures as the tables and sentences of docs/distributed_privacy.md."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import linear_regression

from simulations.modes_study.cells import DESIGN
from simulations.modes_study.results import Difference, ModesStudy, Row
from simulations.modes_study.settings import ARMS, schedule
from simulations.modes_study.tuning import Tried, Tuning
from simulations.privacy_study.predicted import Metric, Where
from simulations.privacy_study.results import Estimate

_PLACES: dict[Where, str] = {
    "seen": "at the hospitals that train",
    "unseen": "at the unseen hospital",
}
_METRICS: dict[Metric, str] = {
    "balanced_accuracy": "balanced accuracy",
    "macro_auc": "macro AUC",
}


def table(study: ModesStudy, *, by_hospitals: bool = False) -> Iterator[str]:
    """Lines of Markdown: against epsilon with the cohort's hospitals, or against their number."""
    seen: Where = "first" if by_hospitals else "seen"
    yield (
        "| arm | hospitals | ε | σ | S predicted | S measured | patients for S = 10 | "
        "balanced accuracy, seen | macro AUC, seen | "
        "balanced accuracy, unseen | macro AUC, unseen |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for row in _rows(study, by_hospitals):
        cells = (
            ARMS[row.arm].title, row.hospitals, "none" if row.epsilon is None else row.epsilon,
            row.noise_multiplier, row.predicted, row.measured, row.patients_needed,
            row.scores[seen]["balanced_accuracy"], row.scores[seen]["macro_auc"],
            row.scores["unseen"]["balanced_accuracy"], row.scores["unseen"]["macro_auc"],
        )  # fmt: skip
        yield "| " + " | ".join(map(_text, cells)) + " |"


def _rows(study: ModesStudy, by_hospitals: bool) -> Iterator[Row]:
    for row in study.rows:
        design = row.hospitals == DESIGN or row.arm == "alone"
        if by_hospitals and row.epsilon in (None, study.hospitals_epsilon):
            yield row
        if not by_hospitals and design:
            yield row


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if isinstance(value, float) and value != int(value) else f"{value}"


def gains(study: ModesStudy) -> Iterator[str]:
    """Lines of Markdown: what an arm gains over mode ``local`` with as many hospitals.

    A hospital alone is held against mode ``local`` of all. Bold: the two arms' own intervals do not
    overlap.
    """
    yield (
        "| arm | hospitals | ε | balanced accuracy, seen | macro AUC, seen | "
        "balanced accuracy, unseen | macro AUC, unseen |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    found = {(d.arm, d.epsilon, d.hospitals, d.where, d.metric): d for d in study.differences}
    for arm, epsilon, hospitals in dict.fromkeys(key[:3] for key in found):
        cells = [
            _gain(study, found[arm, epsilon, hospitals, where, metric])
            for where in _PLACES
            for metric in _METRICS
        ]
        yield f"| {ARMS[arm].title} | {hospitals} | {epsilon:g} | {' | '.join(cells)} |"


def _gain(study: ModesStudy, found: Difference) -> str:
    d = found.difference
    text = f"{d.value:+.2f} [{d.low:+.2f}, {d.high:+.2f}]"
    return f"**{text}**" if _apart(*_both(study, found)) else text


def sentences(study: ModesStudy) -> Iterator[str]:
    """What mode ``distributed`` gains over mode ``local`` with the cohort's hospitals."""
    for found in study.differences:
        if found.arm == "distributed" and found.hospitals == DESIGN and found.where in _PLACES:
            yield _sentence(study, found)


def _sentence(study: ModesStudy, found: Difference) -> str:
    one, two = _both(study, found)
    d = found.difference
    told = "intervals do not overlap" if _apart(one, two) else "intervals overlap"
    shown = "the difference is shown" if d.low > 0 or d.high < 0 else "no difference is shown"
    return (
        f"ε = {found.epsilon:g}, {_METRICS[found.metric]}, {_PLACES[found.where]}: "
        f"{one} against {two} of mode local ({told}); "
        f"{d.value:+.2f} [{d.low:+.2f}, {d.high:+.2f}], {shown}."
    )


def per_doubling(study: ModesStudy, where: Where, metric: Metric) -> float:
    """By how much a score rises per doubling of S: least squares over all rows with noise.

    Rows share patients, so no interval is given.
    """
    rows = [row for row in study.rows if row.predicted is not None and row.arm != "hospital"]
    signal = [math.log2(row.predicted or math.nan) for row in rows]
    return linear_regression(signal, [row.scores[where][metric].value for row in rows]).slope


def doublings(study: ModesStudy) -> str:
    """What S is worth, whatever the mode, in a sentence."""
    slopes = (
        f"{per_doubling(study, where, metric):+.3f} in {name} {_PLACES[where]}"
        for where in _PLACES
        for metric, name in _METRICS.items()
    )
    return f"Over all rows with noise for patients, a doubling of S goes with {', '.join(slopes)}."


def _both(study: ModesStudy, found: Difference) -> tuple[Estimate, Estimate]:
    """An arm, and what it is held against."""
    ours = study.row(found.arm, found.epsilon, found.hospitals)
    theirs = study.row("local", found.epsilon, DESIGN if found.arm == "alone" else found.hospitals)
    assert ours is not None
    assert theirs is not None
    return ours.scores[found.where][found.metric], theirs.scores[found.where][found.metric]


def _apart(one: Estimate, two: Estimate) -> bool:
    return one.low > two.high or two.low > one.high


def tried(tuning: Tuning) -> Iterator[str]:
    """Lines of Markdown: every schedule that was tried; bold: the one that the study takes."""
    yield "| arm | ε | S predicted | schedule | balanced accuracy | macro AUC |"
    yield "| --- | --- | --- | --- | --- | --- |"
    yield from map(tried_line, tuning.tried)


def tried_line(one: Tried) -> str:
    """One row of :func:`tried`."""
    text = f"**{one.schedule}**" if one.schedule == schedule(one.predicted) else f"{one.schedule}"
    return (
        f"| {ARMS[one.arm].title} | {'none' if one.epsilon is None else f'{one.epsilon:g}'} | "
        f"{'' if one.predicted is None else f'{one.predicted:.2f}'} | {text} | "
        f"{one.balanced_accuracy:.2f} | {one.macro_auc:.2f} |"
    )
