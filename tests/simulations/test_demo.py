"""The demonstration, small: every phase runs, the report is whole, and a wrong call says why."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from shared_model.evaluation.writing import read_evaluation
from simulations.demo.run import run_demo
from simulations.demo.settings import DemoSettings, demo_plan, read_weights_card
from simulations.report.storage import read_report_json

SMALL = DemoSettings(patients_per_site=12, unseen_patients=12, rounds=2, seed=0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo")
    run_demo(SMALL, out, Console(quiet=True), "smrfed-sim demo")
    return out


def test_the_demonstration_ends_in_a_report_with_every_arm(finished: Path) -> None:
    report = read_report_json(finished / "report.json")
    html = (finished / "report.html").read_text(encoding="utf-8")
    assert [arm.key for arm in report.arms] == [
        "prior",
        "demographics",
        "volumes",
        "alone",
        "federated",
        "federated-private",
        "federated-private-personal",
        "pooled",
        "shuffled",
    ]
    assert all(arm.title in html for arm in report.arms)
    assert [site.name for site in report.cohort if site.held_out] == ["site-e"]
    assert len(report.participation) == SMALL.rounds
    assert all(len(entry.accepted) == 4 for entry in report.participation)


def test_every_hospital_spent_what_its_ledger_says_and_not_more_than_the_budget(
    finished: Path,
) -> None:
    report = read_report_json(finished / "report.json")
    private = report.arm("federated-private")
    assert len(report.privacy) == 4
    for spent in report.privacy:
        assert 0 < spent.spent_epsilon <= spent.budget_epsilon
        assert spent.steps == SMALL.rounds * SMALL.local_steps
    assert private.epsilon == max(spent.spent_epsilon for spent in report.privacy)


def test_the_full_evaluation_is_linked_and_agrees_with_the_report(finished: Path) -> None:
    report = read_report_json(finished / "report.json")
    document = read_evaluation(finished / "evaluation.json")
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert 'href="evaluation.html"' in page
    assert (finished / "evaluation.html").exists()
    assert document.headline == report.headline_arm
    assert document.alone == "alone"
    assert document.overlap.checked
    assert document.privacy is not None
    assert document.privacy.epsilon == report.arm("federated-private").epsilon
    compared = 0
    for arm in report.arms:
        for where, score in arm.scores.items():
            groups = document.arm(arm.key).groups
            # One unseen hospital stands under the sum; alone has no single model there.
            if where in groups:
                found = groups[where].metrics["balanced_accuracy"].value
                assert found == pytest.approx(score.balanced_accuracy)
                compared += 1
    # Every arm where hospitals took part, and all but alone and the personal one at the unseen.
    assert compared == 2 * len(report.arms) - 2
    tables = {path.stem for path in (finished / "predictions").glob("*.csv")}
    assert tables == {arm.key for arm in report.arms}
    card = (finished / "model_card.md").read_text(encoding="utf-8")
    assert "Simulated patients only" in card


@pytest.mark.slow
def test_a_second_call_repeats_nothing_and_gives_the_same_numbers(finished: Path) -> None:
    before = read_report_json(finished / "report.json")
    again = run_demo(SMALL, finished, Console(quiet=True), "smrfed-sim demo")
    assert again.arms == before.arms
    assert again.privacy == before.privacy


def test_the_plan_holds_its_own_epsilon_with_room_for_a_crash() -> None:
    plan = demo_plan(SMALL, {"site-a": 12, "site-b": 12}, "local")
    assert plan.model.weights_sha256 == read_weights_card().sha256
    assert plan.privacy.noise_multiplier > 0
    assert demo_plan(SMALL, {"site-a": 12}, "none").privacy.noise_multiplier == 0


def test_a_folder_of_another_demonstration_is_not_mixed_up(finished: Path) -> None:
    command = [sys.executable, "-m", "simulations.cli", "demo", "--out", str(finished)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 1
    assert "SMR-E632" in result.stderr


@pytest.mark.slow
@pytest.mark.deploy
def test_the_deployed_demonstration_leaves_no_process_behind(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    command = [sys.executable, "-m", "simulations.cli", "demo", "--deployed"]
    command += ["--patients", "12", "--seed", "0", "--out", str(out)]
    subprocess.run(command, check=True, timeout=900)
    assert (out / "report.html").stat().st_size > 100_000
    assert not [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if str(out) in " ".join(process.info["cmdline"] or ())
    ]
