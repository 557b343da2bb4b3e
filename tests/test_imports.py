"""What must start fast, or run where no torch is installed, imports none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TORCH_FREE = (
    "shared_model.errors",
    "shared_model.grid",
    "shared_model.groups",
    "shared_model.plan",
    "shared_model.public_weights",
    "shared_model.protocol.arrays",
    "shared_model.protocol.keys",
    "shared_model.protocol.messages",
    "shared_model.protocol.sealed",
    "shared_model.privacy.accounting",
    "shared_model.privacy.plan_cost",
    "client.commands.ledger",
    "client.config",
    "client.privacy.ledger",
    "client.egress.explanation",
    "client.egress.gate",
    "client.egress.policy",
    "client.egress.receipts",
    "client.egress.reconcile",
    "client.commands.receipts",
    "client.agent.status",
    "client.agent.stub",
    "client.cli",
    "client.courier.app",
    "server.cli",
    "server.receipts.command",
    "server.rounds.driver",
    "server.flower.app",
    "server.flower.cli",
)


@pytest.mark.parametrize("module", TORCH_FREE)
def test_this_module_imports_no_torch(module: str) -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", f"import sys, {module}; print('torch' in sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert loaded.stdout.split() == ["False"]


@pytest.mark.parametrize("module", ["client.cli", "server.cli"])
def test_the_commands_start_without_flower_and_grpc(module: str) -> None:
    code = f"import sys, {module}; print({{'flwr', 'grpc'}} & set(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert loaded.stdout.strip() == "set()"
