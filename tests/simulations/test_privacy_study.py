"""The privacy study: its intervals, its words, its page, and its command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tomli_w

from simulations.demo.settings import DemoSettings, demo_plan
from simulations.privacy_study.arms import ArmKey, StudyRun
from simulations.privacy_study.intervals import Utilities
from simulations.privacy_study.page import study_rows, write_page
from simulations.privacy_study.predicted import WHERE, Predicted, keep, kept
from simulations.privacy_study.results import (
    Budget,
    Estimate,
    Gain,
    PrivacyStudy,
    Utility,
)
from simulations.privacy_study.settings import StudySettings
from simulations.privacy_study.study import budget
from simulations.privacy_study.wording import sentences


def predicted(skill: float, seed: int, models: int = 1, patients: int = 60) -> Predicted:
    """Right with probability ``skill``; the class frequencies are equal."""
    rng = np.random.default_rng(seed)
    label = np.arange(patients) % 3
    probability = np.full((models, patients, 3), 0.1)
    for model in probability:
        right = rng.random(patients) < skill
        chosen = np.where(right, label, (label + 1) % 3)
        model[np.arange(patients), chosen] = 0.8
    return Predicted(label.astype(np.int64), probability)


def runs(arm: ArmKey, epsilon: float | None, skill: float, repeats: int = 1) -> list[StudyRun]:
    return [
        StudyRun(seed, arm, epsilon, r, {w: predicted(skill, 10 * seed + r) for w in WHERE})
        for seed in (1, 2)
        for r in range(repeats)
    ]


def test_the_mean_is_over_cohorts_and_repeats_and_every_run_is_listed() -> None:
    found = Utilities(runs("federated", 8.0, 0.7, repeats=3))
    single = found.single("federated", 8.0, "seen", "balanced_accuracy")
    mean = found.mean("federated", 8.0, "seen", "balanced_accuracy")
    assert len(single) == 6
    assert mean.estimate == pytest.approx(np.mean(single))
    assert mean.low < mean.estimate < mean.high


def test_a_certain_model_has_no_interval_and_an_arm_does_not_differ_from_itself() -> None:
    found = Utilities(runs("federated", 8.0, 1.0) + runs("alone", 8.0, 0.6))
    mean = found.mean("federated", 8.0, "unseen", "macro_auc")
    assert (mean.estimate, mean.low, mean.high) == (1, 1, 1)
    same = found.difference(("alone", 8.0), ("alone", 8.0), "seen", "balanced_accuracy")
    assert (same.estimate, same.low, same.high) == (0, 0, 0)
    gain = found.difference(("federated", 8.0), ("alone", 8.0), "seen", "balanced_accuracy")
    assert gain.low > 0.2
    assert gain.estimate == pytest.approx(0.4, abs=0.1)


def test_the_interval_covers_what_another_draw_of_patients_gives() -> None:
    truth, inside = 0.6, 0
    for trial in range(60):
        one = StudyRun(1, "alone", None, 0, {w: predicted(truth, 100 + trial) for w in WHERE})
        interval = Utilities([one], seed=trial).mean("alone", None, "seen", "balanced_accuracy")
        inside += interval.low <= truth <= interval.high
    # 95 % intervals, 60 trials: fewer than 49 inside has a probability below 1e-4.
    assert inside >= 49


def test_a_run_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "run.npz"
    assert kept(path) is None
    run = {w: predicted(0.5, 3, models=2) for w in WHERE}
    keep(path, run)
    again = kept(path)
    assert again is not None
    for where in WHERE:
        assert again[where].probability.tobytes() == run[where].probability.tobytes()
    assert [p.name for p in path.parent.iterdir()] == ["run.npz"]


def study() -> PrivacyStudy:
    arms: list[tuple[ArmKey, float | None]] = [
        ("prior", None), ("demographics", None), ("volumes", None), ("federated", None),
        ("alone", None), ("federated", 1.0), ("alone", 1.0), ("federated", 8.0), ("alone", 8.0),
    ]  # fmt: skip
    half = Estimate(value=0.5, low=0.4, high=0.6)
    return PrivacyStudy(
        command="smrfed-sim privacy", created="2026-11-21T12:00:00+00:00", seeds=(1,), repeats=1,
        hospitals=4, patients_per_site=96, trained_patients=288, test_patients={
            "seen": 96, "unseen": 64,
        },
        parameters=1566, steps=60, delta=1e-5,
        budgets=tuple(
            Budget(epsilon=e, noise_multiplier=5, signal_to_noise=s, signal_to_noise_alone=s / 2,
                   patients_for_comfort=200, verdict="feasible with care")
            for e, s in ((1.0, 0.9), (8.0, 6.0))
        ),
        utilities=tuple(
            Utility(arm=a, epsilon=e, where=w, metric=m, mean=half, runs=(0.45, 0.55))
            for a, e in arms for w in WHERE for m in ("balanced_accuracy", "macro_auc")
        ),
        gains=(
            Gain(reference="alone", epsilon=8.0, where="seen", metric="balanced_accuracy",
                 difference=Estimate(value=0.1, low=-0.02, high=0.2)),
            Gain(reference="demographics", epsilon=8.0, where="unseen",
                 metric="balanced_accuracy", difference=Estimate(value=0.2, low=0.1, high=0.3)),
        ),
    )  # fmt: skip


def test_the_words_say_what_the_intervals_bear() -> None:
    said = list(sentences(study()))
    assert "not shown" in said[0]
    assert "+0.20 [+0.10, +0.30] from that of age and sex (shown)" in said[1]
    assert "S = 0.9 together" in said[2]


def test_the_page_needs_nothing_else_and_has_every_arm(tmp_path: Path) -> None:
    write_page(study(), tmp_path / "privacy.html")
    page = (tmp_path / "privacy.html").read_text(encoding="utf-8")
    assert page.count("data:image/svg+xml") == 3
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "<script" not in page
    assert len(study_rows(study())) == 9
    assert page.count("<tr><th>Together</th>") == 3


def test_the_command_line_repeats_the_study() -> None:
    assert StudySettings().command_line == "smrfed-sim privacy"
    other = StudySettings(epsilons=(2.0,), seeds=(7,), repeats=1, patients_per_site=12)
    assert other.command_line == (
        "smrfed-sim privacy --epsilon 2 --seed 7 --patients 12 --repeats 1"
    )


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "simulations.cli", "privacy", *arguments],
        capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200"},
    )  # fmt: skip


def test_a_plan_is_judged_without_a_patient(tmp_path: Path) -> None:
    members = {"north": 60, "south": 60}
    agreed = demo_plan(DemoSettings(), members, "local")
    path = tmp_path / "plan.toml"
    path.write_text(tomli_w.dumps(agreed.model_dump(mode="json", exclude_none=True)))
    told = command("--plan", str(path), "--json")
    assert told.returncode == 0, told.stderr
    expected = budget(agreed, 1566)
    assert json.loads(told.stdout) == pytest.approx(expected.model_dump())


def test_wrong_input_is_refused_with_a_reason(tmp_path: Path) -> None:
    none = demo_plan(DemoSettings(), {"north": 60}, "none")
    path = tmp_path / "plan.toml"
    path.write_text(tomli_w.dumps(none.model_dump(mode="json", exclude_none=True)))
    refused = command("--plan", str(path))
    assert refused.returncode == 1
    assert "SMR-E660" in refused.stderr
    wrong = command("--epsilon", "-1")
    assert wrong.returncode == 2
    assert "positive number" in wrong.stderr


@pytest.mark.slow
def test_a_small_study_ends_in_a_page_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    small = ("--out", str(tmp_path), "--patients", "12", "--unseen", "12", "--seed", "0",
             "--repeats", "1", "--epsilon", "8", "--json")  # fmt: skip
    first = command(*small)
    assert first.returncode == 0, first.stderr
    figures = json.loads(first.stdout)
    assert {u["arm"] for u in figures["utilities"]} == {
        "federated", "prior_free", "alone", "prior", "demographics", "volumes",
    }  # fmt: skip
    assert (tmp_path / "privacy.html").exists()
    again = json.loads(command(*small).stdout)
    assert again["utilities"] == figures["utilities"]
