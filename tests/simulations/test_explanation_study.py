"""The explanation study: its figures, page and verdicts, on made measurements and real ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from shared_model.explanation.figures import (
    MethodFigures,
    Sameness,
    StudyFigures,
    shipped_figures,
)
from shared_model.explanation.measures import Localisation
from shared_model.explanation.methods import METHODS, SHIPPED
from simulations.cli import app
from simulations.explanation_study.controls import binarised, outline
from simulations.explanation_study.localising import figures_of, interval
from simulations.explanation_study.page import study_page

DOCS = Path(__file__).parents[2] / "docs"


def made(method: str, mass: float, shuffled: float | None = 0.1) -> MethodFigures:
    rows = [Localisation(mass * 0.03 + d, 0.5, 0.5, 0.5, 0.1, 0.03) for d in (-0.003, 0, 0.003)]
    steps = () if shuffled is None else (Sameness(what="all", scans=3, spearman=shuffled, ssim=0),)
    return MethodFigures(method=method, localisation=figures_of(rows), cascade=steps)


def study(*methods: MethodFigures, baseline: float = 1.2) -> StudyFigures:
    return StudyFigures(
        command="test",
        made="2026-01-01",
        machine="a machine",
        seeds=(1, 2),
        truth=("hippocampus_left",),
        chance=0.03,
        epsilon=8,
        shipped=SHIPPED,
        methods=methods,
        baselines=(made("edge_detector", baseline, None),),
        balanced_accuracy=0.6,
        balanced_accuracy_private=0.5,
    )


def test_the_bars_are_failed_one_by_one() -> None:
    assert all(study(made(SHIPPED, 5)).bars(SHIPPED).values())
    assert list(study(made(SHIPPED, 2.5)).bars(SHIPPED).values()) == [False, True, True]
    assert list(study(made(SHIPPED, 5), baseline=5).bars(SHIPPED).values()) == [True, False, True]
    assert list(study(made(SHIPPED, 5, 0.6)).bars(SHIPPED).values()) == [True, True, False]
    assert list(study(made(SHIPPED, 5, None)).bars(SHIPPED).values()) == [True, True, False]
    assert study().bars(SHIPPED) == {}


def test_an_interval_covers_the_mean_and_repeats() -> None:
    values = np.random.default_rng(0).normal(3, 1, 50).tolist()
    found = interval(values)
    assert found == interval(values)
    assert found.value == pytest.approx(np.mean(values))
    assert found.low < found.value < found.high
    assert found.high - found.low == pytest.approx(4 * 1 / 50**0.5, rel=0.3)


def test_controls_keep_the_mask_and_nothing_else() -> None:
    volume = np.full((12, 12, 12), -4, np.float32)
    volume[2:10, 2:10, 2:10] = np.random.default_rng(0).normal(size=(8, 8, 8))
    mask = volume > -4
    assert set(np.unique(binarised(volume))) == {-4, 0}
    np.testing.assert_array_equal(binarised(volume) > -4, mask)
    rim = outline(volume) > -4
    assert rim.sum() == 8**3 - 6**3
    assert not (rim & ~mask).any()


def test_the_page_holds_every_method_and_the_failures_of_the_study() -> None:
    figures = shipped_figures()
    page = study_page(figures)
    for found in figures.methods:
        assert METHODS[found.method].title in page
    assert figures.command in page
    assert figures.failures
    for failure in figures.failures:
        assert failure.patient in page


def test_what_is_documented_is_what_is_shipped() -> None:
    documented = StudyFigures.model_validate_json((DOCS / "explanations.json").read_bytes())
    assert documented == shipped_figures()
    assert (DOCS / "explanations.md").read_text() == study_page(documented)
    json.loads((DOCS / "explanations.json").read_text())


def test_the_shipped_default_meets_the_bars() -> None:
    figures = shipped_figures()
    assert figures.shipped == SHIPPED
    bars = figures.bars(SHIPPED)
    assert len(bars) == 3
    assert all(bars.values()), bars


def test_a_seed_named_twice_is_refused() -> None:
    result = CliRunner().invoke(app, ["explain-study", "--seed", "1", "--seed", "1"])
    assert getattr(result.exception, "code", "") == "SMR-E730"
