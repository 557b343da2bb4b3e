from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from simulations.benchmarks.server_memory import compare

ROOT = Path(__file__).parents[2]


def test_memory_does_not_grow_with_the_sites_as_flowers_does() -> None:
    peaks = {(p.engine, p.sites): p for p in compare([2, 8], 10.0)}
    ours = peaks["smrfed", 8].peak_mb / peaks["smrfed", 2].peak_mb
    assert ours <= 1.15
    # Flower's own aggregation holds every reply: the yardstick is alive in this very run.
    grown = peaks["flower", 8].models_held - peaks["flower", 2].models_held
    assert grown > 4.0
    assert peaks["smrfed", 8].models_held < peaks["flower", 8].models_held


@pytest.mark.slow
def test_fifty_megabytes_at_twelve_sites_take_what_three_take() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "simulations.benchmarks.server_memory"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    peaks = {(p["engine"], p["sites"]): p["peak_mb"] for p in json.loads(done.stdout)}
    assert peaks["smrfed", 12] <= 1.15 * peaks["smrfed", 3]
    assert peaks["smrfed", 12] < peaks["flower", 12]
