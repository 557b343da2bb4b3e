"""The benchmark of augmentation runs, and both of its arms are tested on the same patients."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_command_compares_both_arms_at_seen_and_unseen_sites() -> None:
    sizes = ["--seeds", "1", "--train", "4", "--test", "3", "--unseen", "4"]
    counts = ["--views", "2", "--multiplicity", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "simulations.benchmarks.augmentation", *sizes, *counts],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    (seed,) = record["seeds"]
    assert seed["augment_ms"] > 0
    assert [part["where"] for part in record["all"]] == ["seen sites", "unseen site"]
    for part in record["all"]:
        assert part["difference"] == pytest.approx(part["augmented"] - part["plain"])
