"""A scenario over small archives that exist already: an experiment in seconds, for tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import tomli_w
from bids_fixture import people, write_bids

SITES = ("north", "south", "abroad")


def write_small(folder: Path) -> Path:
    """Archives at 4 mm and ``small.toml`` beside them; returns its path."""
    for number, site in enumerate(SITES):
        write_bids(folder / "archives" / site, *people(9), seed=number)
    scenario = {
        "format": 1,
        "title": "Small archives",
        "seeds": [15, 16],
        "held_out": ["abroad"],
        "draws": 100,
        "cohort": {"archives": {site: f"archives/{site}" for site in SITES}},
        "plan": {
            "input": {"grid": {"spacing_mm": 4.0}},
            "model": {"weights_sha256": "", "config": {"width": 4}},
            "atlas": {"sha256": ""},
            "training": {"rounds": 2, "local_steps": 1},
            "adaptation": {"personalise_steps": 2},
            "federation": {"round_deadline_s": 240.0},
            "evaluation": {"test_fraction": 0.5},
        },
        "arms": {
            "prior": {"kind": "prior"},
            "federated": {"kind": "federated", "title": "Federated"},
            "pooled": {"kind": "pooled"},
            "alone": {"kind": "alone"},
        },
        "compare": [
            {"arm": "federated", "minus": ["pooled", "alone"], "where": ["seen", "each-seen"]}
        ],
        "beside": {"arms": ["federated", "pooled"], "corruption": ["noise"], "severities": [4]},
    }
    path = folder / "small.toml"
    path.write_text(tomli_w.dumps(scenario), encoding="utf-8")
    return path


def command(*arguments: str | Path) -> list[str]:
    """``smrfed-sim run`` with these arguments."""
    return [sys.executable, "-m", "simulations.cli", "run", *map(str, arguments)]


def run(*arguments: str | Path, timeout: float = 900) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=timeout, check=False,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "220"},
    )  # fmt: skip
