"""``smrfed-coordinator report``: what is known of a run, what is not, and nothing invented."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from driver_runs import drive_on
from looking_federation import LookingTransport, looking_plan, start
from toy_federation import Answer, ToySite, read
from typer.testing import CliRunner

from server.checkpoints.run_directory import RunDirectory
from server.cli import app
from server.evaluation.records import ReleaseStore
from server.evaluation.summary import summarise
from server.report.files import write_report
from server.report.gather import RunReport, gather
from server.report.page import report_page
from server.rounds.releases import released_body
from server.rounds.transport import Failure
from shared_model.privacy.plan_cost import plan_epsilon
from shared_model.protocol.arrays import body_digest
from shared_model.protocol.sealed import Sealed


def silent(site: ToySite, message: Sealed, reply: Sealed) -> Answer:
    return Failure("the door is closed") if read(message).kind == "evaluate" else reply


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    path, plan = tmp_path_factory.mktemp("report") / "run", looking_plan()
    drive_on(start(path, plan), LookingTransport(plan, {"c": silent}))
    return RunDirectory.open(path)


def test_the_figures_are_those_that_were_released(run: RunDirectory) -> None:
    report = gather(run)
    record = [r for r in ReleaseStore(run.path).all() if r.asked.kind == "evaluate"][-1]
    summary = summarise(record, run.plan)
    assert report.last is not None
    assert report.last.together is not None
    assert summary.together is not None
    expected = summary.together.balanced_accuracy
    found = report.last.together.figures["balanced_accuracy"]
    assert (found.value, found.low, found.high) == (expected.value, expected.low, expected.high)
    assert set(report.last.sites) == {"a", "b"}
    assert "SMR-E504" in report.last.missing["c"]
    assert len(report.last.together.confusion) == len(run.plan.task.labels)
    assert report.last.together.confusion_sd > 0
    np.testing.assert_allclose(
        report.last.together.confusion,
        np.sum([report.last.sites[site].confusion for site in ("a", "b")], axis=0),
    )


def test_epsilon_digests_and_participation_are_the_runs_own(run: RunDirectory) -> None:
    report = gather(run)
    assert report.privacy.epsilon == pytest.approx(plan_epsilon(run.plan))
    assert report.plan_digest == run.plan.digest
    assert report.model_sha256 == body_digest(released_body(run))
    assert report.rounds_completed == run.plan.training.rounds
    assert {one.site: one.accepted for one in report.participation} == dict.fromkeys(
        run.plan.weights, report.rounds_completed
    )
    assert report.receipts.verified
    assert report.receipts.lines > 0


def test_what_the_coordinator_cannot_know_is_said(run: RunDirectory) -> None:
    told = " ".join(gather(run).unknown)
    for subject in ("Subgroups", "Reliability", "personal models", "Paired", "took no part"):
        assert subject in told
    page = report_page(gather(run))
    assert "What the coordinator does not know" in page


def test_the_command_writes_page_json_csv_and_card(run: RunDirectory, tmp_path: Path) -> None:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(
        app, ["report", str(run.path), "--out", str(tmp_path)], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    assert "balanced accuracy" in result.stdout
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "<script" not in page
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    read_back = RunReport.model_validate_json((tmp_path / "report.json").read_bytes())
    assert read_back.model_copy(update={"created": ""}) == gather(run).model_copy(
        update={"created": ""}
    )
    with (tmp_path / "report.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    last = read_back.last
    assert last is not None
    assert last.together is not None
    (row,) = [
        r
        for r in rows
        if (r["where"], r["metric"]) == ("all together", "macro_auc")
        and int(r["after_round"]) == last.after_round
    ]
    assert float(row["low"]) == last.together.figures["macro_auc"].low
    card = (tmp_path / "model_card.md").read_text("utf-8")
    assert read_back.model_sha256 in card
    assert "Not stated." in card
    told = json.loads(CliRunner().invoke(app, ["report", str(run.path), "--json"]).stdout)
    assert told["run_id"] == run.run_id


def test_a_run_that_has_only_begun_says_that_nothing_is_known(tmp_path: Path) -> None:
    run = start(tmp_path / "run", looking_plan())
    report = gather(run)
    assert report.last is None
    assert report.rounds_completed == 0
    written = write_report(report, tmp_path / "out")
    assert "nobody here knows how it does" in written.page.read_text("utf-8")
    assert "No figure about test patients was released." in written.card.read_text("utf-8")


def test_a_broken_chain_of_receipts_is_a_warning_not_a_crash(tmp_path: Path) -> None:
    plan = looking_plan()
    directory = start(tmp_path / "run", plan)
    drive_on(directory, LookingTransport(plan, {}))
    path = directory.path / "receipts.jsonl"
    path.write_text(path.read_text("utf-8").replace('"bytes":', '"bytes": 1', 1), "utf-8")
    report = gather(RunDirectory.open(directory.path))
    assert not report.receipts.verified
    assert "SMR-E561" in report_page(report)
