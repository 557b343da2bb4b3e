"""The federation under Flower's Ray engine ends in the bits of the federation in one process."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest
import ray
from flwr.supercore import telemetry
from small_federation import new_run, new_workspace, plan_of, write_archives

from server.rounds.driver import RunResult
from server.rounds.events import Event
from shared_model.atlas.select import load_atlas
from simulations.federation.ray_engine import run_under_ray
from simulations.federation.run import run_in_process

pytestmark = pytest.mark.slow

SITES = ("east", "north", "southwest")


class InterruptionError(Exception):
    pass


def test_ray_and_in_process_runs_end_in_the_same_bits_and_leave_no_process(tmp_path: Path) -> None:
    plan = plan_of(SITES, min_sites=3)
    archives = write_archives(tmp_path / "archives", SITES)
    reference = run_in_process(
        plan,
        new_workspace(tmp_path / "sites", archives),
        new_run(tmp_path / "run", plan),
        load_atlas(plan.atlas, plan.input.grid),
    )
    workspace = new_workspace(tmp_path / "ray-sites", archives)
    sent_anything: list[str] = []
    environment = dict(os.environ)

    def under_ray(interrupt_after: int | None = None) -> RunResult:
        def observe(event: Event) -> None:
            sent_anything.append(telemetry.FLWR_TELEMETRY_ENABLED)
            if event.kind == "round_saved" and event.round == interrupt_after:
                raise InterruptionError

        return run_under_ray(
            plan,
            tuple(workspace.site_config(site) for site in SITES),
            new_run(tmp_path / "ray-run", plan),
            workspace.coordinator_key,
            workspace.site_keys(SITES),
            observe,
        )

    with pytest.raises(InterruptionError):
        under_ray(interrupt_after=1)
    result = under_ray()
    assert result.body == reference.body
    assert result.finalised.accepted == SITES
    assert set(sent_anything) == {"0"}
    assert dict(os.environ) == environment
    assert not ray.is_initialized()
    left = [child.name() for child in psutil.Process().children(recursive=True)]
    assert not [name for name in left if "ray" in name or name in ("gcs_server", "plasma")]
