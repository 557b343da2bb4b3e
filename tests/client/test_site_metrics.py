"""A hospital's metrics as Prometheus reads them: agent, records, budget, disk, processes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.agent.service import serve
from client.agent.status import AgentStatus
from client.cli import app
from client.config import SiteConfig
from client.egress.receipts import Decision, Receipts
from client.observability.site_metrics import site_metrics
from client.privacy.ledger import Ledger
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.privacy.accounting import MechanismUse
from shared_model.protocol.sealed import Sealed
from shared_model.supervision.state_file import write_states

parser = pytest.importorskip("prometheus_client.parser", reason="prometheus_client is missing")

PLAN = FederationPlan.parse(
    {
        "name": "metrics",
        "privacy": {"mode": "local", "noise_multiplier": 2.0, "epsilon": 8.0},
        "federation": {"sites": [{"name": "clinic-a", "declared_patients": 20}]},
    }
)


class Agent:
    max_body_bytes = 1 << 10

    def handle(self, instruction: Sealed) -> Sealed:
        raise AssertionError

    def refused(self, error: SmrfedError) -> None:
        raise AssertionError

    def status(self) -> AgentStatus:
        return AgentStatus("clinic-a", "p", "d", "f", "training", "r", 3, "train", 1.7e9)


@pytest.fixture
def config() -> SiteConfig:
    # Not pytest's own folder: the path of a unix socket may have 103 bytes at most.
    folder = Path(tempfile.mkdtemp(prefix="smrfed-"))
    assert CliRunner().invoke(app, ["init", str(folder), "--name", "clinic-a"]).exit_code == 0
    return SiteConfig.load(folder / "site.toml")


def samples(config: SiteConfig) -> dict[str, dict[tuple[str, ...], float]]:
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in parser.text_string_to_metric_families(site_metrics(config)):
        for sample in family.samples:
            labels = tuple(sample.labels.values())
            found.setdefault(sample.name.removeprefix("smrfed_site_"), {})[labels] = sample.value
    return found


def test_a_new_hospital_tells_zeros_and_makes_nothing(config: SiteConfig) -> None:
    before = sorted(config.state_dir.rglob("*"))
    found = samples(config)
    assert found["agent_up"] == {(): 0}
    assert found["ledger_epsilon"] == {("1e-05",): 0}
    assert found["ledger_epsilon_cap"] == {("1e-05",): 10}
    assert found["receipts_total"] == {("released",): 0, ("refused",): 0}
    assert found["disk_free_bytes"][()] > 0
    assert "problem" not in found
    assert sorted(config.state_dir.rglob("*")) == before


def test_what_was_spent_and_decided(config: SiteConfig) -> None:
    use = MechanismUse(2.0, 0.5, 4)
    ledger = Ledger(config.state_dir / "ledger.sqlite")
    ledger.reserve("r", 1, PLAN, use, patients=["sub-Schmidtkowski"])
    for released in (True, True, False):
        Receipts(config.state_dir / "receipts.jsonl").append(
            Decision(
                released=released, rule="update", run_id="r", round=1, kind="train",
                mode="local", plan_digest=PLAN.digest, arrays=1, numbers=2, bytes=8, metrics=(),
                body_sha256="0" * 64, reply_sha256="0" * 64, epsilon_after=None,
            )
        )  # fmt: skip
    found = samples(config)
    assert found["ledger_epsilon"][("1e-05",)] == pytest.approx(ledger.spent(1e-5))
    assert found["receipts_total"] == {("released",): 2, ("refused",): 1}
    assert found["released_bytes_total"] == {(): 16}
    assert found["last_instruction_time_seconds"][()] > 1.7e9
    assert "Schmidtkowski" not in site_metrics(config)


def test_a_damaged_record_hides_no_other(config: SiteConfig) -> None:
    (config.state_dir / "receipts.jsonl").write_text("altered\n")
    found = samples(config)
    assert found["problem"] == {("receipts", "SMR-E326"): 1, ("ledger", "SMR-E326"): 1}
    assert found["disk_free_bytes"][()] > 0


def test_the_agent_and_the_supervisor(config: SiteConfig) -> None:
    states = [
        {"name": "agent", "state": "running", "starts": 3},
        {"name": "node", "state": "restarting", "starts": 7},
    ]
    write_states(config.state_dir / "logs" / "processes.json", states)
    service = serve(Agent(), config.socket)
    try:
        found = samples(config)
    finally:
        service.stop()
    assert found["agent_up"] == {(): 1}
    assert found["agent_activity"] == {("training",): 1}
    assert found["agent_start_time_seconds"] == {(): 1.7e9}
    assert found["process_up"] == {("agent",): 1, ("node",): 0}
    assert found["process_starts_total"] == {("agent",): 3, ("node",): 7}


def test_the_command_writes_a_textfile(config: SiteConfig, tmp_path: Path) -> None:
    out = tmp_path / "smrfed.prom"
    site = str(config.policy.parent / "site.toml")
    assert CliRunner().invoke(app, ["metrics", "-c", site, "--textfile", str(out)]).exit_code == 0
    assert "smrfed_site_agent_up 0" in out.read_text()
    assert out.stat().st_mode & 0o777 == 0o644
