"""``smrfed-sim run`` from a file to tables, killed and resumed, with real agents and processes."""

from __future__ import annotations

import csv
import fcntl
import json
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from rich.console import Console
from scenario_archives import SITES, command, run, write_small
from typer.testing import CliRunner

from shared_model.errors import SmrfedError
from shared_model.evaluation.side_tables import read_corrupted, read_embeddings
from shared_model.evaluation.table_file import read_csv
from shared_model.evaluation.writing import read_evaluation
from simulations.cli import app
from simulations.scenarios.command import run_command
from simulations.scenarios.load import load_scenario
from simulations.scenarios.results import ScenarioResults
from simulations.scenarios.run import Machine, run_scenario

ARMS = ("prior", "federated", "pooled", "alone")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("scenario"))


@pytest.fixture(scope="module")
def finished(small: Path) -> Path:
    out = small.parent / "finished"
    told = run(small, "--out", out, "--workers", "1", "--seeds", "15")
    assert told.returncode == 0, told.stderr
    for title in ("Federated", "alone", "north (seen)", "p (Holm)"):
        assert title in told.stdout
    return out


def test_a_run_ends_in_tables_predictions_and_a_page(finished: Path) -> None:
    results = ScenarioResults.model_validate_json((finished / "results.json").read_bytes())
    assert tuple(arm.name for arm in results.arms) == ARMS
    assert {row.where for row in results.differences} == {"seen", "seen:north", "seen:south"}
    prior = results.arm("prior").groups["seen"].balanced_accuracy
    assert prior.value == pytest.approx(1 / 3)
    with (finished / "table.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["arm"] for row in rows} == set(ARMS)
    text = (finished / "table.md").read_text(encoding="utf-8")
    assert "| Federated | none |" in text
    for arm in ARMS:
        table = read_csv(finished / "predictions" / f"{arm}.csv")
        assert table.unseen_sites == (() if arm == "alone" else ("abroad",))
        assert table.seen_sites == SITES[:2]
    page = (finished / "scenario.html").read_text(encoding="utf-8")
    assert page.count("data:image/svg+xml") == 1
    assert "<script" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_the_federated_arm_is_the_hospitals_own_at_home_and_the_released_one_abroad(
    finished: Path,
) -> None:
    (line,) = [
        json.loads(line)
        for line in (finished / "results.jsonl").read_text(encoding="utf-8").splitlines()
        if json.loads(line)["arms"] == ["federated"]
    ]
    (own,), (released,) = line["views"]["own"], line["views"]["released"]
    pairs = [
        (site, a == b)
        for site, a, b in zip(own["site"], own["probability"], released["probability"], strict=True)
    ]
    assert {same for site, same in pairs if site == "abroad"} == {True}
    assert False in {same for site, same in pairs if site != "abroad"}


def test_embeddings_and_worse_scans_go_into_the_evaluation_of_the_run(
    finished: Path, tmp_path: Path
) -> None:
    for arm in ("federated", "pooled"):
        z = read_embeddings(finished / "embeddings" / f"{arm}.csv")
        assert set(z.model) == {"seed 15"}
        assert set(z.site) == set(SITES)
        tested = set(read_csv(finished / "predictions" / f"{arm}.csv").patient)
        # Everybody has an embedding; the trained ones are those that no table of predictions has.
        assert {p for p, t in zip(z.patient, z.trained, strict=True) if not t} == tested
        worse = read_corrupted(finished / "corrupted" / f"{arm}.csv")
        assert set(worse.patient) == tested
        clean = read_csv(finished / "predictions" / f"{arm}.csv")
        assert np.abs(worse.probability - clean.probability[: len(worse.patient)]).max() > 1e-3
    told = CliRunner().invoke(
        app,
        ["evaluate", str(finished), "--synthetic", "--out", str(tmp_path), "--draws", "100",
         "--headline", "federated"],
        catch_exceptions=False,
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    document = read_evaluation(tmp_path / "evaluation.json")
    assert {one.arm for one in document.robustness} == {"federated", "pooled"}
    assert {one.arm for one in document.site_probes} == {"federated", "pooled"}
    assert document.overlap.checked
    assert {site.site: bool(site.trained_on) for site in document.patients} == {
        "north": True, "south": True, "abroad": False,
    }  # fmt: skip


def test_what_every_job_took_is_written(finished: Path) -> None:
    with (finished / "usage.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["job"] for row in rows} == {path.name for path in (finished / "records").iterdir()}
    for row in rows:
        assert float(row["peak_mb"]) >= float(row["after_mb"]) > 50


@pytest.mark.slow
def test_a_second_call_does_nothing_again(small: Path, finished: Path) -> None:
    records = sorted((finished / "records").iterdir())
    before = [(path.name, path.stat().st_mtime_ns) for path in records]
    lines = (finished / "results.jsonl").read_bytes()
    told = run(small, "--out", finished, "--seeds", "15", "--json")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["scenario"] == "small"
    after = [(path.name, path.stat().st_mtime_ns) for path in sorted(records[0].parent.iterdir())]
    assert after == before
    assert (finished / "results.jsonl").read_bytes() == lines
    assert not (finished / "work").exists()


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bytes(small: Path, finished: Path) -> None:
    out = small.parent / "killed"
    arguments = (small, "--out", out, "--workers", "2", "--seeds", "15")
    process = subprocess.Popen(
        command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 300
        # In the middle of a federation: its folder is there, its record is not.
        while not (list(out.glob("work/*/runs")) and list(out.glob("records/*.json"))):
            assert process.poll() is None, "the run ended by itself"
            assert time.monotonic() < deadline, "no federation within five minutes"
            time.sleep(0.02)
        children = psutil.Process(process.pid).children(recursive=True)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive, "workers outlived the command"
    assert len(list(out.glob("records/*.json"))) < len(ARMS)
    assert not (out / "results.json").exists()
    told = run(*arguments)
    assert told.returncode == 0, told.stderr
    assert (out / "results.jsonl").read_bytes() == (finished / "results.jsonl").read_bytes()
    assert (out / "table.csv").read_bytes() == (finished / "table.csv").read_bytes()


def test_two_runs_do_not_share_a_folder(small: Path, finished: Path) -> None:
    named = load_scenario(str(small)).chosen([15], None)
    with (finished / "lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(SmrfedError) as caught:
            run_scenario(named, finished, Machine(), Console(quiet=True))
    assert caught.value.code == "SMR-E685"


def test_a_wrong_call_ends_with_its_number_and_writes_nothing(tmp_path: Path) -> None:
    told = run("no-such-scenario", "--out", tmp_path / "out")
    assert told.returncode == 1
    assert "SMR-E680" in told.stderr
    assert "remedy" in told.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("code", "options"), [("SMR-E684", {"arms": "federatted"}), ("SMR-E684", {"seeds": ","})]
)
def test_a_wrong_option_writes_nothing(code: str, options: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(SmrfedError) as caught:
        run_command("main", out=tmp_path / "out", **options)  # type: ignore[arg-type]
    assert caught.value.code == code
    assert not (tmp_path / "out").exists()


def test_a_mistake_in_the_file_writes_nothing(small: Path, tmp_path: Path) -> None:
    wrong = small.parent / "wrong.toml"
    wrong.write_text(small.read_text().replace("personalise_steps", "personalise_stepps"))
    with pytest.raises(SmrfedError) as caught:
        run_command(str(wrong), out=tmp_path / "out")
    assert caught.value.code == "SMR-E682"
    assert "personalise_stepps" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_without_a_name_the_shipped_scenarios_are_listed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_command()
    assert "leave-one-out" in capsys.readouterr().out
