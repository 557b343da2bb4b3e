from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.deploy, pytest.mark.slow]

ROOT = Path(__file__).parents[2]


def test_the_command_runs_the_same_rounds_both_ways_and_leaves_no_process() -> None:
    sizes = ["--sites", "1", "--rounds", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "simulations.benchmarks.round_overhead", "--json", *sizes],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
    )
    # The command itself fails when a process is left.
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rounds"]
    assert (row["sites"], row["rounds"], row["processes"]) == (1, 2, 5)
    assert row["same_bits"]
    assert row["start_up_s"] > 0
    assert row["cpu_s"] > 0
    for way in ("in_process", "deployed"):
        seconds = row[way]
        assert 0 < seconds["fastest"] <= seconds["median"] <= seconds["slowest"]
    assert row["deployed"]["median"] > row["in_process"]["median"]
    assert "deployed" in done.stderr
