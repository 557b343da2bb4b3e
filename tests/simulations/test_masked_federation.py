"""Secure sums with the hospitals' real agents: the same bits as the sum without masks."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from bids_fixture import LABELS
from small_federation import plan_of, write_archives

import client.training.shared_sum as engine
from client.agent.site_data import SiteData
from client.agent.state import StateFolder
from client.config import SiteConfig
from client.egress.receipts import Receipts
from client.privacy.ledger import Ledger
from client.training.site_model import SiteModel
from shared_model.atlas.select import load_atlas
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import decode_arrays
from simulations.federation.plain_sum import run_plain_sum
from simulations.federation.run import open_run, run_in_process
from simulations.federation.workspace import Workspace, create_workspace

SITES = ("east", "north", "west")


class RepeatedRandom:
    """The same words and draws at every call, so that masks are all that differs."""

    def __init__(self) -> None:
        self._generator = np.random.default_rng(7)

    def select(self, count: int, rate: float) -> np.ndarray:
        return np.flatnonzero(self._generator.random(count) < rate)

    def words(self, count: int) -> np.ndarray:
        return self._generator.integers(0, 1 << 64, count, dtype=np.uint64, endpoint=False)


def summed(mode: str, workspace: Workspace) -> FederationPlan:
    data = plan_of(SITES).model_dump(mode="json", exclude_none=True)
    data["privacy"] = {"mode": mode, "noise_multiplier": 1.0, "epsilon": 100.0}
    data["secure_aggregation"] = {"threshold": 2, "min_survivors": 2, "colluding": 0}
    data["training"] |= {"local_steps": 1}
    data["federation"] |= {"weighting": "declared_patients"}
    keys = workspace.site_keys(SITES)
    for site in data["federation"]["sites"]:
        site["signing_key"] = keys[site["name"]].public_bytes_raw().hex()
    return FederationPlan.parse(data)


def abandon_a_run(workspace: Workspace) -> Path:
    """Two days ago a hospital was asked about a run of which nothing was heard since."""
    config = SiteConfig.load(workspace.site_config(SITES[0]))
    run = StateFolder(config.state_dir).masks / "abandoned"
    secret = run / "0000001" / "secret"
    secret.parent.mkdir(parents=True)
    secret.write_bytes(bytes(32))
    for path in (secret, secret.parent, run):
        os.utime(path, (time.time() - 2 * 86400,) * 2)
    return run


@pytest.mark.parametrize("mode", ["distributed", pytest.param("central", marks=pytest.mark.slow)])
def test_masks_change_no_bit_and_only_masked_numbers_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    archives = write_archives(tmp_path / "archives", SITES)
    workspace = create_workspace(
        tmp_path / "sites", archives, LABELS, modes=("distributed", "central"), max_epsilon=1000
    )
    plan = summed(mode, workspace)
    monkeypatch.setattr(engine, "SecureRandom", RepeatedRandom)
    # Drawn for the flat sum there and array by array without masks: not the same words.
    monkeypatch.setattr("server.aggregation.summed._central_noise", lambda *_: None)
    atlas = load_atlas(plan.atlas, plan.input.grid)
    model = SiteModel.build(plan, atlas)
    initial = model.shared_arrays()
    run = open_run(tmp_path / "run", plan, initial, "study")
    abandoned = abandon_a_run(workspace)
    result = run_in_process(plan, workspace, run, atlas)
    examples = {}
    for name in SITES:
        config = SiteConfig.load(workspace.site_config(name))
        examples[name] = SiteData(config, plan, model).train
    plain = run_plain_sum(plan, model, examples, initial).released
    found = decode_arrays(result.body)
    assert all(np.array_equal(found[name], value) for name, value in plain.items())
    assert any(not np.array_equal(initial[name], value) for name, value in plain.items())
    numbers = sum(value.size for value in initial.values())
    for name in SITES:
        state = StateFolder(SiteConfig.load(workspace.site_config(name)).state_dir)
        left = [receipt.decision for receipt in Receipts(state.receipts).read()]
        assert [(one.kind, one.numbers) for one in left if one.kind == "train"] == [
            ("train", numbers + 64)
        ] * 2
        assert [one.kind for one in left] == [
            "keys", "shares", "train", "unmask", "train", "unmask", "finalise",
        ]  # fmt: skip
        charged = Ledger(state.ledger).entries()
        assert [(entry.purpose, entry.round) for entry in charged] == [("train", 1), ("train", 2)]
        assert not (state.masks / "study").exists()
    assert not abandoned.exists()
