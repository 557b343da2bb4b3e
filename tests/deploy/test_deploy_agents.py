"""The agents that hospitals run, over Flower and in-process: the same final bits."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pytest
import tomli_w
import torch
from real_sites import SITES, SmallHospitals, small_plan

from client.agent.agent import SiteAgent
from client.config import SiteConfig
from client.training.site_model import SiteModel
from server.evaluation.records import ReleaseStore
from server.flower.deployment import Deployment
from server.rounds.driver import RoundDriver
from server.rounds.releases import released_body
from server.rounds.settings import DriverSettings
from shared_model.atlas.select import load_atlas
from shared_model.protocol.arrays import Arrays
from shared_model.protocol.keys import load_signing_key
from simulations.deployed.environment import command
from simulations.deployed.federation import DeployedFederation, DeployedSite
from simulations.federation.in_process import InProcessTransport

pytestmark = pytest.mark.deploy


def test_deployed_agents_and_agents_in_process_end_in_the_same_bits() -> None:
    plan = small_plan(rounds=2)
    with tempfile.TemporaryDirectory(prefix="smrfed-") as folder:
        hospitals = SmallHospitals.build(Path(folder), plan)
        atlas = load_atlas(plan.atlas, plan.input.grid)
        initial = SiteModel.build(plan, atlas).shared_arrays()
        deployed = run_deployed(hospitals, initial)
        assert deployed == run_in_process(hospitals, initial)
        assert deployed != hospitals.new_run("untouched", initial).latest().body


def run_deployed(hospitals: SmallHospitals, initial: Arrays) -> bytes:
    plan_file = hospitals.folder / "plan.toml"
    plan_file.write_text(tomli_w.dumps(hospitals.plan.model_dump(mode="json", exclude_none=True)))
    accepting = [
        subprocess.Popen(
            [command("smrfed-site"), "accept", str(plan_file), "--config", str(config), "--yes"],
            stdout=subprocess.DEVNULL,
        )
        for config in map(hospitals.config, SITES)
    ]
    assert [process.wait(120) for process in accepting] == [0] * len(SITES)
    sites = [DeployedSite.from_config(hospitals.config(name)) for name in SITES]
    run_dir = hospitals.new_run("deployed", initial)
    with DeployedFederation(sites, hospitals.folder / "work") as federation:
        finished = federation.run(run_dir.path, 180)
    told = finished.finalised()
    assert told is not None
    assert told.accepted == SITES
    kinds = [record.asked.kind for record in ReleaseStore(finished.path).all()]
    assert kinds == ["evaluate", "calibrate", "evaluate"]
    return released_body(finished)


def run_in_process(hospitals: SmallHospitals, initial: Arrays) -> bytes:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    agents = []
    try:
        for name in SITES:
            config = SiteConfig.load(hospitals.config(name))
            # The same hospital, as if it had not answered before; only its signing key stays.
            fresh = config.model_copy(update={"state_dir": hospitals.folder / f"{name}-again"})
            key = Path(config.state_dir) / "site.key"
            fresh.state_dir.mkdir(mode=0o700)
            for part in (key, key.with_name("site.key.pub")):
                (fresh.state_dir / part.name).write_bytes(part.read_bytes())
            (fresh.state_dir / key.name).chmod(0o600)
            agents.append(SiteAgent(fresh, hospitals.plan))
        run_dir = hospitals.new_run("in-process", initial)
        deployment = Deployment.load(run_dir.path)
        RoundDriver(
            hospitals.plan,
            run_dir,
            InProcessTransport({agent.name: agent.handle for agent in agents}),
            load_signing_key(deployment.coordinator_key),
            deployment.public_keys(hospitals.plan),
            settings=DriverSettings.in_process(),
        ).run()
        return released_body(run_dir)
    finally:
        for agent in agents:
            agent.close()
        torch.set_num_threads(threads)
