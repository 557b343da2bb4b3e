"""``smrfed-site`` as a hospital uses it: real files, a real agent process, signals."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tomli_w
from agent_site import Hospital, build_hospital
from typer.testing import CliRunner

from client.agent.stub import AgentClient
from client.cli import app, main
from client.config import SiteConfig
from client.egress.policy import SitePolicy
from client.training.site_model import SiteModel
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.protocol.keys import fingerprint, load_public_key

Run = Callable[..., str]


def write_plan(plan: FederationPlan, path: Path) -> Path:
    def present(value: object) -> object:
        if isinstance(value, dict):
            return {k: present(v) for k, v in value.items() if v is not None}
        return [present(v) for v in value] if isinstance(value, list) else value

    path.write_text(tomli_w.dumps(present(plan.model_dump(mode="json"))))  # type: ignore[arg-type]
    return path


def call(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def hospital(tmp_path: Path, archive: Path) -> Hospital:
    return build_hospital(tmp_path / "site", archive)


@pytest.fixture
def accepted(hospital: Hospital, listed_here: None) -> Hospital:
    plan = write_plan(hospital.plan, hospital.folder / "plan.toml")
    call("accept", plan, "--config", hospital.folder / "site.toml", "--yes")
    return hospital


def test_init_writes_files_that_load_and_a_private_key(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "site"
    facts = json.loads(call("init", folder, "--name", "clinic-1", "--json"))
    config = SiteConfig.load(Path(facts["configuration"]))
    assert config.name == "clinic-1"
    assert SitePolicy.load(Path(facts["policy"])) == SitePolicy()
    assert facts["fingerprint"] == fingerprint(load_public_key(Path(facts["public key"])))
    assert config.state_dir.resolve() == (folder / "state").resolve()
    key = folder / "state" / "site.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "state").stat().st_mode) == 0o700
    with pytest.raises(SmrfedError, match="SMR-E417"):
        call("init", folder)
    assert SiteConfig.load(Path(facts["configuration"])).name == "clinic-1"


def test_accept_shows_what_leaves_and_pins_the_digest(hospital: Hospital) -> None:
    plan = write_plan(hospital.plan, hospital.folder / "plan.toml")
    config = hospital.folder / "site.toml"
    shown = call("accept", plan, "-c", config, "--yes")
    assert hospital.plan.digest in shown
    assert "mode local, epsilon 3.7" in shown
    assert "reasoner.head.bias" in shown
    answer = json.loads(call("accept", plan, "-c", config, "--yes", "--json"))
    assert answer["digest"] == hospital.plan.digest
    assert answer["outgoing"]["reasoner.head.bias"] == [3]
    assert not any(name.startswith("encoder.") for name in answer["outgoing"])
    pinned = hospital.state.plans / f"{hospital.plan.digest}.json"
    assert FederationPlan.parse(json.loads(pinned.read_text())["plan"]) == hospital.plan


@pytest.mark.usefixtures("listed_here")
def test_accept_needs_a_person_and_the_policy(hospital: Hospital) -> None:
    config = hospital.folder / "site.toml"
    plan = write_plan(hospital.plan, hospital.folder / "plan.toml")
    with pytest.raises(SmrfedError, match="SMR-E419"):
        call("accept", plan, "-c", config)
    (hospital.folder / "policy.toml").write_text('modes = ["local"]\nmax_epsilon = 2.0')
    with pytest.raises(SmrfedError, match="SMR-E312"):
        call("accept", plan, "-c", config, "--yes")
    (hospital.folder / "policy.toml").write_text("max_shared_parameters = 10")
    with pytest.raises(SmrfedError, match="SMR-E314"):
        call("accept", plan, "-c", config, "--yes")
    assert not list(hospital.state.plans.glob("*"))
    with pytest.raises(SmrfedError, match="SMR-E409"):
        call("run", "-c", config)


def test_check_lists_every_problem_with_its_number(accepted: Hospital) -> None:
    config = accepted.folder / "site.toml"
    report = json.loads(call("check", config, "--json"))
    assert report["ready"]
    found = {item["what"]: item["found"] for item in report["checks"]}
    assert "CN" in found["archive"]
    assert found["device"].startswith("cpu")
    (accepted.folder / "coordinator.key.pub").unlink()
    (accepted.folder / "policy.toml").write_text("max_epsilon = 1.0")
    result = CliRunner().invoke(app, ["check", str(config), "--json"])
    assert isinstance(result.exception, SmrfedError)
    assert result.exception.code == "SMR-E420"
    report = json.loads(result.stdout)
    codes = {item["what"]: item["code"] for item in report["checks"]}
    assert not report["ready"]
    assert codes["policy"] == "SMR-E312"
    assert codes["coordinator key"] == "SMR-E118"
    assert codes["archive"] is None


def started(hospital: Hospital) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "client.cli", "run", "-c", str(hospital.folder / "site.toml")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert "agent of site a" in process.stdout.readline()
    return process


def test_run_serves_rounds_until_sigterm_and_the_records_show_them(accepted: Hospital) -> None:
    config = accepted.folder / "site.toml"
    shared = json.loads((accepted.state.plans / f"{accepted.plan.digest}.json").read_text())
    process = started(accepted)
    try:
        from shared_model.atlas.select import load_atlas

        atlas = load_atlas(accepted.plan.atlas, accepted.plan.input.grid)
        arrays = SiteModel.build(accepted.plan, atlas).shared_arrays()
        assert {k: list(v.shape) for k, v in arrays.items()} == shared["outgoing"]
        with AgentClient(accepted.config.socket) as client:
            reply = client.handle(accepted.instruction(arrays))
        status = json.loads(call("status", "-c", config, "--json"))
        assert (status["running"], status["plan"]) == (True, accepted.plan.digest)
        assert status["runs"] == {"run-1": {"round": 1, "kind": "train"}}
        second = subprocess.run(
            [sys.executable, "-m", "client.cli", "run", "-c", str(config)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert second.returncode == 1
        assert "SMR-E408" in second.stderr
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.communicate()
    assert not accepted.config.socket.exists()
    assert not json.loads(call("status", "-c", config, "--json"))["running"]
    receipts = json.loads(call("receipts", "-c", config, "--json"))
    assert [r["decision"]["bytes"] for r in receipts] == [sum(4 * v.size for v in arrays.values())]
    assert "1 receipts, chain verified" in call("receipts", "-c", config)
    ledger = json.loads(call("ledger", "-c", config, "--json"))
    assert [(e["round"], e["state"]) for e in ledger["entries"]] == [(1, "seal")]
    assert 0 < ledger["epsilon"] == ledger["plans"][0]["epsilon"] < 8
    assert "1 entries, 3 events, chain verified" in call("ledger", "-c", config)
    log = accepted.state.log.read_text()
    assert "answered round 1 (train) of run run-1" in log
    assert len(reply.body) > 0


TORCH_FREE = """
import sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "monai", "opacus", "torch_geometric", "flwr"):
            raise AssertionError(f"{name} was imported")
sys.meta_path.insert(0, NoTorch())
from client.cli import app
config = sys.argv[1]
for command in (["init", sys.argv[3]], ["accept", sys.argv[2], "-c", config, "--yes"],
                ["status", "-c", config], ["receipts", "-c", config], ["ledger", "-c", config]):
    app(command, standalone_mode=False)
print("done")
"""


def test_what_hospital_it_runs_imports_no_torch(hospital: Hospital, tmp_path: Path) -> None:
    plan = write_plan(hospital.plan, hospital.folder / "plan.toml")
    done = subprocess.run(
        [sys.executable, "-c", TORCH_FREE, hospital.folder / "site.toml", plan, tmp_path / "new"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.endswith("done\n"), done.stderr


def exit_status(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["smrfed-site", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


def test_errors_leave_with_number_remedy_and_exit_status(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_status(monkeypatch, "status", "--config", str(hospital.folder / "site.toml")) == 0
    assert exit_status(monkeypatch, "init", str(hospital.folder)) == 1
    error = capsys.readouterr().err
    assert "[SMR-E417]" in error
    assert "remedy:" in error
    assert exit_status(monkeypatch, "status", "--nonsense") == 2
    assert exit_status(monkeypatch, "init", str(hospital.folder), "--name", "Not A Name") == 2


def test_an_unexpected_error_leaves_its_story_in_a_private_file(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("sub-077 in a traceback")

    monkeypatch.setattr("client.commands.receipts.Receipts", broken)
    assert exit_status(monkeypatch, "receipts", "-c", str(hospital.folder / "site.toml")) == 70
    error = capsys.readouterr().err
    assert "sub-077" not in error
    path = Path(error.strip().rsplit(" ", 1)[1])
    assert "sub-077" in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.unlink()
