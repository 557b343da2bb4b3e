"""One self-contained page about one scan: pictures, and how far they can be trusted."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from client.explanation.findings import Findings
from client.explanation.overlay import Overlay
from client.explanation.statements import (
    EVEN_MAP,
    NO_DIAGNOSIS,
    STAYS,
    WORDING,
    Subject,
    contribution_meaning,
    known,
    positions,
    prediction_rows,
    volume_reference,
    volume_rows,
)
from client.explanation.trust import trust_section
from client.quality.png import data_url
from shared_model.atlas.atlas import Atlas
from shared_model.evaluation import svg
from shared_model.evaluation.html import (
    Cell,
    facts,
    figure,
    heading,
    page,
    paragraph,
    section,
    table,
    warning,
)
from shared_model.explanation.figures import StudyFigures
from shared_model.explanation.methods import METHODS
from shared_model.explanation.region_table import RegionRow
from shared_model.grid import ModelGrid

_SHOWN_FIRST, _SHOWN_LAST, _VOLUMES = 15, 5, 12


def explanation_page(
    subject: Subject,
    findings: Findings,
    overlays: Mapping[str, Overlay],
    atlas: Atlas,
    grid: ModelGrid,
    figures: StudyFigures,
    norms_reference: str,
) -> str:
    """The page as text; everything that came from outside is escaped."""
    body = "".join(
        (
            warning(STAYS),
            _prediction(subject, findings),
            _maps(findings, overlays),
            trust_section(findings, figures),
            _attention(findings, grid),
            _regions(findings),
            _edges(findings),
            _volumes(findings, atlas, norms_reference),
        )
    )
    links = [
        ("prediction", "Prediction"),
        ("maps", "Maps"),
        ("trust", "How far to trust them"),
        ("regions", "Regions"),
        ("volumes", "Volumes"),
    ]
    return page(f"{WORDING}: {subject.title}", subject.model_line(), links, body)


def _prediction(subject: Subject, findings: Findings) -> str:
    return section(
        "prediction",
        "Prediction",
        table(
            ("Class", "Probability", Cell("Scan shifted by one voxel", "lowest to highest")),
            prediction_rows(findings),
        ),
        facts(known(subject, findings)),
        paragraph(NO_DIAGNOSIS, "note"),
    )


def _maps(findings: Findings, overlays: Mapping[str, Overlay]) -> str:
    parts = [
        paragraph(
            f"{WORDING}, for the class {findings.labels[findings.target]}. Rows: sagittal, coronal "
            "and axial slices where most of each map lies; the patient's right is on the picture's "
            "right. Colours run from dark red to yellow at each map's own maximum: two maps cannot "
            "be compared by colour. The same maps lie beside this page as NIfTI files."
        )
    ]
    for number, relevance in enumerate(findings.relevance):
        method, drawn = METHODS[relevance.method], overlays[relevance.method]
        parts.append(heading(method.title + (" (default)" if number == 0 else "")))
        parts.append(
            f'<figure><div style="overflow-x:auto"><img style="min-width:640px;max-width:100%;'
            f'height:auto" alt="{method.title} over the scan" src="{data_url(drawn.png)}"></div>'
            f'<figcaption class="note">{method.about} {positions(drawn)}.</figcaption></figure>'
        )
    if findings.left_out:
        parts.append(paragraph("Not for this model: " + "; ".join(findings.left_out), "note"))
    return section("maps", "Maps", *parts)


def _attention(findings: Findings, grid: ModelGrid) -> str:
    if not findings.slice_attention:
        return ""
    drawings = [
        _curve(plane, values, axis, grid)
        for axis, (plane, values) in enumerate(findings.slice_attention.items())
    ]
    return section(
        "slices",
        "Slice attention",
        figure(
            drawings,
            "How much each slice weighed, MNI152 position in mm; dots mark the five with most. "
            "Attention says where the model looked, not why.",
            wide=False,
        ),
    )


def _curve(plane: str, values: np.ndarray, axis: int, grid: ModelGrid) -> str:
    width, height = 340.0, 200.0
    step = grid.spacing_mm * grid.shape[axis] / len(values)
    corner = grid.affine[axis, 3] - grid.spacing_mm / 2
    mm = corner + (np.arange(len(values)) + 0.5) * step
    drawing = svg.Drawing(width, height, f"Slice attention, {plane}")
    x = svg.scale(float(mm[0]), float(mm[-1]), 34, width - 10)
    y = svg.scale(0, float(values.max()), height - 30, 26)
    drawing.text(34, 16, plane, bold=True)
    for tick in svg.ticks(float(mm[0]), float(mm[-1]), 5):
        drawing.line(x(tick), height - 30, x(tick), height - 26)
        drawing.text(x(tick), height - 12, f"{tick:.0f}", anchor="middle", size=11)
    drawing.line(34, height - 30, width - 10, height - 30)
    drawing.path([(x(float(a)), y(float(b))) for a, b in zip(mm, values, strict=True)], svg.BLUE)
    drawing.text(30, y(float(values.max())) + 4, f"{values.max():.0%}", anchor="end", size=11)
    for index in np.argsort(-values)[:5]:
        drawing.marker(x(float(mm[index])), y(float(values[index])), 0, svg.VERMILLION)
    return drawing.render()


def _regions(findings: Findings) -> str:
    rows = findings.regions
    header = (
        "Region", "Side", "Rank", "Contribution", "Mean", "SD", "Maximum", "Minimum",
        Cell("V_r", "ml in the top 0.1 %"), Cell("P_r", "of the region"), "Share of map",
        Cell("Left-right", "own minus other side"), Cell("Volume", "percentile"),
    )  # fmt: skip
    shown = [*rows[:_SHOWN_FIRST], *rows[-_SHOWN_LAST:]]
    share = findings.volumes.percentiles()
    lines = [_line(row, None if share is None else share[row.index]) for row in shown]
    title = METHODS[findings.relevance[0].method].title
    return section(
        "regions",
        "Atlas regions",
        "" if findings.drove(1) else paragraph(EVEN_MAP),
        paragraph(
            f"{title}, the {_SHOWN_FIRST} regions that drove the output most and the "
            f"{_SHOWN_LAST} that did least; regions.csv has all {len(rows)}. "
            f"{contribution_meaning(findings)}"
        ),
        table(header, lines),
    )


def _line(row: RegionRow, volume_percentile: float | None) -> list[str]:
    return [
        row.name.replace("_", " "),
        row.side,
        str(row.rank),
        "" if row.contribution is None else f"{row.contribution:+.3f}",
        f"{row.mean:.3g}",
        f"{row.std:.2g}",
        f"{row.max:.3g}",
        f"{row.min:.3g}",
        f"{row.overlap_ml:.2f}",
        f"{row.covered:.0%}",
        f"{row.share:.1%}",
        "" if row.asymmetry is None else f"{row.asymmetry:+.2f}",
        "" if volume_percentile is None else f"{volume_percentile:.0f}",
    ]


def _edges(findings: Findings) -> str:
    rows = [
        (f"{e.first} - {e.second}".replace("_", " "), f"{e.weight:.2f}", f"{e.strength:.2f}")
        for e in findings.edges
    ]
    if not rows:
        return ""
    return section(
        "edges",
        "Region graph",
        paragraph(
            "Anatomical connections between regions that both counted. An edge says where "
            "neighbours could exchange what they hold, not that the disease spreads along it."
        ),
        table(("Edge", "Weight", Cell("Strength", "weight times both regions")), rows),
    )


def _volumes(findings: Findings, atlas: Atlas, reference: str) -> str:
    return section(
        "volumes",
        "Region volumes",
        paragraph(
            f"{volume_reference(findings, reference)} Tissue (fluid in the ventricles) where the "
            f"atlas has the region; whole brain {findings.volumes.brain_ml:.0f} ml in MNI152 "
            "space. Read off the image, not from the model: "
            "what a map points at should make sense here too."
        ),
        table(("Region", "ml", "z", "Percentile"), volume_rows(findings, atlas, _VOLUMES)),
    )
