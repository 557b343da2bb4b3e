"""The coordinator's metrics: what Prometheus reads of real run directories, and nothing more."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from driver_runs import drive
from enrolment_federation import federation
from looking_federation import LookingTransport, looking_plan, start
from toy_federation import Answer, ToySite, read

from server.checkpoints.run_directory import RunDirectory
from server.config import CoordinatorConfig, CoordinatorFolder
from server.flower.event_log import EventLog
from server.observability.coordinator_metrics import CoordinatorMetrics
from server.rounds.transport import Failure
from shared_model.errors import SmrfedError
from shared_model.privacy.plan_cost import plan_epsilon
from shared_model.protocol.sealed import Sealed

parser = pytest.importorskip("prometheus_client.parser", reason="prometheus_client is missing")

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]

#: Everything that the coordinator tells; a new figure needs a thought about what it reveals.
FIGURES = {
    "smrfed_coordinator_info",
    "smrfed_run_rounds",
    "smrfed_run_rounds_completed",
    "smrfed_run_state",
    "smrfed_run_epsilon",
    "smrfed_run_epsilon_budget",
    # Public like participation: too few hospitals answered.
    "smrfed_run_void_rounds_total",
    "smrfed_run_round_seconds_total",
    "smrfed_run_last_round_seconds",
    "smrfed_run_events_total",
    "smrfed_run_last_event_time_seconds",
    "smrfed_site_rounds_accepted_total",
    "smrfed_site_rounds_set_aside_total",
    "smrfed_sent_bytes_total",
    "smrfed_received_bytes_total",
    "smrfed_superlink_up",
    "smrfed_connected_sites",
    "smrfed_site_connected",
    "smrfed_sites",
    "smrfed_certificate_end_time_seconds",
    "smrfed_disk_free_bytes",
    "smrfed_process_up",
    "smrfed_process_starts_total",
    "smrfed_problem",
}


def silent(site: ToySite, message: Sealed, reply: Sealed) -> Answer:
    return Failure("gone") if read(message).round in (2, 3) else reply


def samples(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> CoordinatorFolder:
    folder = CoordinatorFolder(tmp_path_factory.mktemp("home"))
    folder.write_config(CoordinatorConfig(name="test", public_address="c.example:443"))
    plan = looking_plan()
    folder.runs.mkdir()
    run = start(folder.runs / "study", plan)
    drive(run, plan, LookingTransport(plan, {"c": silent}), observer=EventLog(run.path))
    return folder


def test_the_figures_are_those_of_the_run_directory(home: CoordinatorFolder) -> None:
    found = samples(CoordinatorMetrics(home)())
    run = RunDirectory.open(home.runs / "study")
    state = run.latest()
    study = ("run", "study")
    assert found["smrfed_run_rounds_completed", (study,)] == state.round == 5
    assert found["smrfed_run_state", (study, ("state", "finished"))] == 1
    assert found["smrfed_run_epsilon", (study,)] == pytest.approx(plan_epsilon(run.plan))
    assert found["smrfed_run_epsilon_budget", (study,)] == run.plan.privacy.epsilon
    assert found["smrfed_site_rounds_accepted_total", (study, ("site", "a"))] == 5
    assert found["smrfed_site_rounds_accepted_total", (study, ("site", "c"))] == 3
    aside = {k: v for k, v in found.items() if k[0] == "smrfed_site_rounds_set_aside_total"}
    (((_, labels), count),) = aside.items()
    assert dict(labels)["site"] == "c"
    assert re.fullmatch(r"SMR-E\d{3}", dict(labels)["code"])
    assert count == 2
    sent = found["smrfed_sent_bytes_total", (study, ("site", "a"))]
    assert sent >= 5 * len(state.body)
    replies = (("authentic", "true"), study, ("site", "a"))
    assert found["smrfed_received_bytes_total", replies] > 0
    assert found["smrfed_run_events_total", (("kind", "round_saved"), study)] == 5
    assert found["smrfed_disk_free_bytes", ()] > 0
    assert {name for name, _ in found} <= FIGURES


def test_connected_sites_and_what_cannot_be_asked(home: CoordinatorFolder) -> None:
    found = samples(CoordinatorMetrics(home, lambda: frozenset({"a", "b"}))())
    assert found["smrfed_superlink_up", ()] == 1
    assert found["smrfed_connected_sites", ()] == 2
    assert found["smrfed_site_connected", (("site", "b"),)] == 1

    def away() -> frozenset[str]:
        raise SmrfedError("SMR-E550", "away", remedy="none")

    found = samples(CoordinatorMetrics(home, away)())
    assert found["smrfed_superlink_up", ()] == 0
    assert found["smrfed_problem", (("code", "SMR-E550"), ("part", "superlink"))] == 1
    assert found["smrfed_run_rounds_completed", (("run", "study"),)] == 5


def test_a_damaged_run_hides_no_other_and_new_rounds_are_seen(
    home: CoordinatorFolder, tmp_path: Path
) -> None:
    folder = CoordinatorFolder(tmp_path)
    folder.write_config(CoordinatorConfig(name="test", public_address="c.example:443"))
    plan = looking_plan(every=0)
    folder.runs.mkdir()
    run = start(folder.runs / "growing", plan)
    (folder.runs / "broken").mkdir()
    (folder.runs / "broken" / "run.json").write_text("{}")
    metrics = CoordinatorMetrics(folder)
    growing = (("run", "growing"),)
    before = samples(metrics())
    assert before["smrfed_run_rounds_completed", growing] == 0
    assert before["smrfed_problem", (("code", "SMR-E530"), ("part", "run broken"))] == 1
    drive(run, plan, LookingTransport(plan), observer=EventLog(run.path))
    after = samples(metrics())
    assert after["smrfed_run_rounds_completed", growing] == 5
    assert after == samples(metrics()) or after.keys() == samples(metrics()).keys()


def test_the_registry_and_the_certificate(tmp_path: Path) -> None:
    with federation(tmp_path) as running:
        running.join(running.hospital(), running.token())
        running.token("south")
        found = samples(CoordinatorMetrics(running.folder)())
    assert found["smrfed_sites", (("state", "enrolled"),)] == 1
    assert found["smrfed_sites", (("state", "invited"),)] == 1
    end = found["smrfed_certificate_end_time_seconds", (("certificate", "server"),)]
    assert end > 1.7e9


def test_the_command_serves_until_it_is_told_to_stop(home: CoordinatorFolder) -> None:
    command = [sys.executable, "-m", "server.cli", "--log-format", "json", "metrics"]
    process = subprocess.Popen(
        [*command, "--home", str(home.path), "--port", "0", "--files-only"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"NO_PROXY": "127.0.0.1"},
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/metrics", line)
        assert found, line
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(found[0], timeout=60) as answer:
            assert "smrfed_run_rounds_completed" in answer.read().decode()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()
