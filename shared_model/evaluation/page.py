"""The evaluation as one HTML file that needs nothing else: no script, no font, no network."""

from __future__ import annotations

from shared_model.evaluation import (
    arm_sections,
    beyond_sections,
    fact_sections,
    headline_sections,
    html,
)
from shared_model.evaluation.results import EvaluationDocument
from shared_model.evaluation.sentences import sentences
from shared_model.evaluation.wording import moment

STAYS = (
    "Must not leave this hospital: these figures depend on single patients, without noise. What "
    "may leave is decided by the site's policy and goes through its egress gate."
)
_SECTIONS = (
    ("accuracy", "Accuracy", arm_sections.accuracy),
    ("differences", "Against other arms", arm_sections.comparisons),
    ("classes", "Classes", headline_sections.classes),
    ("calibration", "Calibration", headline_sections.calibration),
    ("subgroups", "Subgroups", headline_sections.subgroups),
    ("case-mix", "Case mix", headline_sections.case_mix),
    ("selective", "If it may pass", headline_sections.selective),
    ("conversion", "Conversion", headline_sections.conversion),
    ("domain", "Trace of the hospital", beyond_sections.domain),
    ("robustness", "Worse scans", beyond_sections.robustness),
    ("patients", "Patients", fact_sections.patients),
    ("privacy", "Privacy", fact_sections.privacy),
    ("method", "Method and limits", fact_sections.method),
)


def evaluation_page(document: EvaluationDocument) -> str:
    """The page as text; the same document gives the same bytes."""
    made = [(anchor, name, make(document)) for anchor, name, make in _SECTIONS]
    told = html.headline([(one.verdict, one.text) for one in sentences(document)])
    stays = html.warning(STAYS) if document.scope == "stays" else ""
    patients = sum(site.patients for site in document.patients)
    sites = len(document.patients)
    meta = f"{moment(document.created)} · {patients} test patients, {sites} hospital"
    meta += "s" if sites > 1 else ""
    if document.provenance.synthetic:
        meta += " · simulated patients only"
    return html.page(
        document.title,
        meta,
        [(anchor, name) for anchor, name, text in made if text],
        stays + told + "".join(text for _, _, text in made),
    )
