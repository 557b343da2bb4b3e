"""What the methods were measured to be worth, beside their pictures, failures included."""

from __future__ import annotations

from client.explanation.findings import Findings
from shared_model.evaluation.html import Cell, Row, headline, items, paragraph, section, table
from shared_model.explanation.figures import (
    ALIKE,
    Interval,
    LocalisationFigures,
    MethodFigures,
    Sameness,
    StudyFigures,
)
from shared_model.explanation.methods import METHODS

BASELINES = {
    "edge_detector": "Edges of the scan (no model)",
    "mean_brain": "Mean brain (no model)",
    "regions_alike": "Every region alike (no model)",
}


def trust_section(findings: Findings, figures: StudyFigures) -> str:
    """The study's figures for the methods shown, with the default's bars and its failures."""
    shown = findings.relevance[0].method
    bars = [
        ("held" if met else "against", f"{METHODS[shown].title}: {bar}.")
        for bar, met in figures.verdicts(shown).items()
    ]
    rows = [_row(METHODS[r.method].title, figures.method(r.method)) for r in findings.relevance]
    rows += [_row(BASELINES.get(b.method, b.method), b) for b in figures.baselines]
    failures = [
        f"{one.patient}, predicted {one.predicted}: {one.mass_over_chance:.1f} times chance; the "
        f"map named {', '.join(one.top_regions[:3]).replace('_', ' ')} first."
        for one in figures.failures
    ]
    return section(
        "trust",
        "How far to trust the maps",
        paragraph(
            "Measured on synthetic patients whose atrophy is known, with another model of the same "
            f"kind ({figures.command}, {figures.made}). On real patients nobody knows the truth: "
            "these figures are the best case, not a promise for this scan or this model."
        ),
        headline(bars),
        table(_HEADER, rows),
        paragraph(
            "Mass: share of the map on truly atrophied regions over their share of the brain "
            f"({figures.chance:.1%}); 1 is chance. Likeness is rank correlation / structural "
            "similarity of two maps of a scan. Shuffled weights: to the map of a model whose "
            f"weights mean nothing; from {ALIKE} on the map may hardly depend on what was learnt, "
            "or be almost empty, as structural similarity is high for any two empty maps. "
            "With privacy: mean over models, least and most of them. Deletion: area under the "
            "probability while the most relevant voxels turn into a public brain's, low is good; "
            "insertion: the other way round, high is good.",
            "note",
        ),
        paragraph("Failures of the default, the worst of each cohort:") if failures else "",
        items(failures),
    )


_HEADER: Row = (
    "Map",
    Cell("Mass over chance", "95 % interval"),
    Cell("Worst patient"),
    Cell("Shuffled weights"),
    Cell("Two trainings"),
    Cell("Other architecture"),
    Cell("With privacy", "mass, by model"),
    "Deletion",
    "Insertion",
)


def _row(title: str, found: MethodFigures | None) -> Row:
    if found is None:
        return (title, *("not measured",) * 8)
    local = found.localisation
    return (
        title,
        _interval(local.mass_over_chance),
        Cell(f"{local.worst:.1f}", f"of {local.patients}"),
        _same(found.cascade[-1] if found.cascade else None),
        _same(found.repeated),
        _same(found.reproduced),
        "" if found.private is None else _by_model(found.private),
        "" if found.deletion is None else f"{found.deletion.value:.2f}",
        "" if found.insertion is None else f"{found.insertion.value:.2f}",
    )


def _same(found: Sameness | None) -> str:
    return "" if found is None else found.brief


def _by_model(found: LocalisationFigures) -> Cell:
    """Every private model has its own luck, which an interval over patients hides."""
    text = f"{found.mass_over_chance.value:.1f}"
    if not found.by_model:
        return Cell(text)
    return Cell(text, f"{min(found.by_model):.1f} to {max(found.by_model):.1f}")


def _interval(value: Interval) -> Cell:
    return Cell(f"{value.value:.1f}", f"{value.low:.1f} to {value.high:.1f}")
