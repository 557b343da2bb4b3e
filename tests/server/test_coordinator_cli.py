from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from toy_federation import (
    COORDINATOR_KEY,
    ToyTransport,
    initial_arrays,
    make_plan,
    make_run,
    site_keys,
)

from server.rounds.driver import RoundDriver
from server.rounds.settings import DriverSettings
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import body_digest, decode_arrays, encode_arrays
from shared_model.protocol.keys import fingerprint, load_public_key

ROOT = Path(__file__).parents[2]
PLAN = """
name = "brains"
[privacy]
mode = "local"
noise_multiplier = 2.0
epsilon = 8.0
[groups]
shared = ["head.*"]
frozen = ["graph.*"]
[training]
rounds = 3
sampling_rate = 0.5
[federation]
sites = [{name = "a", declared_patients = 10}, {name = "b", declared_patients = 20}]
"""


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "server.cli", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    path = tmp_path / "plan.toml"
    path.write_text(PLAN)
    return path


def broken_run(path: Path) -> None:
    """Two rounds, then site b diverges and the quorum of two is missed."""
    plan = make_plan("a", "b", federation={"min_sites": 2})

    def diverge(site, message, reply):
        if b'"round":3' not in message.header:
            return reply
        arrays = {name: value * 1e9 for name, value in decode_arrays(reply.body).items()}
        return site.sign(message, arrays)

    directory = make_run(path, plan)
    with pytest.raises(SmrfedError, match="SMR-E520"):
        RoundDriver(
            plan,
            directory,
            ToyTransport("a", "b", faults={"b": diverge}),
            COORDINATOR_KEY,
            site_keys(plan),
            settings=DriverSettings.in_process(),
        ).run()


def test_plan_show_gives_digest_and_epsilon(plan_file: Path) -> None:
    shown = command("plan", "show", plan_file, "--json")
    assert shown.returncode == 0, shown.stderr
    facts = json.loads(shown.stdout)
    assert facts["digest"] == FederationPlan.load(plan_file).digest
    assert 1.0 < facts["epsilon"] < 8.0
    assert facts["shared_parameters"] is None
    text = command("plan", "show", plan_file).stdout
    assert facts["digest"] in text
    assert f"epsilon {facts['epsilon']:.3f} at delta 1e-05" in text


def test_plan_show_counts_shared_parameters_in_the_public_weights(
    tmp_path: Path, plan_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = encode_arrays(initial_arrays())
    (tmp_path / "public.safetensors").write_bytes(body)
    plan_file.write_text(PLAN + f'[model]\nweights_sha256 = "{body_digest(body)}"\n')
    monkeypatch.setenv("SMRFED_WEIGHTS", str(tmp_path))
    facts = json.loads(command("plan", "show", plan_file, "--json").stdout)
    assert facts["shared_parameters"] == 3 + 21


def test_create_keeps_only_the_shared_group(tmp_path: Path, plan_file: Path) -> None:
    initial = tmp_path / "initial.safetensors"
    initial.write_bytes(encode_arrays(initial_arrays()))
    run = tmp_path / "run"
    made = command("create", plan_file, run, "--initial", initial, "--run-id", "brains-1")
    assert made.returncode == 0, made.stderr
    assert set(decode_arrays((run / "initial.safetensors").read_bytes())) == {
        "head.bias",
        "head.weight",
    }
    facts = json.loads(command("status", run, "--json").stdout)
    assert (facts["run_id"], facts["rounds_completed"], facts["rounds"]) == ("brains-1", 0, 3)
    assert facts["shared_parameters"] == 24


def test_status_names_the_sites_that_were_set_aside_and_why(tmp_path: Path) -> None:
    broken_run(tmp_path / "run")
    facts = json.loads(command("status", tmp_path / "run", "--json").stdout)
    assert facts["rounds_completed"] == 2
    assert [len(record["sites"]) for record in facts["history"]] == [2, 2]
    assert facts["stopped"]["sites"]["b"]["code"] == "SMR-E510"
    text = command("status", tmp_path / "run").stdout
    assert "2 of 4 completed" in text
    assert "3 (quorum missed)" in text
    assert "b: SMR-E510" in text


def test_export_writes_the_newest_parameters(tmp_path: Path) -> None:
    broken_run(tmp_path / "run")
    out = tmp_path / "model.safetensors"
    done = command("export", tmp_path / "run", out)
    assert done.returncode == 0, done.stderr
    newest = tmp_path / "run" / "rounds" / "00002" / "global.safetensors"
    assert out.read_bytes() == newest.read_bytes()
    assert body_digest(out.read_bytes()) in done.stdout


def test_key_is_made_once_and_shown_again(tmp_path: Path) -> None:
    first = command("key", tmp_path / "keys" / "coordinator.pem")
    again = command("key", tmp_path / "keys" / "coordinator.pem")
    public = load_public_key(tmp_path / "keys" / "coordinator.pem.pub")
    assert fingerprint(public) in first.stdout
    assert first.stdout == again.stdout


def test_errors_leave_with_number_remedy_and_status(tmp_path: Path, plan_file: Path) -> None:
    make_run(tmp_path / "run", make_plan("a"))
    cases = {
        "SMR-E530": ("status", tmp_path / "nowhere"),
        "SMR-E540": ("export", tmp_path / "run", tmp_path / "out.safetensors"),
        "SMR-E541": ("create", plan_file, tmp_path / "new", "--initial", tmp_path / "no"),
        "SMR-E101": ("plan", "show", tmp_path / "no.toml"),
    }
    for code, arguments in cases.items():
        failed = command(*arguments)
        assert failed.returncode == 1
        assert f"[{code}]" in failed.stderr
        assert "remedy:" in failed.stderr
        assert "Traceback" not in failed.stderr
    assert command("status").returncode == 2


def test_the_server_imports_no_torch() -> None:
    modules = "server.cli, server.rounds.driver, server.rounds.progress"
    code = f"import sys, {modules}; print(sorted(m for m in sys.modules if m.startswith('torch')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    "arguments", [("--help",), ("flower", "--help"), ("plan", "show", "PLAN"), ("status", "RUN")]
)
def test_plans_and_runs_are_read_without_flower(
    arguments: tuple[str, ...], plan_file: Path, tmp_path: Path
) -> None:
    make_run(tmp_path / "run", make_plan("a", "b"))
    paths = {"PLAN": str(plan_file), "RUN": str(tmp_path / "run")}
    without = "import sys; sys.modules.update(dict.fromkeys(['flwr', 'httpx'])); "
    read = subprocess.run(
        [
            sys.executable,
            "-c",
            without + "from server.cli import main; main()",
            *(paths.get(argument, argument) for argument in arguments),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert read.returncode == 0, read.stderr
    assert read.stdout
