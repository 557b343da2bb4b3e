"""The battery's short rounds against real agents and the real driver, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_federation import new_run, new_workspace, plan_of, write_archives

from client.training.site_model import SiteModel
from client.training.site_shift import SHIFT
from shared_model.atlas.select import load_atlas
from shared_model.plan import FederationPlan
from simulations.arms.hospital import load_hospital
from simulations.battery.aligned_rounds import aligned_rounds
from simulations.federation.run import final_site_arrays, run_in_process

SITES = ("east", "southwest")


def plan_with(adaptation: dict[str, Any]) -> FederationPlan:
    data = plan_of(SITES, rounds=3).model_dump(mode="json")
    data["adaptation"] |= {"personalise": "never", "moments_every": 1, "moments_radius": 50.0}
    data["adaptation"] |= adaptation
    return FederationPlan.parse(data)


@pytest.mark.parametrize(
    "adaptation",
    [
        {"site_moments": "shift"},
        {"site_moments": "affine"},
        pytest.param({"site_moments": "linear", "personalise": "private"}, marks=pytest.mark.slow),
        pytest.param({"site_moments": "confusion"}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_short_rounds_give_the_bits_of_the_federation(
    tmp_path: Path, adaptation: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Six patients that look alike give no shift to believe in; here it is taken as it is.
    for module in ("client.training.site_shift", "shared_model.adaptation.placement"):
        monkeypatch.setattr(f"{module}.shrunk", lambda offset, _: offset)
    plan = plan_with(adaptation)
    workspace = new_workspace(tmp_path / "sites", write_archives(tmp_path / "archives", SITES))
    for name in SITES:
        with (workspace.site_config(name).parent / "policy.toml").open("a") as file:
            file.write("min_cell = 1\n")
    atlas = load_atlas(plan.atlas, plan.input.grid)
    result = run_in_process(plan, workspace, new_run(tmp_path / "run", plan), atlas)
    assert [r.asked.round for r in result.releases] == [1, 2, 3]
    assert all(r.asked.accepted == SITES for r in result.releases)
    model = SiteModel.build(plan, atlas)
    initial = model.shared_arrays()
    sites = {n: load_hospital(workspace.site_config(n), plan, model).train for n in SITES}
    short = aligned_rounds(model, initial, sites, plan)
    for name, value in result.arrays.items():
        np.testing.assert_array_equal(short.shared[name], value)
    own = final_site_arrays(workspace, SITES, result.run_id)
    for site in SITES:
        for name, value in own[site].items():
            np.testing.assert_array_equal(short.own[site][name], value)
    moved = np.abs(own["east"][SHIFT]).max()
    assert moved > 0 or adaptation["site_moments"] == "confusion"
