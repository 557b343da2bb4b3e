"""The run report as one self-contained page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from server.report.gather import CLASS_FIGURES, Evaluation, NoisedFigures, RunReport
from server.rounds.participation import percent
from shared_model.evaluation import html
from shared_model.evaluation.charts import Series, forest
from shared_model.evaluation.html import Cell, Row
from shared_model.evaluation.results import Estimate
from shared_model.evaluation.wording import moment

_TITLES = {
    "patients": "Test patients",
    "balanced_accuracy": "Balanced accuracy, %",
    "macro_auc": "Macro AUC",
    "calibration_error": "Largest calibration gap",
    "sensitivity": "Sensitivity, %",
    "auc": "AUC",
    "calibration_gap": "Mean score minus share",
}
_PERCENT = ("balanced_accuracy", "sensitivity")


def report_page(report: RunReport) -> str:
    """The page as text; the same report gives the same bytes."""
    last = report.last
    parts = [
        ("figures", "Figures", "" if last is None else _figures(report, last)),
        ("rounds", "Over the rounds", _over_rounds(report)),
        ("privacy", "Privacy", _privacy(report)),
        ("participation", "Participation", _participation(report)),
        ("receipts", "Receipts", _receipts(report)),
        ("unknown", "What is not known here", _unknown(report)),
        ("plan", "Plan and model", _plan(report)),
    ]
    told = html.headline([(verdict, text) for verdict, text in sentences(report)])
    meta = f"{moment(report.created)} · run {report.run_id} · smrfed {report.smrfed}"
    return html.page(
        f"Run {report.run_id}: {report.plan_name}",
        meta,
        [(anchor, name) for anchor, name, text in parts if text],
        told + "".join(text for _, _, text in parts),
    )


def sentences(report: RunReport) -> Iterator[tuple[str, str]]:
    """What the record says, in words, with what it allows."""
    yield (
        "stated",
        (f"{report.rounds_completed} of {report.rounds} rounds completed; {report.state}."),
    )
    if report.rounds_completed:
        yield "stated", f"Training: {report.shares.in_words}."
    for warning in report.shares.warnings:
        yield "warning", f"{warning}."
    last, chance = report.last, 1 / len(report.labels)
    if last is None or last.together is None:
        yield (
            "warning",
            ("No figure about test patients was released: nobody here knows how it does."),
        )
    else:
        found = last.together.figures["balanced_accuracy"]
        shown = found.low is not None and found.low > chance
        text = (
            f"Over the test patients of {last.answered}, after round "
            f"{last.after_round}: balanced accuracy {with_noise('balanced_accuracy', found)} % "
            f"(guessing: {100 * chance:.1f}). The interval holds patients and noise."
        )
        yield "shown" if shown else "not shown", text
        worst = last.worst_balanced_accuracy
        if worst is not None and len(last.sites) > 1:
            yield (
                "stated",
                (
                    f"The worst hospital: {with_noise('balanced_accuracy', worst)} %, with an "
                    "interval that holds for all hospitals at once."
                ),
            )
    privacy = report.privacy
    if privacy.epsilon is None:
        yield "warning", "The training gives patients no formal privacy guarantee (mode none)."
    else:
        over = report.epsilon_budget is not None and privacy.epsilon > report.epsilon_budget
        yield (
            "warning" if over else "stated",
            (
                f"Differential privacy per {privacy.unit}: ε = {privacy.epsilon:.3f} at δ = "
                f"{privacy.delta:g} for the worst patient of the whole plan, budget "
                f"{report.epsilon_budget:g}."
            ),
        )
    receipts = report.receipts
    if receipts.verified:
        yield "stated", f"{receipts.lines} replies stand in an unbroken chain of receipts."
    else:
        yield "warning", f"The chain of receipts is broken: {receipts.problem}."


def with_noise(name: str, found: Estimate | None) -> str:
    """``61.2 (50.0 to 72.1)``; ``?`` where noise hides the value."""
    if found is None or found.low is None or found.high is None:
        return "–"
    factor, digits = (100.0, 1) if name in _PERCENT else (1.0, 0 if name == "patients" else 3)
    value = "?" if found.value is None else f"{factor * found.value:.{digits}f}"
    text = f"{value} ({factor * found.low:.{digits}f} to {factor * found.high:.{digits}f})"
    return text.replace("-", "\u2212")


def _cell(name: str, found: Estimate) -> Cell:
    value, _, rest = with_noise(name, found).partition(" (")
    return Cell(value, rest.removesuffix(")"))


def _figures(report: RunReport, last: Evaluation) -> str:
    columns: Mapping[str, NoisedFigures] = dict(last.sites) | (
        {} if last.together is None else {"all together": last.together}
    )
    rows: list[Row] = [
        [_TITLES[name], *(_cell(name, one.figures[name]) for one in columns.values())]
        for name in ("patients", "balanced_accuracy", "macro_auc", "calibration_error")
    ]
    for k, label in enumerate(report.labels):
        rows += [
            [
                f"{_TITLES[name]}, {label}",
                *(_cell(name, one.per_class[name][k]) for one in columns.values()),
            ]
            for name in CLASS_FIGURES
        ]
    picture = forest(
        "Released balanced accuracy of every hospital",
        list(columns),
        [
            Series(
                "balanced accuracy",
                tuple(one.figures["balanced_accuracy"] for one in columns.values()),
            )
        ],
        "balanced accuracy, %; the interval holds patients and noise",
        null=1 / len(report.labels),
        null_name="guessing",
    )
    matrix = ""
    if last.together is not None:
        body: list[Row] = [
            [label, *(f"{count:.1f}" for count in counts)]
            for label, counts in zip(report.labels, last.together.confusion, strict=True)
        ]
        matrix = (
            html.heading("Confusion matrix of all together, as released")
            + html.table(["True class", *(f"called {label}" for label in report.labels)], body)
            + html.paragraph(
                f"Every number carries normal noise of standard deviation "
                f"{last.together.confusion_sd:.2f} patients; a negative one is noise too.",
                "note",
            )
        )
    missing = [f"missing: {site}: {why}" for site, why in last.missing.items()]
    when = f"after round {last.after_round}" + (", calibrated" if last.calibrated else "")
    return html.section(
        "figures",
        f"What the hospitals released about their test patients, {when}",
        html.table(["", *columns], rows),
        html.figure([picture]),
        html.paragraph(f"Answered: {last.answered}."),
        html.items(missing),
        matrix,
        html.paragraph("?: the noise hides the value; its interval still holds.", "note"),
    )


def _over_rounds(report: RunReport) -> str:
    if len(report.evaluations) < 2:
        return ""
    rows: list[Row] = [
        [
            f"round {one.after_round}" + (", calibrated" if one.calibrated else ""),
            f"{len(one.sites)}",
            *(
                Cell("–") if one.together is None else _cell(name, one.together.figures[name])
                for name in ("balanced_accuracy", "macro_auc")
            ),
            Cell("–")
            if one.worst_balanced_accuracy is None
            else _cell("balanced_accuracy", one.worst_balanced_accuracy),
        ]
        for one in report.evaluations
    ]
    header = ["After", "Hospitals", _TITLES["balanced_accuracy"], _TITLES["macro_auc"]]
    return html.section(
        "rounds", "Over the rounds", html.table([*header, "Worst hospital, %"], rows)
    )


def _privacy(report: RunReport) -> str:
    one = report.privacy
    told = html.paragraph(f"Mode {one.mode}: {one.trust}.")
    if one.epsilon is not None:
        told += html.paragraph(f"Unit: {one.unit}. Neighbouring: {one.neighbouring}.")
        told += html.paragraph(
            f"ε = {one.epsilon:.3f} at δ = {one.delta:g}: {one.how}. Budget: "
            f"{report.epsilon_budget:g}."
        )
    rows: list[Row] = [
        [
            Cell(cost.purpose, cost.what),
            cost.patients,
            f"{cost.count}" + (f" x {cost.steps} steps" if cost.steps > 1 else ""),
            f"{cost.noise_multiplier:g}",
            "no guarantee" if cost.epsilon is None else f"{cost.epsilon:.3f}",
        ]
        for cost in report.releases
    ]
    header = ["What the plan lets leave", "Patients", "Times", "Noise", "ε alone"]
    return html.section("privacy", "Privacy", told, html.table(header, rows))


def _participation(report: RunReport) -> str:
    rows: list[Row] = [
        [
            one.site,
            Cell(f"{share.declared_patients}", percent(share.share)),
            f"{one.accepted} of {share.asked}",
            Cell("; ".join(one.missed) or "–", left=True),
        ]
        for one, share in zip(report.participation, report.shares.sites, strict=True)
    ]
    header = ["Hospital", "Declared patients", "Rounds that counted"]
    return html.section(
        "participation",
        "Who took part",
        html.paragraph(f"{report.shares.in_words[:1].upper()}{report.shares.in_words[1:]}."),
        html.items(report.shares.warnings),
        html.table([*header, Cell("Set aside", left=True)], rows),
        html.paragraph(f"All rounds together took {report.minutes:.1f} minutes.", "note"),
    )


def _receipts(report: RunReport) -> str:
    one = report.receipts
    text = (
        f"{one.lines} replies received, {one.authentic} of them authentic, "
        f"{one.bytes / 1e6:.2f} MB; the hash chain is unbroken. smrfed-coordinator receipts shows "
        "every line."
    )
    if not one.verified:
        text = f"The receipts cannot be trusted: {one.problem}."
    return html.section("receipts", "Receipts", html.paragraph(text))


def _unknown(report: RunReport) -> str:
    return html.section("unknown", "What the coordinator does not know", html.items(report.unknown))


def _plan(report: RunReport) -> str:
    offsets = "none"
    if report.offsets is not None:
        offsets = ", ".join(f"{label} {value:+.3f}" for label, value in report.offsets.items())
    return html.section(
        "plan",
        "Plan and model",
        html.facts(
            [
                ("Plan", report.plan_name),
                ("Plan digest", report.plan_digest),
                ("Model", report.model),
                ("Federated parameters", f"{report.shared_parameters:,}"),
                ("Model digest", report.model_sha256),
                ("Class biases from calibration", offsets),
            ]
        ),
        html.code(report.plan_text),
    )
