"""Every registered model: a private federated round through real agents and the real driver."""

from __future__ import annotations

from pathlib import Path

import pytest
from bids_fixture import LABELS
from registered_models import tiny_plan
from whole_archive import SERVED, write_whole_archive

from client.agent.state import StateFolder
from client.config import SiteConfig
from client.privacy.ledger import Ledger
from client.training.site_model import SiteModel
from shared_model.atlas.select import load_atlas
from shared_model.inputs import INPUT_FIELDS, input_fields
from shared_model.privacy.plan_cost import plan_epsilon
from shared_model.protocol.arrays import decode_arrays
from shared_model.registry import model_entry, model_names
from simulations.federation.run import open_run, run_in_process
from simulations.federation.workspace import create_workspace

SITES = ("east", "west")


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("archives")
    return {s: write_whole_archive(folder / s, 4, seed=n) for n, s in enumerate(SITES)}


def test_the_archive_serves_every_field() -> None:
    assert set(INPUT_FIELDS) <= SERVED


@pytest.mark.parametrize("name", model_names())
def test_one_private_round(name: str, archives: dict[str, Path], tmp_path: Path) -> None:
    missing = set(input_fields(model_entry(name).batch)) - SERVED
    if missing:
        pytest.skip(f"tests/client/whole_archive.py does not have {sorted(missing)} yet")
    plan = tiny_plan(
        name,
        federation={"sites": [{"name": s, "declared_patients": 4} for s in SITES]},
        training={"rounds": 1, "learning_rate": 0.1},
        adaptation={"personalise_steps": 1},
    )
    workspace = create_workspace(
        tmp_path / "sites", archives, LABELS, max_epsilon=1000.0, max_shared_parameters=10**8
    )
    atlas = load_atlas(plan.atlas, plan.input.grid)
    model = SiteModel.build(plan, atlas)
    before = model.shared_arrays()
    result = run_in_process(plan, workspace, open_run(tmp_path / "run", plan, before, "s"), atlas)
    (record,) = result.history
    assert record.accepted == SITES, record.set_aside
    assert result.finalised is not None
    assert result.finalised.accepted == SITES, result.finalised.set_aside
    after = decode_arrays(result.body)
    assert {n: a.shape for n, a in after.items()} == {n: a.shape for n, a in before.items()}
    # The noise moves every parameter, and nearly every number: a few round to what they were.
    assert all((after[n] != before[n]).any() for n in before)
    moved = sum(int((after[n] != before[n]).sum()) for n in before)
    assert moved >= 0.99 * sum(a.size for a in before.values())
    for site in SITES:
        state = StateFolder(SiteConfig.load(workspace.site_config(site)).state_dir)
        spent = Ledger(state.ledger).spent(plan.privacy.delta)
        assert spent == pytest.approx(plan_epsilon(plan), rel=1e-6)
