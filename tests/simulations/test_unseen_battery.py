"""Items 3 and 4 on drawn scores: they hold where they should, and can fail."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.training.site_model import SiteModel
from shared_model.adaptation.scores import scores
from shared_model.adaptation.source import SourceMoments
from shared_model.atlas.select import load_atlas
from simulations.battery.unseen_hospitals import scan_unseen, unseen_cohort, unseen_scanners
from simulations.battery.unseen_items import SeedViews, loso_gain, rare_disease, table
from simulations.battery.unseen_study import Seen, balanced, gain, outcome
from simulations.demo.settings import DemoSettings, demo_plan

RADIUS = 20.0


def draw(n: int, seed: int, lean: tuple[float, ...] = (0.0, 0.0, 0.0)) -> Seen:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    z = 1.4 * np.eye(3)[y] + rng.normal(size=(n, 3)) + np.array(lean)
    p = np.exp(z)
    return Seen(y, p / p.sum(1, keepdims=True), rng.normal(-0.3, 0.1, n))


def views(seed: int, lean: tuple[float, ...]) -> SeedViews:
    train = draw(900, 100 + seed)
    source = SourceMoments.exact(train.label, scores(train.p, train.deviation, RADIUS), 3)
    hospitals = {
        "zero": draw(120, 200 + seed),
        "mild": draw(120, 300 + seed, (0.3, 0.0, 0.0)),
        "designed": draw(120, 400 + seed, lean),
    }
    rare = {f"{name}, rare": seen.with_rare(2, 0.1) for name, seen in hospitals.items()}
    return SeedViews(seed, RADIUS, source, hospitals | rare)


LEAN = (2.5, 0.0, -1.5)


@pytest.fixture(scope="module")
def seeds() -> list[SeedViews]:
    return [views(seed, LEAN) for seed in range(3)]


def test_a_shift_is_corrected_and_its_absence_left_alone(seeds: list[SeedViews]) -> None:
    found = loso_gain(seeds)
    assert found.passed, found.figures
    assert found.figures["designed_gain"] > 0.05
    assert rare_disease(seeds).passed


def test_the_items_fail_where_there_is_nothing_to_gain() -> None:
    assert not loso_gain([views(seed, (0.0, 0.0, 0.0)) for seed in range(3)]).passed


def test_item_four_fails_for_a_source_that_is_wrong(seeds: list[SeedViews]) -> None:
    """Moments of other scores than the site's: everything looks like an offset."""
    wrong = [
        replace(
            s,
            source=SourceMoments(
                s.source.means + np.array([1.5, 0.0, 0.0]), s.source.covariance, s.source.prevalence
            ),
        )
        for s in seeds
    ]
    assert not rare_disease(wrong).passed


def test_the_table_has_a_row_for_everything(seeds: list[SeedViews]) -> None:
    rows = table(seeds[:1], scans=(8, 16))
    assert len(rows) == 6 * (1 + 2 * 3)
    none = next(r for r in rows if r["hospital"] == "zero" and r["correction"] == "none")
    assert none["patients"] == 120
    assert "estimate" not in none
    assert all(r["low"] <= r["estimate"] <= r["high"] for r in rows if r["correction"] != "none")


def test_the_rare_class_is_as_rare_as_asked() -> None:
    seen = draw(300, 1).with_rare(2, 0.1)
    assert np.mean(seen.label == 2) == pytest.approx(0.1, abs=0.01)
    assert (np.bincount(seen.label)[:2] == 100).all()


def test_labels_play_no_part_in_adapting(seeds: list[SeedViews]) -> None:
    seen = seeds[0].views["designed"]
    other = Seen((seen.label + 1) % 3, seen.p, seen.deviation)
    args = (seeds[0].source, RADIUS, "em", 32, 0)
    one, two = outcome(seen, *args), outcome(other, *args)  # type: ignore[arg-type]
    assert one.refused == two.refused == 0
    assert not np.array_equal(one.correct, two.correct)
    none = outcome(seen, seeds[0].source, RADIUS, "none", 0, 0)
    assert balanced([none]) == pytest.approx(
        np.mean([(seen.p.argmax(1) == c)[seen.label == c].mean() for c in range(3)])
    )
    assert gain([one], [one]).estimate == 0


@pytest.mark.slow
def test_one_anatomy_is_seen_through_every_scanner(tmp_path: Path) -> None:
    plan = demo_plan(DemoSettings(), {"a": 60, "b": 60}, "none")
    model = SiteModel.build(plan, load_atlas(plan.atlas, plan.input.grid))
    found = scan_unseen(unseen_cohort(3, 5), unseen_scanners(), model, tmp_path)
    again = scan_unseen(unseen_cohort(3, 5), unseen_scanners(), model, tmp_path)
    assert set(found) == {"zero", "mild", "designed"}
    for name, examples in found.items():
        assert [e.id for e in examples] == [e.id for e in found["zero"]]
        for one, two in zip(examples, again[name], strict=True):
            assert (one.inputs.regions == two.inputs.regions).all()  # type: ignore[union-attr]
    assert not (
        found["zero"][0].inputs.regions == found["designed"][0].inputs.regions  # type: ignore[union-attr]
    ).all()
