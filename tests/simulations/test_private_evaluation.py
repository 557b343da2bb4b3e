"""Evaluation, calibration and early stopping in a whole federation of real hospitals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bids_fixture import LABELS, people, write_bids
from small_federation import new_run, plan_of, write_archives

from client.agent.final_model import GLOBAL
from client.agent.state import StateFolder
from client.config import SiteConfig
from client.privacy.ledger import Ledger
from server.evaluation.summary import summarise
from server.rounds.driver import RunResult
from server.rounds.events import Event
from server.rounds.releases import released_body
from shared_model.atlas.select import load_atlas
from shared_model.plan import FederationPlan
from shared_model.privacy.plan_cost import plan_epsilon
from shared_model.protocol.arrays import decode_arrays
from simulations.federation.run import run_in_process
from simulations.federation.workspace import Workspace, create_workspace

SITES = ("east", "southwest")


class InterruptionError(Exception):
    pass


def evaluated_plan(mode: str = "local", **evaluation: Any) -> FederationPlan:
    data = plan_of(SITES, rounds=3).model_dump(mode="json")
    private = mode == "local"
    if private:
        data["privacy"] = {"mode": "local", "noise_multiplier": 6.0, "epsilon": 8.0}
    data["evaluation"] |= {"release_every": 2, "test_fraction": 0.5} | evaluation
    data["calibration"] = {"rule": "prior_free"}
    if private:
        data["evaluation"]["release_noise_multiplier"] = 1.5
        data["calibration"]["noise_multiplier"] = 4.0
    return FederationPlan.parse(data)


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_archives(tmp_path_factory.mktemp("archives"), SITES)


def hospitals(root: Path, archives: dict[str, Path]) -> Workspace:
    workspace = create_workspace(root, archives, LABELS, modes=("none", "local"))
    for name in SITES:
        with (workspace.site_config(name).parent / "policy.toml").open("a") as file:
            file.write("min_cell = 1\n")
    return workspace


def run(plan: FederationPlan, workspace: Workspace, path: Path, observer: Any = None) -> RunResult:
    atlas = load_atlas(plan.atlas, plan.input.grid)
    return run_in_process(plan, workspace, new_run(path, plan), atlas, observer)


def releases(result: RunResult) -> list[object]:
    return [
        (r.asked.kind, r.asked.round, r.body_sha256, r.arrays, r.offsets) for r in result.releases
    ]


def test_a_private_run_releases_what_its_plan_says_and_costs_what_it_says(
    archives: dict[str, Path], tmp_path: Path
) -> None:
    plan = evaluated_plan()
    workspace = hospitals(tmp_path / "sites", archives)
    result = run(plan, workspace, tmp_path / "run")
    asked = [(r.asked.kind, r.asked.round, r.asked.accepted) for r in result.releases]
    assert asked == [("evaluate", 2, SITES), ("calibrate", 3, SITES), ("evaluate", 3, SITES)]
    for name in SITES:
        state = StateFolder(SiteConfig.load(workspace.site_config(name)).state_dir)
        ledger = Ledger(state.ledger)
        assert [(e.purpose, e.round) for e in ledger.entries()] == [
            ("train", 1), ("train", 2), ("evaluate", 2), ("train", 3), ("calibrate", 3),
            ("evaluate", 3),
        ]  # fmt: skip
        assert ledger.spent(plan.privacy.delta) <= plan_epsilon(plan) * 1.001
        assert ledger.spent(plan.privacy.delta) <= plan.privacy.epsilon
        # The hospital uses the very model that was calibrated: most probable class, no more rules.
        assert (state.model(result.run_id) / GLOBAL).read_bytes() == result.body
    # A handful of patients under this noise: honest figures say so.
    together = summarise(result.releases[-1], plan).together
    assert together is not None
    assert together.macro_auc.high - together.macro_auc.low > 0.5


@pytest.fixture(scope="module")
def reference(
    archives: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunResult, Workspace]:
    """The same without noise, so that it can be repeated to the bit."""
    folder = tmp_path_factory.mktemp("reference")
    workspace = hospitals(folder / "sites", archives)
    return run(evaluated_plan("none"), workspace, folder / "run"), workspace


def test_without_noise_the_offsets_are_those_of_the_training_patients(
    reference: tuple[RunResult, Workspace],
) -> None:
    result, _ = reference
    (offsets,) = [r.offsets for r in result.releases if r.offsets is not None]
    assert offsets is not None
    assert sum(offsets) == pytest.approx(0, abs=1e-9)
    matrix = np.zeros((3, 3))
    for record in result.releases:
        if record.asked.kind == "calibrate":
            matrix = sum(np.array(a["probabilities"]).reshape(3, 3) for a in record.arrays.values())
    mean = (matrix / matrix.sum(1, keepdims=True)).mean(0)
    expected = -np.log(mean) + np.log(mean).mean()
    np.testing.assert_allclose(offsets, expected, atol=1e-5)
    summary = summarise(result.releases[-1], evaluated_plan("none"))
    assert summary.together is not None
    assert summary.together.patients.value == pytest.approx(
        sum(f.patients.value for f in summary.sites.values()), abs=1e-3
    )


@pytest.mark.parametrize(
    ("kind", "phase"),
    [
        ("release_saved", "evaluate"),
        ("site_accepted", "calibrate"),
        ("site_accepted", "finalise"),
    ],
)
def test_an_interrupted_run_goes_on_to_the_bits_of_an_uninterrupted_one(
    kind: str,
    phase: str,
    reference: tuple[RunResult, Workspace],
    archives: dict[str, Path],
    tmp_path: Path,
) -> None:
    plan = evaluated_plan("none")
    workspace = hospitals(tmp_path / "sites", archives)

    def interrupt(event: Event) -> None:
        if (event.kind, event.phase) == (kind, phase):
            raise InterruptionError

    with pytest.raises(InterruptionError):
        run(plan, workspace, tmp_path / "run", interrupt)
    resumed = run(plan, workspace, tmp_path / "run")
    assert resumed.body == reference[0].body == released_body(new_run(tmp_path / "run", plan))
    assert releases(resumed) == releases(reference[0])


@pytest.mark.parametrize("release", ["last", "best"])
def test_early_stopping_ends_the_rounds_of_real_hospitals(tmp_path: Path, release: str) -> None:
    # Enough people for every class to be among the test patients. With steps that a softmax cannot
    # tell from none no figure ever improves.
    data = evaluated_plan("none", release_every=1, early_stop_patience=1).model_dump(mode="json")
    data["seed"] = 1
    data["evaluation"]["early_stop_release"] = release
    data["training"] |= {"rounds": 6, "server_learning_rate": 1e-25}
    plan = FederationPlan.parse(data)
    archives = {
        site: write_bids(tmp_path / site, *people(12), seed=number)
        for number, site in enumerate(SITES)
    }
    result = run(plan, hospitals(tmp_path / "sites", archives), tmp_path / "run")
    assert len(result.history) == 2
    assert [(r.asked.kind, r.asked.round, r.after_round) for r in result.releases][:2] == [
        ("evaluate", 1, 1), ("evaluate", 2, 2),
    ]  # fmt: skip
    # Equal figures: the first of them is the best.
    released = result.releases[0 if release == "best" else 1]
    after_calibration = [r for r in result.releases if r.asked.kind == "calibrate"]
    assert [r.body_sha256 for r in after_calibration] == [released.body_sha256]
    assert result.releases[-1].after_round == released.after_round
    assert result.finalised.accepted == SITES
    assert set(decode_arrays(result.body)) == set(
        decode_arrays(new_run(tmp_path / "run", plan).latest().body)
    )
