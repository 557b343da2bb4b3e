"""A federation of patients with names that can be recognised: no log and no metric holds one."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from agent_site import POLICY, SITE, Hospital, build_hospital
from bids_fixture import LABELS, Person, Visit, write_bids
from small_site import small_atlas, small_model, small_plan

from client.agent.agent import SiteAgent
from client.config import SiteConfig
from client.observability.site_metrics import site_metrics
from client.preflight.catalogue import checks_of
from client.preflight.site import CheckedSite
from server.checkpoints.run_directory import RunDirectory
from server.config import CoordinatorConfig, CoordinatorFolder
from server.flower.event_log import EventLog
from server.observability.coordinator_metrics import CoordinatorMetrics
from server.rounds.driver import RoundDriver
from server.rounds.settings import DriverSettings
from shared_model.errors import SmrfedError
from shared_model.observability.log_setup import log_to_stream
from shared_model.plan import FederationPlan
from shared_model.preflight.checks import Trouble, run_checks
from shared_model.protocol.arrays import Arrays
from shared_model.protocol.keys import load_public_key, public_path
from simulations.federation.in_process import InProcessTransport

SURNAMES = ("Schmidtkowski", "Feuerstein", "Obermayer", "Lindqvist")
FOLDER = "Geroldshausen"


def patients(count: int = 12) -> tuple[Person, ...]:
    return tuple(
        Person(f"{SURNAMES[n % 4]}{n:02d}", (Visit(LABELS[n % 3], None, 60.0 + n),))
        for n in range(count)
    )


def initial(plan: FederationPlan) -> Arrays:
    arrays = small_model(plan).shared_arrays()
    return {name: np.asarray(value, np.float32) for name, value in arrays.items()}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bids(tmp_path_factory.mktemp(FOLDER) / "archive", *patients())


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    log_to_stream("smrfed-site", "json", withhold=True, level=logging.DEBUG, stream=stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(False)


def leaks(text: str) -> list[str]:
    return [word for word in (*SURNAMES, FOLDER) if word.lower() in text.lower()]


def second(first: Hospital, archive: Path, folder: Path) -> SiteConfig:
    """Hospital ``b`` of the same coordinator."""
    folder.mkdir(mode=0o700)
    (folder / "policy.toml").write_text(POLICY)
    text = SITE.format(archive=archive, socket=folder / "agent.sock")
    (folder / "site.toml").write_text(text.replace('name = "a"', 'name = "b"'))
    shutil.copy(first.config.coordinator_key, folder / "coordinator.key.pub")
    return SiteConfig.load(folder / "site.toml")


def test_no_log_and_no_metric_names_a_patient(
    archive: Path, tmp_path: Path, log: io.StringIO
) -> None:
    plan = small_plan("local")
    hospital = build_hospital(tmp_path / "a", archive, plan)
    broken = tmp_path / "broken-archive"
    shutil.copytree(archive, broken)
    configs = {"a": hospital.config, "b": second(hospital, broken, tmp_path / "b")}
    agents = {
        name: SiteAgent(config, plan, atlas=small_atlas()) for name, config in configs.items()
    }
    agents["a"].prepare(lambda done, total: None)
    # The second hospital's archive breaks, with the file's name in every message about it.
    scan = next((broken / f"sub-{SURNAMES[0]}00").rglob("*.nii.gz"))
    scan.write_bytes(b"no image")
    keys = {
        name: load_public_key(public_path(config.state_dir / "site.key"))
        for name, config in configs.items()
    }
    home = CoordinatorFolder(tmp_path / "home")
    home.runs.mkdir(parents=True)
    home.write_config(CoordinatorConfig(name="x", public_address="c.example:443"))
    run = RunDirectory.create(home.runs / "study", plan, initial(plan), "study")
    driver = RoundDriver(
        plan,
        run,
        InProcessTransport({name: agent.handle for name, agent in agents.items()}),
        hospital.coordinator,
        keys,
        EventLog(run.path),
        settings=DriverSettings.in_process(),
    )
    with contextlib.suppress(SmrfedError):  # the quorum is missed
        driver.run()
    # Whatever goes wrong is logged with its whole story, as the agent's service does.
    ours, foreign = logging.getLogger("client.agent.service"), logging.getLogger("nibabel")
    with pytest.raises(SmrfedError) as caught:
        agents["b"].prepare(lambda done, total: None)
    assert leaks(str(caught.value)), "the error names the scan, so the test can fail"
    ours.error("instruction refused: %s", caught.value, exc_info=caught.value)
    foreign.error("cannot read %s", scan)
    foreign.error(f"cannot read {scan}")
    told = [site_metrics(config) for config in configs.values()]
    told.append(CoordinatorMetrics(home)())
    told.append((run.path / "events.jsonl").read_text())
    for config in configs.values():
        checks = checks_of(CheckedSite(config), ("records", "data", "processes", "files"))
        found = run_checks(checks, Trouble("SMR-E449"))
        told.append(json.dumps([finding.as_json() for finding in found]))
    for agent in agents.values():
        agent.close()
    lines = log.getvalue()
    assert len(lines.splitlines()) > 5
    for line in lines.splitlines():
        json.loads(line)
    assert leaks(lines) == []
    for text in told:
        assert text
        assert leaks(text.replace(str(tmp_path), "")) == [], text


def test_the_agents_own_process_says_numbers_alone(archive: Path, tmp_path: Path) -> None:
    """``smrfed-site --log-format json run`` on an archive that cannot be prepared."""
    from client.agent.acceptance import AcceptedPlans

    broken = tmp_path / FOLDER
    shutil.copytree(archive, broken)
    for scan in broken.rglob("*.nii.gz"):
        scan.write_bytes(b"no image")
    hospital = build_hospital(tmp_path / "site", broken, small_plan("local"))
    AcceptedPlans(hospital.state.plans).accept(hospital.plan, None)
    command = [sys.executable, "-m", "client.cli", "--log-format", "json", "run"]
    process = subprocess.Popen(
        [*command, "-c", str(hospital.folder / "site.toml")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        assert process.stderr is not None
        heard = ""
        for line in process.stderr:
            heard += line
            record = json.loads(line)
            if record["message"].startswith("preparing failed"):
                break
        process.send_signal(signal.SIGTERM)
        out, rest = process.communicate(timeout=120)
    finally:
        process.kill()
    text = out + heard + rest
    assert "SMR-E21" in text
    assert leaks(text) == [], text
    private = hospital.state.log.read_text()
    assert leaks(private), "the whole story stays in the state folder"
