"""Whole federations of real agents by each method: interrupted, and against the bare rounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_federation import new_run, new_workspace, plan_of, write_archives

from client.training.site_model import SiteModel
from server.rounds.events import Event
from shared_model.atlas.select import load_atlas
from shared_model.plan import FederationPlan
from simulations.arms.hospital import load_hospital
from simulations.arms.train_rounds import train_rounds
from simulations.federation.run import final_site_arrays, run_in_process

SITES = ("east", "southwest", "north")
METHODS: dict[str, dict[str, Any]] = {
    "scaffold": {"aggregation": {"control_variates": True}},
    "mr-mtl": {
        "aggregation": {"multi_task_lambda": 0.5},
        "adaptation": {"personalise": "never"},
    },
    "fedprox, adam of the median": {
        "aggregation": {"proximal_mu": 0.5, "rule": "median", "server_optimizer": "adam"},
        "training": {"server_learning_rate": 0.02},
    },
}


def plan_with(method: str) -> FederationPlan:
    data = plan_of(SITES, rounds=3, min_sites=3).model_dump(mode="json")
    for section, fields in METHODS[method].items():
        data[section] |= fields
    return FederationPlan.parse(data)


class InterruptionError(Exception):
    pass


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_archives(tmp_path_factory.mktemp("archives"), SITES)


@pytest.mark.parametrize("method", METHODS)
def test_agents_and_driver_arrive_where_the_bare_rounds_do_also_when_interrupted(
    method: str, archives: dict[str, Path], tmp_path: Path
) -> None:
    plan = plan_with(method)
    atlas = load_atlas(plan.atlas, plan.input.grid)
    workspace = new_workspace(tmp_path / "sites", archives)
    # Stopped in the middle of round 2, and again after it; each time all agents start anew.
    for kind, number in (("site_accepted", 2), ("round_saved", 2)):

        def interrupt(event: Event, kind: str = kind, number: int = number) -> None:
            if (event.kind, event.round) == (kind, number):
                raise InterruptionError

        with pytest.raises(InterruptionError):
            run_in_process(plan, workspace, new_run(tmp_path / "run", plan), atlas, interrupt)
    result = run_in_process(plan, workspace, new_run(tmp_path / "run", plan), atlas)
    assert [record.accepted for record in result.history] == [tuple(sorted(SITES))] * 3

    model = SiteModel.build(plan, atlas)
    initial = model.shared_arrays()
    people = {
        name: load_hospital(workspace.site_config(name), plan, model, held_out=False).train
        for name in SITES
    }
    expected = train_rounds(model, initial, people, plan)
    for name, value in result.arrays.items():
        np.testing.assert_array_equal(value, expected[name])
    plain = train_rounds(model, initial, people, plan_of(SITES, rounds=3))
    assert any((plain[name] != expected[name]).any() for name in expected)
    personal = final_site_arrays(workspace, SITES, result.run_id)
    if method == "mr-mtl":
        # What is released is the mean of what the hospitals keep for themselves.
        for name, value in result.arrays.items():
            mean = np.mean([personal[site][name].astype(float) for site in SITES], axis=0)
            np.testing.assert_allclose(value, mean, atol=2e-7)
