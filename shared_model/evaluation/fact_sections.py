"""Sections with facts: who was tested, privacy, method and limits."""

from __future__ import annotations

from shared_model.evaluation import beyond_sections, html
from shared_model.evaluation.html import Cell, Row
from shared_model.evaluation.results import EvaluationDocument
from shared_model.evaluation.wording import NONE


def patients(document: EvaluationDocument) -> str:
    """Who was tested, hospital by hospital."""

    def counted(values: dict[str, int]) -> Cell:
        return Cell(", ".join(f"{name} {n}" for name, n in values.items()) or NONE, left=True)

    rows: list[Row] = []
    for site in document.patients:
        age = NONE if site.age_mean is None else f"{site.age_mean:.1f}"
        sd = "" if site.age_sd is None else f"SD {site.age_sd:.1f}, known of {site.age_known}"
        rows.append(
            [
                Cell(site.site, "took part" if site.seen else "left out of training"),
                NONE if site.trained_on is None else f"{site.trained_on}",
                f"{site.patients}",
                f"{site.scans}",
                *(str(n) for n in site.class_patients),
                counted(site.sex),
                Cell(age, sd),
                counted(site.field_strength_t),
                counted(site.vendor),
                counted(site.progression),
            ]
        )
    header: list[Cell | str] = ["Hospital", "Trained on", "Tested", "Scans"]
    header += document.labels
    header += [Cell("Sex", left=True)]
    header += ["Age, years"]
    header += [Cell(name, left=True) for name in ("Field strength", "Vendor", "Course of MCI")]
    return html.section(
        "patients",
        "Who was tested",
        html.table(header, rows),
        html.paragraph(f"Overlap with training: {document.overlap.how}."),
    )


def privacy(document: EvaluationDocument) -> str:
    """The guarantee, as it was stated."""
    one = document.privacy
    tested = "" if document.audit is None else beyond_sections.attacks(document.audit)
    if one is None:
        return html.section("privacy", "Privacy", html.paragraph("Not stated."), tested)
    if one.epsilon is None:
        text = "No formal guarantee: model updates may reveal something about single patients. "
        return html.section(
            "privacy", "Privacy", html.paragraph(text + f"Mode {one.mode}; {one.trust}."), tested
        )
    pairs = [
        ("Guarantee", f"ε = {one.epsilon:.3f} at δ = {one.delta:g}: {one.how}"),
        ("Unit", one.unit),
        ("Neighbouring", one.neighbouring),
        ("Trust", f"mode {one.mode}: {one.trust}"),
    ]
    pairs += [
        (name, text)
        for name, text in (
            ("Noise multiplier", _number(one.noise_multiplier)),
            ("Clipping norm", _number(one.clipping_norm)),
            ("Sampling", None if one.sampling_rate is None
             else f"each patient with probability {one.sampling_rate:g} at every step"),
            ("Noised steps", None if one.steps is None else f"{one.steps} as planned"),
            ("Gaussian mu", None if one.mu is None else f"{one.mu:.3f}, of the training"),
        )
        if text is not None
    ]  # fmt: skip
    return html.section("privacy", "Privacy", html.facts(pairs), tested)


def method(document: EvaluationDocument) -> str:
    """How the figures were made, what is missing, and how to make them again."""
    from_ = document.provenance
    pairs = [
        ("Seed of the draws", f"{document.seed}, {document.draws} draws of patients"),
        ("Plan", _stated(from_.plan_name)),
        ("Plan digest", _stated(from_.plan_digest)),
        ("Model digest", _stated(from_.model_sha256)),
        ("smrfed", _stated(from_.smrfed)),
        ("Commit", _stated(from_.commit)),
    ]
    again = [html.heading("Run it again"), html.code(from_.command)] if from_.command else []
    return html.section(
        "method",
        "Method and limits",
        html.facts(pairs),
        html.items(document.notes),
        *again,
    )


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:g}"


def _stated(value: str | None) -> str:
    return "not stated" if value is None else value
