"""The federation in one process: real hospitals, real agents, the deployment's driver."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_federation import new_run, new_workspace, plan_of, write_archives

from server.checkpoints.run_directory import RunDirectory
from server.rounds.driver import RunResult
from server.rounds.events import Event
from shared_model.atlas.select import load_atlas
from shared_model.plan import FederationPlan
from simulations.federation.run import final_site_arrays, run_in_process
from simulations.federation.workspace import Workspace

SITES = ("east", "southwest")


class InterruptionError(Exception):
    pass


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_archives(tmp_path_factory.mktemp("archives"), SITES)


@pytest.fixture(scope="module")
def reference(archives: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """An uninterrupted run of both sites."""
    folder = tmp_path_factory.mktemp("reference")
    plan = plan_of(SITES)
    return run(plan, new_workspace(folder / "sites", archives), new_run(folder / "run", plan))


def run(plan: FederationPlan, workspace: Workspace, run_dir: RunDirectory) -> RunResult:
    return run_in_process(plan, workspace, run_dir, load_atlas(plan.atlas, plan.input.grid))


def test_the_rounds_change_the_parameters_and_all_sites_learn_the_last_ones(
    reference: RunResult, tmp_path: Path
) -> None:
    assert [record.round for record in reference.history] == [1, 2]
    assert all(record.accepted == SITES for record in reference.history)
    assert reference.finalised.accepted == SITES
    assert reference.body != new_run(tmp_path / "untouched", plan_of(SITES)).latest().body


def test_a_second_run_gives_the_same_bits(
    reference: RunResult, archives: dict[str, Path], tmp_path: Path
) -> None:
    plan = plan_of(SITES)
    workspace = new_workspace(tmp_path / "sites", archives)
    again = run(plan, workspace, new_run(tmp_path / "run", plan))
    assert again.body == reference.body
    personal = final_site_arrays(workspace, SITES, again.run_id)
    assert set(personal) == set(SITES)


def test_the_order_of_the_sites_does_not_change_a_bit(
    reference: RunResult, archives: dict[str, Path], tmp_path: Path
) -> None:
    plan = plan_of(SITES[::-1])
    asked: list[str | None] = []
    workspace = new_workspace(tmp_path / "sites", dict(reversed(archives.items())))
    turned = run_in_process(
        plan,
        workspace,
        new_run(tmp_path / "run", plan),
        load_atlas(plan.atlas, plan.input.grid),
        lambda event: asked.append(event.site) if event.kind == "site_accepted" else None,
    )
    assert asked[:2] == list(SITES[::-1])
    assert turned.body == reference.body


def test_a_site_whose_agent_fails_is_set_aside_with_its_reason(
    reference: RunResult, archives: dict[str, Path], tmp_path: Path
) -> None:
    plan = plan_of(SITES)
    empty = tmp_path / "empty"
    empty.mkdir()
    workspace = new_workspace(tmp_path / "sites", {**archives, "east": empty})
    result = run(plan, workspace, new_run(tmp_path / "run", plan))
    for record in result.history:
        assert record.accepted == ("southwest",)
        assert "SMR-E2" in record.set_aside["east"]
        assert record.weight == plan.weights["southwest"]
    assert result.body != reference.body


@pytest.mark.parametrize(
    ("kind", "number"), [("round_saved", 1), ("site_accepted", 2), ("run_finished", 2)]
)
def test_an_interrupted_run_goes_on_to_the_bits_of_an_uninterrupted_one(
    kind: str, number: int, reference: RunResult, archives: dict[str, Path], tmp_path: Path
) -> None:
    plan = plan_of(SITES)
    workspace = new_workspace(tmp_path / "sites", archives)
    atlas = load_atlas(plan.atlas, plan.input.grid)

    def interrupt(event: Event) -> None:
        if (event.kind, event.round) == (kind, number):
            raise InterruptionError

    with pytest.raises(InterruptionError):
        run_in_process(plan, workspace, new_run(tmp_path / "run", plan), atlas, interrupt)
    resumed = run(plan, workspace, new_run(tmp_path / "run", plan))
    assert resumed.body == reference.body
    # Not the replies' digests: these hospitals have keys of their own.
    assert [r.accepted for r in resumed.history] == [r.accepted for r in reference.history]
