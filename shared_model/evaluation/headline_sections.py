"""Sections about the headline arm: classes, calibration, subgroups and what else it is told of."""

from __future__ import annotations

from shared_model.evaluation import beyond_sections, html
from shared_model.evaluation.cells import figure_cell
from shared_model.evaluation.charts import confusion, unit_square
from shared_model.evaluation.figures import CLASS_TITLES, METRIC_TITLES
from shared_model.evaluation.html import Cell, Row
from shared_model.evaluation.results import SEEN, UNSEEN, EvaluationDocument
from shared_model.evaluation.wording import NONE, number, with_interval

_PRIMARY = "balanced_accuracy"


def classes(document: EvaluationDocument) -> str:
    """Every class against the rest, confusion matrices and ROC curves of the headline arm."""
    arm = document.arm(document.headline)
    parts = []
    for where in (SEEN, UNSEEN):
        if where not in arm.groups:
            continue
        group, title = arm.groups[where], document.group_title(where)
        rows: list[Row] = [
            [
                CLASS_TITLES[name],
                *(figure_cell(name, one) for one in group.per_class[name]),
            ]
            for name in CLASS_TITLES
        ]
        header: list[Cell | str] = ["Class against the rest"]
        header += [
            Cell(label, f"n = {n}")
            for label, n in zip(document.labels, group.class_patients, strict=True)
        ]
        curves = next((c for c in document.curves if c.where == where), None)
        pictures = [confusion(f"Confusion, {title}", document.labels, group.confusion, "Patients")]
        if curves is not None:
            pictures.append(
                unit_square(
                    f"ROC curves, {title}",
                    curves.roc,
                    "1 − specificity",
                    "sensitivity",
                    heading="ROC, class against rest",
                )
                or ""
            )
        parts += [html.heading(title), html.table(header, rows), html.figure(pictures, wide=False)]
    note = (
        "Sensitivity, specificity and predictive values in percent. The threshold for 90 % "
        "sensitivity is chosen on these patients, hence optimistic. AUC: bootstrap interval; below "
        "it DeLong's as a cross-check."
    )
    return html.section(
        "classes", f"Class by class: “{arm.title}”", *parts, html.paragraph(note, "note")
    )


def calibration(document: EvaluationDocument) -> str:
    """Reliability diagrams and calibration figures of the headline arm."""
    arm = document.arm(document.headline)
    pictures: list[str | None] = []
    rows: list[Row] = []
    names = ("ece", "macro_ece", "calibration_slope", "calibration_intercept", "temperature")
    for curves in document.curves:
        title = document.group_title(curves.where)
        pictures.append(
            unit_square(
                f"Reliability diagram, {title}",
                curves.reliability,
                "mean probability in the bin",
                "share with the class",
                marks=True,
                heading=title,
            )
        )
        group = arm.groups[curves.where]
        rows.append([title, *(figure_cell(name, group.metrics[name]) for name in names)])
    note = (
        "Bins of equal size and about ten patients, 15 at most; ECE has 15 always. Slope 1 "
        "and intercept 0 are calibrated; a slope below 1, and a fitted "
        "temperature above 1, mean over-confident. ECE is biased upwards with few patients: "
        "compare arms on the same patients only; its interval shows variation, not that bias."
    )
    return html.section(
        "calibration",
        "Are the probabilities right?",
        html.figure(pictures, wide=False),
        html.table(["Group", *(METRIC_TITLES[name] for name in names)], rows),
        html.paragraph(note, "note"),
        beyond_sections.recalibration(document),
    )


def subgroups(document: EvaluationDocument) -> str:
    """The headline arm by sex, age band, field strength and vendor."""
    if not document.subgroups:
        return ""
    rows: list[Row] = []
    for one in document.subgroups:
        base: list[Cell | str] = [
            Cell(f"{one.column}: {one.value}", document.group_title(one.where)),
            "hidden" if one.patients is None else str(one.patients),
        ]
        if one.suppressed:
            rows.append([*base, Cell("too few of a class", left=True), *[NONE] * 4])
            continue
        base += [figure_cell(name, one.metrics[name]) for name in (_PRIMARY, "macro_auc", "ece")]
        for name in ("sensitivity", "specificity"):
            base.append(" / ".join(number(name, found.value) for found in one.per_class[name]))
        rows.append(base)
    header: list[Cell | str] = ["Subgroup", "Patients", METRIC_TITLES[_PRIMARY], "Macro AUC", "ECE"]
    order = " / ".join(document.labels)
    header += [Cell("Sensitivity", order), Cell("Specificity", order)]
    gaps = [
        f"{gap.column}, {document.group_title(gap.where)}: "
        + (NONE if gap.gap is None else f"{100 * gap.gap:.1f} points")
        for gap in document.odds_gaps
    ]
    told = html.heading("Equalised-odds gap") + html.items(gaps) if gaps else ""
    note = (
        "No figure where a class has fewer than 20 patients. The gap is the largest difference "
        "between shown subgroups in sensitivity or false-positive rate of any class; the largest "
        "of many noisy differences is above zero for a fair model too."
    )
    return html.section(
        "subgroups", "Subgroups", html.table(header, rows), told, html.paragraph(note, "note")
    )


def case_mix(document: EvaluationDocument) -> str:
    """Predictive values at other prevalences."""
    rows: list[Row] = []
    for one in document.prevalence:
        shares = " / ".join(f"{100 * s:.0f}" for s in one.prevalence)
        rows.append(
            [
                Cell(one.name, f"{document.group_title(one.where)}; {shares} %"),
                number("accuracy", one.accuracy),
                *(figure_cell("ppv", found) for found in one.ppv),
                *(figure_cell("npv", found) for found in one.npv),
            ]
        )
    if not rows:
        return ""
    header = ["Shares of the classes", "Accuracy"]
    header += [f"{name} {label}" for name in ("PPV", "NPV") for label in document.labels]
    note = (
        "Sensitivities and specificities are taken as they are; between a memory clinic and a "
        "population that is an assumption (other patients, other spectrum)."
    )
    return html.section(
        "case-mix", "At another case mix", html.table(header, rows), html.paragraph(note, "note")
    )


def selective(document: EvaluationDocument) -> str:
    """What if the model may pass: coverage-risk, and referral at a fixed NPV."""
    pictures: list[str | None] = []
    rows: list[Row] = []
    for curves in document.curves:
        title = document.group_title(curves.where)
        pictures.append(
            unit_square(
                f"Coverage-risk curve, {title}",
                [curves.coverage_risk],
                "share of patients answered",
                "share of wrong answers",
                diagonal=False,
                heading=title,
            )
        )
        rows.append(
            [
                title,
                figure_cell("aurc", curves.area_under_risk),
                figure_cell("referral_rate_at_95_npv", curves.referred_at_npv),
            ]
        )
    note = (
        "The most certain patients are answered first; a curve that falls to the left says that "
        "certainty means something. Referred: patients not ruled out when 95 % of those ruled out "
        f"are {document.labels[0]}; the threshold is chosen on these patients, hence optimistic."
    )
    return html.section(
        "selective",
        "If the model may pass",
        html.figure(pictures, wide=False),
        html.table(["Group", METRIC_TITLES["aurc"], "Referred at 95 % NPV, %"], rows),
        html.paragraph(note, "note"),
    )


def conversion(document: EvaluationDocument) -> str:
    """Progressive against stable MCI, for every arm."""
    rows: list[Row] = []
    bold: list[bool] = []
    for arm in document.arms:
        for where, one in arm.conversion.items():
            rows.append(
                [
                    Cell(arm.title, document.group_title(where)),
                    f"{one.progressed} / {one.stable} / {one.unknown}",
                    with_interval("auc", one.auc),
                    figure_cell("sensitivity", one.sensitivity),
                    figure_cell("specificity", one.specificity),
                ]
            )
            bold.append(arm.key == document.headline)
    if not rows:
        return ""
    header = ["Arm", "Progressed / stable / unknown", "AUC of p(AD)"]
    header += ["Sensitivity at 0.5", "Specificity at 0.5"]
    note = (
        "Patients with MCI who had AD within 36 months (progressed), or were followed up that long "
        "without (stable). Unknown: followed up too briefly, or reverted. The models were trained "
        "to tell classes apart, not to foretell; 0.5 was fixed before."
    )
    return html.section(
        "conversion",
        "From MCI to AD within 36 months",
        html.table(header, rows, bold),
        html.paragraph(note, "note"),
    )
