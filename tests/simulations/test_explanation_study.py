"""The explanation study: its figures, page and verdicts, on made measurements and real ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from shared_model.explanation.figures import (
    Interval,
    MethodFigures,
    Sameness,
    StudyFigures,
    shipped_figures,
)
from shared_model.explanation.measures import Localisation
from shared_model.explanation.methods import METHODS, SHIPPED
from simulations.cli import app
from simulations.explanation_study.controls import binarised, outline
from simulations.explanation_study.localising import (
    figures_of,
    interval,
    mean_mass,
    mean_over_models,
)
from simulations.explanation_study.page import study_page

DOCS = Path(__file__).parents[2] / "docs"


def made(method: str, mass: float, shuffled: float | None = 0.1) -> MethodFigures:
    rows = [Localisation(mass * 0.03 + d, 0.5, 0.5, 0.5, 0.1, 0.03) for d in (-0.003, 0, 0.003)]
    steps = () if shuffled is None else (alike(shuffled, 0),)
    return MethodFigures(method=method, localisation=figures_of(rows), cascade=steps)


def alike(spearman: float, ssim: float, margin: float = 0) -> Sameness:
    def around(value: float) -> Interval:
        return Interval(value=value, low=value - margin, high=value + margin)

    return Sameness(what="everything", scans=3, spearman=around(spearman), ssim=around(ssim))


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


def test_a_map_must_be_unlike_itself_by_both_measures_and_their_intervals() -> None:
    assert alike(0.3, 0.3).unlike
    assert not alike(0.6, 0.3).unlike
    assert not alike(0.3, 0.6).unlike
    assert alike(0.3, 0.45, margin=0.04).unlike
    assert not alike(0.3, 0.45, margin=0.06).unlike


def test_an_interval_covers_the_mean_and_repeats() -> None:
    values = np.random.default_rng(0).normal(3, 1, 50).tolist()
    found = interval(values)
    assert found == interval(values)
    assert found.value == pytest.approx(np.mean(values))
    assert found.low < found.value < found.high
    assert found.high - found.low == pytest.approx(4 * 1 / 50**0.5, rel=0.3)


def test_every_model_has_its_own_mean() -> None:
    rows = [Localisation(mass, 0.5, 0.5, 0.5, 0.1, 0.03) for mass in (0.03, 0.09, 0.3)]
    found = mean_over_models([rows, rows[::-1]])
    assert [one.mass_over_chance for one in found] == pytest.approx([5.5, 3, 5.5])
    assert [one.auprc for one in found] == [0.5] * 3
    assert mean_mass(rows) == pytest.approx(14 / 3)
    assert mean_over_models([rows]) == rows
    assert figures_of(rows).by_model == ()


@pytest.mark.parametrize(("masses", "held"), [((20.0, 3.1), True), ((20.0, 2.2), False)])
def test_one_private_model_is_enough_to_say_that_maps_can_miss(
    masses: tuple[float, ...], held: bool
) -> None:
    found = made(SHIPPED, 5)
    local = found.localisation.model_copy(update={"by_model": (5.0, 5.0)})
    private = found.localisation.model_copy(update={"by_model": masses})
    figures = study(found.model_copy(update={"localisation": local, "private": private}))
    said = figures.with_privacy(SHIPPED)
    assert said is not None
    assert said[0] is held
    assert f"{1 + held} of 2 models, {masses[1]:.1f} to 20.0 times" in said[1]
    assert list(figures.verdicts(SHIPPED).items()) == [*figures.bars(SHIPPED).items(), said[::-1]]
    page = study_page(figures)
    assert ("map of a private model can miss" in page) is not held
    assert "with epsilon 8 20.0" in page
    assert study(made(SHIPPED, 5)).with_privacy(SHIPPED) is None


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
