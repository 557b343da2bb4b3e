"""The two controls at small size: chance stays chance, and no site effect means no harm."""

from __future__ import annotations

from pathlib import Path

import pytest
from scenario_archives import run

from simulations.scenarios.load import SHIPPED
from simulations.scenarios.results import ScenarioResults


def small_control(name: str, folder: Path, arms: str) -> ScenarioResults:
    """A shipped control with 36 patients at each hospital and one seed that nothing was set on."""
    text = (SHIPPED / f"{name}.toml").read_text(encoding="utf-8")
    path = folder / f"{name}.toml"
    path.write_text(
        text.replace('design = "four-and-one"', 'design = "four-and-one"\npatients = 36')
    )
    told = run(path, "--out", folder / "out", "--seeds", "401", "--arms", arms)
    assert told.returncode == 0, told.stderr
    return ScenarioResults.model_validate_json((folder / "out" / "results.json").read_bytes())


@pytest.mark.slow
def test_a_diagnosis_that_says_nothing_is_not_learnt(tmp_path: Path) -> None:
    results = small_control("random-labels", tmp_path, "federated,pooled,alone")
    for arm in results.arms:
        for where in ("seen", "unseen"):
            found = arm.groups[where].balanced_accuracy
            assert found.low is not None
            assert found.high is not None
            assert found.low <= 1 / 3 <= found.high, (arm.name, where, found)


@pytest.mark.slow
def test_adaptation_does_no_harm_where_hospitals_do_not_differ(tmp_path: Path) -> None:
    results = small_control("zero-shift", tmp_path, "federated,fedavg")
    for row in results.differences:
        # 36 patients at a hospital: the interval, not the estimate, must not speak of harm.
        assert row.difference.high is not None
        assert row.difference.high >= -0.01, row
