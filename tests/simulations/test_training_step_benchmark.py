from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(1600)
def test_the_command_measures_every_engine_of_both_cases() -> None:
    sizes = ["--token-patients", "2", "--encoder-patients", "1", "--backbone-patients", "2"]
    sizes += ["--repeats", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "simulations.benchmarks.training_step", "--json", *sizes],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    steps = {(row["case"]["kind"], row["engine"]): row for row in record["steps"]}
    kinds = ("tokens", "encoder", "backbone")
    expected = {(kind, engine) for kind in kinds for engine in ("plain", "private", "vmap(grad)")}
    expected |= {(kind, "plain, one by one") for kind in ("encoder", "backbone")}
    # Opacus runs on the encoder with a linear head, and cannot read SMR-Net's graph and attention.
    opacus = {f"Opacus {way}" for way in ("hooks", "functorch", "ghost")}
    assert set(steps) == expected | {("backbone", engine) for engine in opacus}
    refused = {(row["case"]["kind"], row["engine"]): row["reason"] for row in record["refused"]}
    assert set(refused) == {(kind, engine) for kind in ("tokens", "encoder") for engine in opacus}
    assert all("buffers" in reason for reason in refused.values())
    for (_, engine), row in steps.items():
        assert 0 < row["fastest_s"] <= row["step_s"] <= row["slowest_s"]
        assert row["time_ratio"] > 0
        assert engine != "plain" or row["time_ratio"] == row["memory_ratio"] == 1
    # A frozen encoder leaves fewer weights to train; an unfrozen one holds its activations.
    assert steps["tokens", "private"]["trained"] < steps["encoder", "private"]["trained"]
    assert steps["encoder", "private"]["added_mb"] > 10
    assert {row["engine"] for row in record["allocator"]} == {
        "plain", "plain, one by one", "private",
    }  # fmt: skip
    for row in record["allocator"]:
        assert row["default_s"] > 0
        assert row["settings_s"] > 0
    for row in record["steps"]:
        assert row["engine"] in done.stderr
