"""The explanation of one scan on two A4 pages, for a patient's file: PDF.

What a file is read for, in the page's own words; everything else stays on the HTML page.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.image import imread
from matplotlib.textpath import text_to_path

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
from shared_model.atlas.atlas import Atlas
from shared_model.explanation.figures import StudyFigures
from shared_model.explanation.methods import METHODS

_A4_INCHES = (8.27, 11.69)
_LEFT, _RIGHT, _GAP = 0.08, 0.92, 0.03
_SIZE_POINTS, _LINE = 8.5, 0.0155
_REGIONS, _VOLUMES = 10, 10


def explanation_pdf(
    subject: Subject,
    findings: Findings,
    overlays: Mapping[str, Overlay],
    atlas: Atlas,
    figures: StudyFigures,
    norms_reference: str,
) -> bytes:
    """The same bytes for the same findings: the file has no time of its own."""
    file = io.BytesIO()
    # TrueType: the text can be searched and copied; a scan's name is never taken for mathematics.
    with mpl.rc_context({"pdf.fonttype": 42, "text.parse_math": False}):
        made = pdf_pages(subject, findings, overlays, atlas, figures, norms_reference)
        with PdfPages(file, metadata={"Title": WORDING, "CreationDate": None}) as pdf:
            for figure in made:
                pdf.savefig(figure)
    return file.getvalue()


def pdf_pages(
    subject: Subject,
    findings: Findings,
    overlays: Mapping[str, Overlay],
    atlas: Atlas,
    figures: StudyFigures,
    norms_reference: str,
) -> tuple[Figure, Figure]:
    """Prediction and default map; then regions, volumes, and how far to trust the map."""
    first, second = _Sheet(subject, 1), _Sheet(subject, 2)
    shown = findings.relevance[0].method
    _prediction(first, subject, findings)
    first.heading(f"{METHODS[shown].title}, for the class {findings.labels[findings.target]}")
    _map(first, overlays[shown], METHODS[shown].about)
    _regions(second, findings)
    _volumes(second, findings, atlas, norms_reference)
    second.heading("How far to trust the map")
    for bar, met in figures.verdicts(shown).items():
        second.text(f"{'Held' if met else 'NOT held'}: {bar}.")
    second.text(
        "Measured on synthetic patients whose atrophy is known, with another model of the same "
        "kind: the best case, not a promise for this scan. explanation.html has the figures of all "
        "methods, and the cases on which the default failed."
    )
    return first.figure, second.figure


class _Sheet:
    """One A4 page, written from the top; ``y`` is where the next line goes, 1 the upper edge."""

    def __init__(self, subject: Subject, number: int) -> None:
        self.figure = Figure(figsize=_A4_INCHES)
        self.y = 0.965
        self.text(f"{WORDING}: {subject.title}", 12, bold=True, most=2)
        self.text(STAYS, bold=True, colour="#b00020")
        self.text(subject.model_line(), colour="#555555", most=2)
        self.figure.text(_RIGHT, 0.03, f"{number} of 2", size=8, ha="right")

    def text(
        self,
        text: str,
        size: float = _SIZE_POINTS,
        bold: bool = False,
        colour: str = "black",
        most: int | None = None,
    ) -> None:
        """A paragraph of at most so many lines, if any number is given."""
        font = FontProperties(size=size, weight="bold" if bold else "normal")
        lines = _lines(text, font)
        if most is not None and len(lines) > most:
            lines = [*lines[: most - 1], lines[most - 1][:-1] + "…"]
        for line in lines:
            self.figure.text(_LEFT, self.y, line, fontproperties=font, color=colour, va="top")
            self.y -= _LINE * size / _SIZE_POINTS
        self.y -= 0.005

    def heading(self, text: str) -> None:
        """The title of a part."""
        self.y -= 0.01
        self.text(text, 11, bold=True)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Rows below a header; the first column takes the room that the others leave."""
        bold = FontProperties(size=_SIZE_POINTS, weight="bold")
        edges: list[float] = []
        edge = _RIGHT
        for column in reversed(list(zip(header, *rows, strict=True))[1:]):
            edges.insert(0, edge)
            edge -= max(_width(cell, bold) for cell in column) + _GAP
        for number, row in enumerate((header, *rows)):
            weight = "normal" if number else "bold"
            for cell, x in zip(row, (_LEFT, *edges), strict=True):
                side = "left" if x == _LEFT else "right"
                self.figure.text(
                    x, self.y, cell, size=_SIZE_POINTS, weight=weight, ha=side, va="top"
                )
            self.y -= _LINE * 1.15
        self.y -= 0.006


def _width(text: str, font: FontProperties) -> float:
    """Of the page's width."""
    points = text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]
    return float(points) / 72 / _A4_INCHES[0]


def _lines(text: str, font: FontProperties) -> list[str]:
    """Broken between words, and inside a word that no line holds."""
    room = _RIGHT - _LEFT
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".lstrip()
        if _width(joined, font) < room:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if _width(lines[-1] + letter, font) >= room:
                lines.append("")
            lines[-1] += letter
    return lines


def _prediction(sheet: _Sheet, subject: Subject, findings: Findings) -> None:
    sheet.heading("Prediction")
    sheet.table(("Class", "Probability", "Scan shifted by one voxel"), prediction_rows(findings))
    for name, value in known(subject, findings):
        sheet.text(f"{name}: {value}")
    sheet.text(NO_DIAGNOSIS, bold=True)


def _map(sheet: _Sheet, drawn: Overlay, about: str) -> None:
    pixels = imread(io.BytesIO(drawn.png))
    across, down = _A4_INCHES
    width = _RIGHT - _LEFT
    height = width * across * pixels.shape[0] / pixels.shape[1] / down
    room = sheet.y - 0.14
    if height > room:
        width, height = width * room / height, room
    axes = sheet.figure.add_axes((_LEFT, sheet.y - height, width, height))
    axes.imshow(pixels, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    sheet.y -= height + 0.01
    sheet.text(
        f"{about} Rows: sagittal, coronal and axial slices where most of the map lies; the "
        f"patient's right is on the picture's right. {positions(drawn)}."
    )


def _regions(sheet: _Sheet, findings: Findings) -> None:
    sheet.heading("Atlas regions that drove the output most")
    if not findings.drove(1):
        sheet.text(EVEN_MAP)
    sheet.text(f"{contribution_meaning(findings)} regions.csv has all {len(findings.regions)}.")
    share = findings.volumes.percentiles()
    sheet.table(
        ("Region", "Side", "Contribution", "Share of map", "Volume percentile"),
        [
            (
                row.name.replace("_", " "),
                row.side,
                "" if row.contribution is None else f"{row.contribution:+.3f}",
                f"{row.share:.1%}",
                "" if share is None else f"{share[row.index]:.0f}",
            )
            for row in findings.regions[:_REGIONS]
        ],
    )


def _volumes(sheet: _Sheet, findings: Findings, atlas: Atlas, reference: str) -> None:
    sheet.heading("Region volumes")
    sheet.text(volume_reference(findings, reference))
    sheet.table(("Region", "ml", "z", "Percentile"), volume_rows(findings, atlas, _VOLUMES))
