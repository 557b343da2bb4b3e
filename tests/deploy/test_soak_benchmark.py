from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.deploy, pytest.mark.slow]

ROOT = Path(__file__).parents[2]


def test_the_command_kills_measures_and_compares_the_bits(tmp_path: Path) -> None:
    sizes = ["--rounds", "5", "--restarts", "1", "--seed", "3", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "simulations.benchmarks.soak", *sizes],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=580,
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "soak.json").read_text())
    assert (record["rounds"], record["restarts"], record["same_bits"]) == (5, 1, True)
    samples = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    # A round may be saved while another one is measured.
    assert samples[-1]["round"] == 5
    for name in ("coordinator/superlink", "coordinator/serverapp", "south/agent", "south/node"):
        assert all(
            sample["processes"][name]["rss"] > 1e6
            for sample in samples
            if name in sample["processes"]
        )
    assert samples[-1]["disk"]["north ledger"] > 0
    assert samples[-1]["rows"]["run"] >= 1
