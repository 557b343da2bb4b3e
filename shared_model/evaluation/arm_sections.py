"""Sections that compare the arms: accuracy, spread, differences, gains."""

from __future__ import annotations

from collections.abc import Sequence

from shared_model.evaluation import html
from shared_model.evaluation.cells import figure_cell
from shared_model.evaluation.charts import Series, forest
from shared_model.evaluation.figures import INDICATIVE_BELOW, METRIC_TITLES, SHORT_TITLES
from shared_model.evaluation.html import Cell, Row
from shared_model.evaluation.results import (
    SEEN,
    UNSEEN,
    ArmFigures,
    Estimate,
    EvaluationDocument,
    PairedDifference,
)
from shared_model.evaluation.wording import NONE, difference, number, p_value, signed

_PRIMARY = "balanced_accuracy"
_FOREST_ARMS = 5
#: What each metric over the sums is printed for, for all arms.
_ARM_COLUMNS = (
    "macro_auc",
    "macro_auprc",
    "macro_f1",
    "mcc",
    "negative_log_likelihood",
    "brier_score",
    "ece",
)


def accuracy(document: EvaluationDocument) -> str:
    """Balanced accuracy of every arm in every group, and the forest of the hospitals."""
    groups = document.groups
    header: list[Cell | str] = ["Arm"]
    for where in groups:
        sizes = {a.groups[where].patients for a in document.arms if where in a.groups}
        header.append(Cell(document.group_title(where), f"n = {max(sizes)}"))
    rows: list[Row] = [
        [
            arm.title,
            *(
                figure_cell(_PRIMARY, arm.groups[where].metrics[_PRIMARY])
                if where in arm.groups
                else Cell(NONE)
                for where in groups
            ),
        ]
        for arm in document.arms
    ]
    chance = number(_PRIMARY, 1 / len(document.labels))
    rows.append(["Guessing", *[chance] * len(groups)])
    shown = _first_arms(document)
    picture = forest(
        "Balanced accuracy of every hospital with interval",
        [document.group_title(where) for where in groups],
        [
            Series(
                arm.title,
                tuple(
                    arm.groups[where].metrics[_PRIMARY] if where in arm.groups else None
                    for where in groups
                ),
                arm.key == document.headline,
            )
            for arm in shown
        ],
        "balanced accuracy, %, with 95 % interval",
        null=1 / len(document.labels),
        null_name="guessing",
    )
    left_out = len(document.arms) - len(shown)
    note = "Balanced accuracy in percent with its 95 % interval over patients, drawn inside each "
    note += (
        f"hospital and class. Below {INDICATIVE_BELOW} patients of a class a figure is indicative."
    )
    if left_out:
        note += f" The plot shows {len(shown)} arms; the table has all."
    return html.section(
        "accuracy",
        "How well the arms told the classes apart",
        html.table(header, rows, [arm.key == document.headline for arm in document.arms]),
        html.paragraph(note, "note"),
        html.figure([picture]),
        _spread(document),
        *(_arm_metrics(document, where) for where in (SEEN, UNSEEN)),
    )


def _first_arms(document: EvaluationDocument) -> list[ArmFigures]:
    """The headline, the arm trained alone, and the best others: as many as a plot can hold."""
    first = [document.arm(document.headline)]
    if document.alone is not None:
        first.append(document.arm(document.alone))

    def figure(arm: ArmFigures) -> float:
        found = next(iter(arm.groups.values())).metrics[_PRIMARY].value
        return -1.0 if found is None else found

    first += sorted((arm for arm in document.arms if arm not in first), key=figure, reverse=True)
    return first[:_FOREST_ARMS]


def _spread(document: EvaluationDocument) -> str:
    rows: list[Row] = []
    bold: list[bool] = []
    for arm in document.arms:
        for one in arm.spread:
            if one.metric == _PRIMARY and one.sites > 1:
                kind = "took part" if one.where == SEEN else "left out"
                rows.append(
                    [
                        Cell(arm.title, f"{one.sites} hospitals that were {kind}"
                             if one.where == UNSEEN else f"{one.sites} hospitals that {kind}"),
                        number(_PRIMARY, one.mean),
                        Cell(number(_PRIMARY, one.worst), one.worst_site or ""),
                        number(_PRIMARY, one.gap),
                        number(_PRIMARY, one.sd),
                    ]
                )  # fmt: skip
                bold.append(arm.key == document.headline)
    if not rows:
        return ""
    header = ["Arm", "Mean over hospitals", "Worst hospital", "Best minus worst", "SD"]
    return html.heading("Spread over hospitals, balanced accuracy") + html.table(header, rows, bold)


def _arm_metrics(document: EvaluationDocument, where: str) -> str:
    arms = [arm for arm in document.arms if where in arm.groups]
    if not arms:
        return ""
    rows: list[Row] = [
        [arm.title, *(figure_cell(name, arm.groups[where].metrics[name]) for name in _ARM_COLUMNS)]
        for arm in arms
    ]
    header = ["Arm", *(SHORT_TITLES[name] for name in _ARM_COLUMNS)]
    return html.heading(f"Ranking and calibration, {document.group_title(where)}") + html.table(
        header, rows, [arm.key == document.headline for arm in arms]
    )


def comparisons(document: EvaluationDocument) -> str:
    """The headline against every other arm, and what each hospital gained."""
    sums = [d for d in document.differences if d.where in (SEEN, UNSEEN)]
    primary = [d for d in sums if d.metric == _PRIMARY and d.difference.value is not None]
    if not document.differences:
        return ""
    title = document.arm(document.headline).title
    picture = forest(
        "Paired differences to every other arm",
        [f"{document.arm(d.reference).title}, {document.group_title(d.where)}" for d in primary],
        [Series("difference", tuple(d.difference for d in primary))],
        "balanced accuracy, headline minus the other arm, percentage points",
        null=0.0,
    )
    note = (
        "On the same patients and draws; balanced accuracy in percentage points. p: paired "
        "bootstrap, two-sided, corrected by Holm over all arms and both sums for one metric. For "
        "NLL, Brier and ECE less is better. Filled marks: the interval excludes zero."
    )
    return html.section(
        "differences",
        f"“{title}” against the other arms",
        html.figure([picture]),
        _difference_table(document, sums),
        html.paragraph(note, "note"),
        _gains(document),
    )


def _difference_table(document: EvaluationDocument, found: Sequence[PairedDifference]) -> str:
    """A row per arm and group, a column per metric: difference, interval, corrected p."""
    metrics = list(dict.fromkeys(one.metric for one in found))
    rows: dict[tuple[str, str], dict[str, PairedDifference]] = {}
    for one in found:
        rows.setdefault((one.reference, one.where), {})[one.metric] = one

    def cell(one: PairedDifference | None) -> Cell:
        if one is None or one.difference.value is None:
            return Cell(NONE)
        change = signed(one.metric, one.difference.value)
        if one.difference.low is None or one.difference.high is None:
            return Cell(change)
        low, high = signed(one.metric, one.difference.low), signed(one.metric, one.difference.high)
        return Cell(change, f"{low} to {high}", f"p {p_value(one.p_holm)}")

    body: list[Row] = [
        [
            Cell(document.arm(reference).title, document.group_title(where)),
            *(cell(values.get(name)) for name in metrics),
        ]
        for (reference, where), values in rows.items()
    ]
    return html.table(["Minus", *(SHORT_TITLES[name] for name in metrics)], body)


def _gains(document: EvaluationDocument) -> str:
    sites = [
        d
        for d in document.differences
        if d.reference == document.alone and d.where not in (SEEN, UNSEEN)
    ]
    primary = [d for d in sites if d.metric == _PRIMARY and d.difference.value is not None]
    if document.alone is None or not primary:
        return ""
    picture = forest(
        "What each hospital gained",
        [document.group_title(d.where) for d in primary],
        [Series("difference", tuple(d.difference for d in primary))],
        "balanced accuracy, together minus alone, percentage points",
        null=0.0,
    )
    tests = [t for t in document.across_sites if t.reference == document.alone]
    rows: list[Row] = [
        [
            METRIC_TITLES[t.metric],
            str(t.sites),
            NONE if t.mean is None else difference(t.metric, Estimate(value=t.mean)),
            p_value(t.wilcoxon_p),
            p_value(t.paired_t_p),
        ]
        for t in tests
    ]
    note = (
        "p after Holm's correction over the hospitals. Tests over hospitals take one value each: "
        "with K hospitals Wilcoxon's p is never below 2 / 2^K."
    )
    return (
        html.heading("Does every hospital gain? Together minus alone")
        + html.figure([picture])
        + _difference_table(document, sites)
        + html.table(["Over hospitals", "Hospitals", "Mean", "p, Wilcoxon", "p, paired t"], rows)
        + html.paragraph(note, "note")
    )
