"""Every shipped scenario at its smallest size through the command: hospitals as they are drawn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scenario_archives import run

from simulations.scenarios.load import load_scenario, shipped_names
from simulations.scenarios.results import ScenarioResults

# `main` and `aggregation` are run at full size for the documentation.
NAMES = tuple(name for name in shipped_names() if name not in ("main", "aggregation"))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_scenario_runs_with_twelve_patients_at_each_hospital(
    name: str, tmp_path: Path
) -> None:
    scenario = load_scenario(name).scenario
    # One arm that trains through the agents, one that looks at tables, and what is compared.
    arms = [arm for arm, one in scenario.arms.items() if one.kind == "federated"][:1]
    arms += [arm for arm, one in scenario.arms.items() if one.kind in ("prior", "pooled")][:1]
    out = tmp_path / "out"
    told = run(
        name, "--out", out, "--size", "0.05", "--seeds", str(scenario.seeds[0]),
        "--arms", ",".join(arms), "--json", timeout=3000,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    results = ScenarioResults.model_validate(json.loads(told.stdout))
    assert {arm.name for arm in results.arms} == set(arms)
    assert all(hospital.patients == 12 for hospital in results.hospitals)
    assert (out / "scenario.html").stat().st_size > 10_000
    for arm in arms:
        assert (out / "predictions" / f"{arm}.csv").exists()
