"""The two pages for a patient's file: what they say, and that all of it is on the paper."""

from __future__ import annotations

import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from client.explanation.certainty import Certainty
from client.explanation.findings import Findings
from client.explanation.overlay import Overlay, overlay
from client.explanation.pdf import explanation_pdf, pdf_pages
from client.explanation.public_brain import public_brain
from client.explanation.statements import Subject
from client.explanation.volumes import ScanVolumes
from shared_model.atlas.atlas import Atlas
from shared_model.atlas.select import load_atlas
from shared_model.explanation.figures import StudyFigures, shipped_figures
from shared_model.explanation.region_table import region_table
from shared_model.explanation.relevance import Relevance
from shared_model.grid import ModelGrid
from shared_model.plan import AtlasSection, InputSection

GRID = ModelGrid(spacing_mm=4.0)
ATLAS = load_atlas(AtlasSection(), GRID)
REGION = 6
PERSON = Subject("sub-03, M12", "exported", "0" * 64, False, "smrfed-site explain", 71, "F")
# What a folder of a hospital may be called, and what would be mathematics to a plotting library.
AWKWARD = Subject(
    r"sub-$\frac{1}{0}$ Ärztin (" + "long " * 60 + "C:\\a)",
    "m" * 90,
    "f" * 64,
    True,
    "smrfed-site explain --model " + "x" * 300,
    None,
    None,
)


def findings(z: bool, even: bool = False) -> Findings:
    voxels = np.zeros(GRID.shape, np.float32)
    if not even:
        voxels[ATLAS.labels == REGION + 1] = 1
    relevance = Relevance("region_evidence", voxels)
    regions = len(ATLAS.names)
    deviations = np.linspace(-4, 3, regions)
    return Findings(
        labels=("CN", "MCI", "AD"),
        target=2,
        relevance=(relevance,),
        regions=region_table(relevance, ATLAS),
        certainty=Certainty((0.1, 0.2, 0.7), 0.73, (0.1, 0.1, 0.6), (0.2, 0.3, 0.8), -0.25),
        volumes=ScanVolumes(
            np.linspace(1, 20, regions), 1400.0, deviations if z else None, "age is not known"
        ),
        slice_attention={},
        edges=(),
        left_out=(),
    )


Given = tuple[Subject, Findings, dict[str, Overlay], Atlas, StudyFigures, str]


def given(subject: Subject, found: Findings) -> Given:
    scan = public_brain(InputSection(grid=GRID))
    drawn = {r.method: overlay(scan, r.voxels, GRID) for r in found.relevance}
    return subject, found, drawn, ATLAS, shipped_figures(), "people of a test"


def words(figure: Figure) -> str:
    # Lines of a paragraph are texts of their own.
    return " ".join(text.get_text() for text in figure.texts)


def test_the_pages_say_what_the_page_says() -> None:
    told = given(PERSON, findings(z=True))
    first, second = pdf_pages(*told)
    content = explanation_pdf(*told)
    assert content == explanation_pdf(*told), "it has a time of its own"
    assert content.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type /Page\b", content)) == 2
    for sheet in (first, second):
        assert "Must not leave this hospital" in words(sheet)
        assert "sub-03, M12" in words(sheet)
    said = words(first)
    for part in ("Not a diagnosis", "0.70", "0.60 to 0.80", "71, F", "Region evidence", "class AD"):
        assert part in said, part
    said = words(second)
    driven = ATLAS.names[REGION].replace("_", " ")
    for part in (driven, "100.0%", "-4.0", "people of a test", "synthetic", "Held:"):
        assert part in said, part


@pytest.mark.parametrize(("subject", "z"), [(PERSON, True), (AWKWARD, False)])
def test_every_word_is_on_the_paper_and_beside_the_others(subject: Subject, z: bool) -> None:
    for sheet in pdf_pages(*given(subject, findings(z))):
        width, height = sheet.bbox.width, sheet.bbox.height
        boxes = {text.get_text(): text.get_window_extent() for text in sheet.texts}
        assert min(boxes, key=lambda text: boxes[text].y0).endswith(" of 2")
        for text, box in boxes.items():
            assert 0 <= box.x0 <= box.x1 <= width, text
            assert 0 <= box.y0 <= box.y1 <= height, text
            assert not [one for one in boxes if one != text and box.overlaps(boxes[one])], text


def test_what_is_not_known_is_said() -> None:
    _, second = pdf_pages(*given(PERSON, findings(z=False, even=True)))
    assert "No z-scores: age is not known." in words(second)
    assert "The map is even or empty" in words(second)
