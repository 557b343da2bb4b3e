"""The tables of the report as rows of text, ready for the template."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from simulations.report.evidence import decide
from simulations.report.groups import Group, shown_groups
from simulations.report.results import SEEN, UNSEEN, Arm, FederationReport, Score
from simulations.report.wording import percent, points

_SMALL_CLASS = 50


@dataclass(frozen=True)
class ScoreCell:
    """One score: text, interval, and how it is to be set."""

    value: str
    interval: str
    is_best: bool
    is_guessing: bool


@dataclass(frozen=True)
class ScoreColumn:
    """Heading of one group of test patients."""

    title: str
    note: str
    is_summary: bool


@dataclass(frozen=True)
class ScoreRow:
    """One arm over all groups."""

    arm: Arm
    is_headline: bool
    privacy: str
    cells: tuple[ScoreCell | None, ...]


@dataclass(frozen=True)
class ScoreTable:
    """Arms by groups: balanced accuracy with 95 % interval."""

    columns: tuple[ScoreColumn, ...]
    rows: tuple[ScoreRow, ...]


@dataclass(frozen=True)
class SpreadRow:
    """How evenly one arm serves the hospitals, with its AUC and calibration."""

    title: str
    is_headline: bool
    mean: str
    worst: str
    worst_site: str
    gap: str
    auc: tuple[str, str]
    ece: tuple[str, str]


@dataclass(frozen=True)
class ParticipationRow:
    """One hospital over the rounds."""

    site: str
    accepted: int
    set_aside: tuple[str, ...]


def score_table(report: FederationReport) -> ScoreTable:
    """Balanced accuracy of every arm; the highest of each column is best, ties included.

    The shuffled control and a prior compete for no best.
    """
    groups = shown_groups(report)
    keys = [group.key for group in groups]
    best = {
        key: max(
            (
                arm.scores[key].balanced_accuracy
                for arm in report.arms
                if key in arm.scores and arm.role not in ("shuffled", "prior")
            ),
            default=None,
        )
        for key in keys
    }
    rows = []
    for arm in report.arms:
        cells = []
        for key in keys:
            score = arm.scores.get(key)
            competes = arm.role not in ("shuffled", "prior")
            cells.append(
                None
                if score is None
                else ScoreCell(
                    value=f"{100 * score.balanced_accuracy:.1f}",
                    interval=f"{100 * score.low:.1f}–{100 * score.high:.1f}",
                    is_best=competes and score.balanced_accuracy == best[key],
                    is_guessing=decide(score.low, score.high, report.chance) != "shown",
                )
            )
        privacy = "none" if arm.epsilon is None else f"ε = {arm.epsilon:.2f}"
        rows.append(ScoreRow(arm, arm.key == report.headline_arm, privacy, tuple(cells)))
    return ScoreTable(tuple(_column(report, group) for group in groups), tuple(rows))


def _column(report: FederationReport, group: Group) -> ScoreColumn:
    sizes = [arm.scores[group.key].n for arm in report.arms if group.key in arm.scores]
    note = f"n = {sizes[0]}" if sizes else ""
    return ScoreColumn(group.title, note, group.key in (SEEN, UNSEEN))


def spread_table(report: FederationReport) -> tuple[SpreadRow, ...]:
    """Mean, worst hospital and gap over the hospitals that took part; AUC and ECE by group."""
    seen = [site.name for site in report.cohort if not site.held_out]
    rows = []
    for arm in report.arms:
        scores = {name: arm.scores[name].balanced_accuracy for name in seen if name in arm.scores}
        if not arm.scores:
            continue
        worst = min(scores, key=lambda name: scores[name]) if scores else None
        rows.append(
            SpreadRow(
                title=arm.title,
                is_headline=arm.key == report.headline_arm,
                mean=percent(sum(scores.values()) / len(scores)) if scores else "–",
                worst=percent(scores[worst]) if worst is not None else "–",
                worst_site=worst or "",
                gap=points(max(scores.values()) - min(scores.values())).lstrip("+")
                if scores
                else "–",
                auc=(_auc(arm.scores.get(SEEN)), _auc(arm.scores.get(UNSEEN))),
                ece=(_ece(arm.scores.get(SEEN)), _ece(arm.scores.get(UNSEEN))),
            )
        )
    return tuple(rows)


def _auc(score: Score | None) -> str:
    return "–" if score is None or score.macro_auc is None else f"{score.macro_auc:.3f}"


def _ece(score: Score | None) -> str:
    return "–" if score is None or score.ece is None else f"{score.ece:.3f}"


def participation_table(report: FederationReport) -> tuple[ParticipationRow, ...]:
    """Per hospital the rounds that counted, and the others in ranges with their reason."""
    rows = []
    for site in report.cohort:
        accepted = sum(site.name in record.accepted for record in report.participation)
        missed = [
            (record.round, aside.reason)
            for record in report.participation
            for aside in record.set_aside
            if aside.site == site.name
        ]
        if accepted or missed:
            rows.append(ParticipationRow(site.name, accepted, _in_ranges(missed)))
    return tuple(rows)


def _in_ranges(missed: list[tuple[int, str]]) -> tuple[str, ...]:
    """Neighbouring rounds with one reason become one line: ``rounds 3–5: deadline``."""
    lines = []
    ordered = sorted(missed)
    runs = groupby(enumerate(ordered), key=lambda pair: (pair[1][0] - pair[0], pair[1][1]))
    for (_, reason), run in runs:
        rounds = [number for _, (number, _) in run]
        span = f"round {rounds[0]}" if len(rounds) == 1 else f"rounds {rounds[0]}–{rounds[-1]}"
        lines.append(f"{span}: {reason}")
    return tuple(lines)


def small_groups(report: FederationReport) -> tuple[str, ...]:
    """Hospitals where some class has fewer than 50 test patients: their figures are indicative."""
    arm = report.arm(report.headline_arm)
    names = []
    for site in report.cohort:
        score = arm.scores.get(site.name)
        if score is None:
            continue
        models = sum(map(sum, score.confusion)) // score.n
        if min(sum(row) // models for row in score.confusion) < _SMALL_CLASS:
            names.append(site.name)
    return tuple(names)
