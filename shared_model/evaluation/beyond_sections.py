"""Sections beyond predictions: trace of the hospital, corrupted scans, attacks, recalibration."""

from __future__ import annotations

from shared_model.evaluation import html
from shared_model.evaluation.beyond import Audit
from shared_model.evaluation.cells import figure_cell
from shared_model.evaluation.html import Cell, Row
from shared_model.evaluation.results import SEEN, UNSEEN, EvaluationDocument
from shared_model.evaluation.severity_chart import severity_lines
from shared_model.evaluation.wording import NONE, difference, number, span

_PRIMARY = "balanced_accuracy"
#: Kinds of corruption as a reader knows them.
KIND_TITLES = {
    "noise": "Noise",
    "bias_field": "Bias field",
    "motion": "Motion",
    "resolution": "Thick slices",
    "missing_slices": "Missing slices",
}


def arm_title(document: EvaluationDocument, key: str) -> str:
    """An arm's title; its key where it has no predictions here."""
    return next((arm.title for arm in document.arms if arm.key == key), key)


def domain(document: EvaluationDocument) -> str:
    """Whether the hospital can be told from the embedding, the diagnosis taken out."""
    rows: list[Row] = []
    for one in document.site_probes:
        trained = f", {one.trained_on} of them trained on" if one.trained_on else ""
        classes = ", ".join(
            f"{c.label} {number(_PRIMARY, c.accuracy)} ({len(c.sites)} hospitals)"
            for c in one.by_class
        )
        rows.append(
            [
                Cell(arm_title(document, one.arm), one.model),
                Cell(str(one.patients), f"{one.sites} hospitals{trained}"),
                figure_cell(_PRIMARY, one.within),
                number(_PRIMARY, one.within_chance),
                figure_cell(_PRIMARY, one.pooled),
                number(_PRIMARY, one.pooled_chance),
                Cell(classes or "too few of a class", left=True),
            ]
        )
    if not rows:
        return ""
    header: list[Cell | str] = ["Model", "Patients", "Within a class", "Guessing"]
    header += [Cell("All, class means off"), "Guessing", Cell("Classes", left=True)]
    note = (
        "Balanced accuracy in percent with which a linear probe names the hospital of a patient "
        "whom it was not fitted on. Within a class: hospitals that differ in prevalence alone are "
        "not told apart. Guessing is 1/K. Hospitals that differ in age or sex are told by those "
        "too; a curved trace may remain where a linear one does not. The interval does not refit."
    )
    return html.section(
        "domain",
        "Can the hospital be told from the embedding?",
        html.table(header, rows),
        html.paragraph(note, "note"),
    )


def robustness(document: EvaluationDocument) -> str:
    """Scans made worse in graded ways."""
    if not document.robustness:
        return ""
    parts: list[str] = []
    guessing = 1 / len(document.labels)
    for arm in dict.fromkeys(one.arm for one in document.robustness):
        pictures: list[str | None] = []
        rows: list[Row] = []
        own = [one for one in document.robustness if one.arm == arm]
        severities = sorted({one.severity for one in own if one.severity})
        for where in (SEEN, UNSEEN):
            here = [one for one in own if one.where == where]
            if not here:
                continue
            title = document.group_title(where)
            told = f"Balanced accuracy of {arm_title(document, arm)} on worse scans, {title}"
            pictures.append(severity_lines(told, title, here, KIND_TITLES, guessing))
            for kind in dict.fromkeys(one.kind for one in here):
                by = {one.severity: one for one in here if one.kind == kind}
                clean = by[0]
                people = "too few of a class" if clean.suppressed else f"n = {clean.patients}"
                row: list[Cell | str] = [
                    Cell(KIND_TITLES.get(kind, kind), f"{title}, {people}"),
                    figure_cell(_PRIMARY, clean.balanced_accuracy),
                ]
                for severity in severities:
                    found = by.get(severity)
                    row.append(
                        Cell(NONE)
                        if found is None or found.change.value is None
                        else Cell(
                            number(_PRIMARY, found.balanced_accuracy.value),
                            difference(_PRIMARY, found.change),
                        )
                    )
                rows.append(row)
        header = ["Scans with", "As they are", *(f"Severity {s}" for s in severities)]
        parts += [
            html.heading(arm_title(document, arm)),
            html.figure(pictures, wide=False),
            html.table(header, rows),
        ]
    note = (
        "Balanced accuracy in percent; below it the change against the same patients' scans as "
        "they are, in points, on the same draws. What a severity is stands in docs/metrics.md. The "
        "effect is put on prepared scans: what bad scans do to preparation is not in it."
    )
    return html.section("robustness", "When scans are worse", *parts, html.paragraph(note, "note"))


def recalibration(document: EvaluationDocument) -> str:
    """Before and after a temperature of the hospital's own."""
    rows: list[Row] = []
    for one in document.recalibration:
        for name, title in (
            ("negative_log_likelihood", "Negative log-likelihood"), ("ece", "ECE, top class"),
        ):  # fmt: skip
            temperatures = ", ".join(
                f"{site} {NONE if t is None else f'{t:.2f}'}" for site, t in one.temperature.items()
            )
            rows.append(
                [
                    Cell(title, document.group_title(one.where)),
                    figure_cell(name, one.before[name]),
                    figure_cell(name, one.after[name]),
                    Cell(temperatures, left=True),
                ]
            )
    if not rows:
        return ""
    header: list[Cell | str] = ["Figure", "Before", "After", Cell("Temperatures", left=True)]
    note = (
        "Each hospital fits one temperature to its own patients, five-fold: nobody helped to fit "
        "the one that is used on them. The temperatures printed are those of all its patients."
    )
    return (
        html.heading("After a temperature of the hospital's own")
        + html.table(header, rows)
        + html.paragraph(note, "note")
    )


def attacks(audit: Audit) -> str:
    """An audit of the software, as part of the privacy section."""
    rows: list[Row] = []
    for one in audit.attacks:
        if one.suppressed:
            rows.append([one.title, "too few", NONE, *([NONE] * 2)])
            continue
        rates = {
            rate.false_positive_rate: Cell(
                number("sensitivity", rate.true_positive_rate.value),
                span("sensitivity", rate.true_positive_rate),
                "" if rate.resolved else "too few outsiders for this rate",
            )
            for rate in one.rates
        }
        rows.append(
            [
                one.title,
                f"{one.members} / {one.outsiders}",
                figure_cell("auc", one.auroc),
                *(rates.get(rate, Cell(NONE)) for rate in (0.001, 0.01)),
            ]
        )
    verdict = "refuted" if audit.refuted else "not refuted"
    told = (
        f"An audit of smrfed {audit.smrfed} on {audit.patients} simulated patients (not of this "
        f"model): epsilon {audit.claimed_epsilon:.2f} at delta {audit.delta:g} was claimed, the "
        f"best attack shows at least {audit.epsilon_at_least:.2f} (95 %): {verdict}."
    )
    header = ["Who was trained on?", "Members / outsiders", "AUROC", "Found at 0.1 % false, %"]
    return (
        html.heading("What attacks could show")
        + html.paragraph(told)
        + html.table([*header, "Found at 1 % false, %"], rows)
        + html.paragraph(f"AUROC 0.5 is guessing. Made by: {audit.command}", "note")
    )
