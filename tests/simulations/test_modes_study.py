"""Summed modes in simulations' plans, and the study of all modes at equal epsilon."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from pydantic import TypeAdapter
from scenario_archives import run, write_small
from typer.testing import CliRunner

from shared_model.plan import PrivacyMode
from shared_model.privacy.plan_cost import plan_epsilon
from shared_model.privacy.signal_to_noise import signal_to_noise
from simulations.arms.centralised import one_site_plan
from simulations.cli import app
from simulations.demo.settings import SPARE_ROUNDS, DemoSettings, demo_plan
from simulations.evaluation.noise_repeats import mean_over_repeats
from simulations.federation.secure_sum_plan import with_secure_sum
from simulations.federation.summed_plan import stand_in_key, with_keys
from simulations.modes_study.cells import DESIGN, cells, run_name
from simulations.modes_study.plans import study_plan
from simulations.modes_study.plots import modes_picture
from simulations.modes_study.results import Difference, ModesStudy, Row
from simulations.modes_study.runs import ModeRun, signal_and_noise
from simulations.modes_study.settings import ArmKey, ModesSettings, Schedule
from simulations.modes_study.tables import (
    doublings,
    gains,
    per_doubling,
    sentences,
    table,
    tried,
)
from simulations.modes_study.tuning import Tuning
from simulations.privacy_study.predicted import Metric, Where
from simulations.privacy_study.results import Estimate
from simulations.scenarios.load import load_scenario
from simulations.scenarios.plans import arm_plan
from simulations.scenarios.results import ScenarioResults

MEMBERS = {f"site-{name}": 24 for name in "abcd"}
SUMMED: tuple[PrivacyMode, ...] = ("distributed", "central")


def scenario_plan(folder: Path, **privacy: Any) -> Any:
    content = {
        "format": 1, "title": "Small", "seeds": [3], "held_out": ["site-e"],
        "cohort": {"design": "four-and-one", "patients": 24},
        "arms": {"private": {"kind": "federated", "plan": {"privacy": privacy}}},
    }  # fmt: skip
    path = folder / "small.toml"
    path.write_text(tomli_w.dumps(content), encoding="utf-8")
    return arm_plan(load_scenario(str(path)).scenario, "private", 3, MEMBERS)


@pytest.mark.parametrize("mode", SUMMED)
@pytest.mark.parametrize("unit", ["patient", "hospital"])
def test_a_scenarios_arm_may_name_a_summed_mode(mode: str, unit: str, tmp_path: Path) -> None:
    plan = scenario_plan(tmp_path, mode=mode, epsilon=4.0, unit=unit)
    assert plan.privacy.mode == mode
    assert plan.training.local_steps == 1
    assert 3.8 < plan_epsilon(plan, spare_rounds=SPARE_ROUNDS) <= 4.0
    alone = one_site_plan(plan, "site-a", 18)
    assert (alone.privacy.mode, alone.privacy.unit) == ("local", "patient")
    assert alone.secure_aggregation is None
    assert plan_epsilon(alone, spare_rounds=SPARE_ROUNDS) <= 4.0


def test_real_agents_keys_take_the_place_of_the_stand_ins(tmp_path: Path) -> None:
    plan = scenario_plan(tmp_path, mode="distributed", epsilon=4.0)
    keys = {name: f"{number:064x}" for number, name in enumerate(MEMBERS)}
    own = with_keys(plan, keys)
    assert {site.name: site.signing_key for site in own.federation.sites} == keys
    assert with_keys(own, {site.name: str(site.signing_key) for site in plan.federation.sites}) == (
        plan
    )
    local = demo_plan(DemoSettings(), MEMBERS, "local")
    assert with_keys(local, {}) is local


@pytest.mark.slow
def test_a_scenario_runs_a_masked_federation_beside_one_of_mode_local(tmp_path: Path) -> None:
    path = write_small(tmp_path)
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    content["arms"] = {
        mode: {"kind": "federated", "plan": {"privacy": {"mode": mode, "epsilon": 8.0}}}
        for mode in ("local", "distributed", "central")
    }
    content["arms"]["alone"] = {
        "kind": "alone", "plan": {"privacy": {"mode": "distributed", "epsilon": 8.0}},
    }  # fmt: skip
    content["compare"] = [{"arm": "distributed", "minus": ["local"]}]
    del content["beside"]
    path.write_text(tomli_w.dumps(content), encoding="utf-8")
    told = run(path, "--out", tmp_path / "out", "--workers", "1", "--seeds", "15")
    assert told.returncode == 0, told.stderr
    results = ScenarioResults.model_validate_json((tmp_path / "out" / "results.json").read_bytes())
    assert tuple(arm.name for arm in results.arms) == ("local", "distributed", "central", "alone")


def test_the_noise_is_that_of_mode_local_with_as_many_steps(tmp_path: Path) -> None:
    """At equal epsilon and steps one noise multiplier serves all modes."""
    same = {
        scenario_plan(tmp_path, mode=mode, epsilon=4.0).privacy.noise_multiplier for mode in SUMMED
    }
    assert len(same) == 1


@pytest.mark.parametrize("mode", SUMMED)
def test_the_demonstrations_plan_has_every_step_as_a_round(mode: PrivacyMode) -> None:
    settings = DemoSettings()
    plan = demo_plan(settings, MEMBERS, mode)
    assert plan.total_steps == demo_plan(settings, MEMBERS, "local").total_steps
    assert plan_epsilon(plan, spare_rounds=SPARE_ROUNDS) <= settings.epsilon
    keys = {name: stand_in_key(name) for name in MEMBERS}
    local = demo_plan(settings, MEMBERS, "local")
    masked = with_secure_sum(local, mode, keys, spare_rounds=SPARE_ROUNDS)
    assert (masked.training, masked.total_steps) == (plan.training, local.total_steps)
    assert plan_epsilon(masked, spare_rounds=SPARE_ROUNDS) <= settings.epsilon


def test_a_local_plan_for_one_party_keeps_its_mode_and_steps() -> None:
    plan = demo_plan(DemoSettings(), MEMBERS, "local")
    alone = one_site_plan(plan, "site-a", 18)
    assert (alone.privacy, alone.training) == (plan.privacy, plan.training)


WHEN = Schedule(10, 1, 0.5)


@pytest.mark.parametrize("epsilon", [1.0, 8.0])
def test_every_arm_costs_its_epsilon(epsilon: float) -> None:
    arms: tuple[ArmKey, ...] = (
        "alone", "local", "distributed", "distributed_trusting", "central", "hospital",
    )  # fmt: skip
    for arm in arms:
        plan = study_plan(arm, epsilon, DemoSettings(), MEMBERS, WHEN)
        assert 0.97 * epsilon < plan_epsilon(plan) <= epsilon, arm


def test_the_gain_of_a_sum_is_the_root_of_the_shares_that_are_counted_on() -> None:
    """S of 4 hospitals: local 1, two shares counted on sqrt 2, three sqrt 3, central 2 times it."""
    found = {}
    for arm in ("local", "distributed", "distributed_trusting", "central"):
        plan = study_plan(arm, 3.0, DemoSettings(), MEMBERS, WHEN)
        ratio = signal_to_noise(plan, 1000)
        assert ratio is not None
        found[arm] = ratio.federation
    local = found.pop("local")
    assert [value / local for value in found.values()] == pytest.approx(
        [math.sqrt(2), math.sqrt(3), 2], rel=1e-3
    )


def test_of_two_hospitals_one_of_which_may_collude_nothing_is_gained() -> None:
    two = {"a": 24, "b": 24}
    ours, theirs = (
        signal_to_noise(study_plan(arm, 3.0, DemoSettings(), two, WHEN), 1000)
        for arm in ("distributed", "local")
    )
    assert ours is not None
    assert theirs is not None
    assert ours.federation == pytest.approx(theirs.federation, rel=1e-3)


def test_no_cell_is_run_twice_and_the_design_is_in_both_comparisons() -> None:
    found = cells(ModesSettings())
    assert len({(cell.name, cell.epsilon) for cell in found}) == len(found)
    for arm in ("local", "distributed", "central"):
        assert {c.hospitals for c in found if c.arm == arm and c.epsilon == 1.0} == {2, 4, 8}
        assert {c.epsilon for c in found if c.arm == arm and c.hospitals == DESIGN} == {1, 3, 8}
    assert {c.hospitals for c in found if c.arm == "hospital"} == {DESIGN}


def test_the_schedule_follows_from_s_alone_whatever_the_mode() -> None:
    settings = ModesSettings()
    lengths: dict[float, float] = {}
    for cell in cells(settings):
        predicted, when = cell.predicted(settings, 1566), cell.schedule(settings, 1566)
        assert (when.rounds, when.local_steps) == (30, 1)
        if predicted is not None:
            lengths[predicted] = when.learning_rate
    assert [lengths[s] for s in sorted(lengths)] == sorted(lengths.values())
    assert len(set(lengths.values())) > 1


def test_the_noise_of_few_repeats_is_as_wide_as_it_is() -> None:
    """The variance of the mean of 3 draws of the noise, over many cohorts of patients alike."""
    rng = np.random.default_rng(4)
    widths = {
        unbiased: np.mean(
            [
                mean_over_repeats(
                    np.repeat(rng.normal(size=(3, 1)), 200, axis=1), rng, unbiased=unbiased
                ).var()
                for _ in range(600)
            ]
        )
        for unbiased in (False, True)
    }
    assert widths[True] == pytest.approx(1 / 3, rel=0.1)
    assert widths[False] == pytest.approx(2 / 9, rel=0.1)


def test_signal_and_noise_are_found_again() -> None:
    rng = np.random.default_rng(0)
    signal = rng.normal(size=1000) * 0.5
    runs = [
        ModeRun(1, "local@4", 3.0, k, {}, signal + rng.normal(size=1000) * 2) for k in range(200)
    ]
    shared, noise = signal_and_noise(runs)
    assert shared == pytest.approx(float(np.linalg.norm(signal)), rel=0.1)
    assert noise == pytest.approx(2 * math.sqrt(1000), rel=0.05)


def study() -> ModesStudy:
    metrics: tuple[Metric, ...] = ("balanced_accuracy", "macro_auc")
    where: tuple[Where, ...] = ("seen", "unseen", "first")
    settings = ModesSettings()

    def around(value: float) -> Estimate:
        return Estimate(value=value, low=value - 0.02, high=value + 0.02)

    level = {"local": 0.45, "distributed": 0.5, "central": 0.55}
    return ModesStudy(
        command=settings.command_line, created="2026-11-22T12:00:00+00:00", seeds=(1,), repeats=3,
        patients_per_site=96, test_patients=dict.fromkeys(where, 50), parameters=1566, delta=1e-5,
        hospitals_epsilon=1.0,
        rows=tuple(
            Row(
                arm=cell.arm, epsilon=cell.epsilon, hospitals=cell.hospitals,
                schedule=str(cell.schedule(settings, 1566)), noise_multiplier=None,
                predicted=None, measured=None, patients_needed=None,
                scores={w: {m: around(level.get(cell.arm, 0.4)) for m in metrics} for w in where},
                runs=dict.fromkeys(where, (0.4,)),
            )
            for cell in cells(settings)
        ),
        differences=(
            Difference(arm="distributed", epsilon=3.0, hospitals=4, where="unseen",
                       metric="balanced_accuracy", difference=around(0.05)),
        ),
    )  # fmt: skip


def test_the_words_say_whether_intervals_overlap() -> None:
    (said,) = sentences(study())
    assert said.startswith("ε = 3, balanced accuracy, at the unseen hospital: 0.50 [0.48, 0.52]")
    assert "against 0.45 [0.43, 0.47] of mode local" in said
    assert "intervals do not overlap" in said
    assert "+0.05 [+0.03, +0.07], the difference is shown" in said


def test_what_a_doubling_of_s_is_worth_is_found_again() -> None:
    made = study()
    rows = tuple(
        row.model_copy(
            update={
                "predicted": 2.0**k,
                "scores": {"unseen": {"macro_auc": Estimate(value=0.5 + 0.03 * k, low=0, high=1)}},
            }
        )
        for k, row in enumerate(row for row in made.rows if row.arm != "hospital")
    )
    slope = per_doubling(made.model_copy(update={"rows": rows}), "unseen", "macro_auc")
    assert slope == pytest.approx(0.03)


def test_every_row_is_in_a_table_and_every_arm_in_the_picture() -> None:
    found = study()
    lines = [*table(found), *table(found, by_hospitals=True)]
    assert {row.hospitals for row in found.rows} == {1, 2, 4, 8}
    for row in found.rows:
        assert any(f"| {row.hospitals} |" in line for line in lines), row
    figure = modes_picture(found)
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert len(labels) == len(set(labels)) == 7
    assert run_name("local", 4) == "local@4"


def test_the_command_says_what_it_does_and_refuses_impossible_numbers() -> None:
    runner = CliRunner()
    told = runner.invoke(app, ["modes-study", "--help"], env={"COLUMNS": "120"})
    assert "Compare local, distributed and central noise at equal epsilon" in told.output
    assert runner.invoke(app, ["modes-study", "--epsilon", "-1"]).exit_code == 2
    assert runner.invoke(app, ["modes-study", "--hospitals", "1"]).exit_code == 2
    assert runner.invoke(app, ["modes-study", "--seed", "1", "--hospitals", "8"]).exit_code == 2
    assert ModesSettings().command_line == "smrfed-sim modes-study"
    assert ModesSettings(repeats=2, seeds=(7,)).command_line == (
        "smrfed-sim modes-study --seed 7 --repeats 2"
    )


def test_the_pages_figures_are_those_of_the_study_as_it_runs_now() -> None:
    docs = Path(__file__).parents[2] / "docs"
    page = (docs / "distributed_privacy.md").read_text(encoding="utf-8")
    found = ModesStudy.model_validate_json((docs / "distributed_privacy.json").read_bytes())
    tunings = TypeAdapter(tuple[Tuning, ...]).validate_json(
        (docs / "distributed_privacy_tuning.json").read_bytes()
    )
    parts = (table(found), table(found, by_hospitals=True), gains(found), sentences(found))
    said = [line for part in (*parts, *map(tried, tunings)) for line in part]
    for line in (*said, doublings(found), found.command, *(tuning.command for tuning in tunings)):
        assert line in page, line
    settings = ModesSettings(seeds=found.seeds, repeats=found.repeats)
    assert settings.command_line == found.command
    assert [(row.arm, row.epsilon, row.hospitals, row.schedule) for row in found.rows] == [
        (cell.arm, cell.epsilon, cell.hospitals, str(cell.schedule(settings, found.parameters)))
        for cell in cells(settings)
    ]
    assert all(not {*tuning.seeds} & {*found.seeds} for tuning in tunings)
