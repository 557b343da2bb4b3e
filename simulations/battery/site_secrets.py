"""Item 5: what a site keeps for itself never occurs in a message that leaves it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from client.agent.agent import SiteAgent
from client.config import SiteConfig
from server.rounds.driver import RoundDriver
from server.rounds.settings import DriverSettings
from shared_model.atlas.select import load_atlas
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import Arrays
from shared_model.protocol.sealed import Sealed
from simulations.battery.result import BatteryResult
from simulations.battery.seed import BatterySeed, with_adaptation
from simulations.battery.site_alignment import ARMS
from simulations.federation.in_process import InProcessTransport
from simulations.federation.run import final_site_arrays, open_run
from simulations.federation.workspace import Workspace

_ROUNDS = 3


def secrets_in(replies: Iterable[bytes], own: Mapping[str, Arrays]) -> tuple[int, int]:
    """Windows of site parameters looked for, and those found in any reply.

    A window is two neighbouring float32 numbers that are not zero: eight bytes that do not occur by
    chance.
    """
    everything = b"\0".join(replies)
    looked = found = 0
    for arrays in own.values():
        for value in arrays.values():
            flat = np.ascontiguousarray(value, np.float32).reshape(-1)
            for pair in itertools.pairwise(flat):
                if all(pair):
                    looked += 1
                    found += np.array(pair, np.float32).tobytes() in everything
    return looked, found


def wire_result(data: BatterySeed, root: Path, folder: Path) -> BatteryResult:
    """Run real agents for each way in which site parameters move, and search all that left.

    ``root`` holds the hospitals (:func:`simulations.battery.seed.load_seed`), ``folder`` the runs.
    """
    workspace = Workspace(root / "parties-sites", tuple(data.hospitals))
    looked = found = named = 0
    ways = {
        "shift": ARMS["shift"] | {"moments_every": 1},
        "affine": ARMS["affine"] | {"moments_every": 1},
        "private": ARMS["linear + private residual"] | {"moments_every": 1},
        "after": {"personalise": "after"},
    }
    for way, adaptation in ways.items():
        plan = with_adaptation(data.plan, **adaptation)
        training = plan.training.model_copy(update={"rounds": _ROUNDS})
        plan = plan.model_copy(update={"training": training})
        run_id = f"wire-{way}"
        replies = _replies(plan, workspace, folder / run_id, run_id, data.initial)
        own = final_site_arrays(workspace, tuple(plan.weights), run_id)
        more, hits = secrets_in(replies, own)
        looked, found = looked + more, found + hits
        named += sum(b"site_shift" in reply or b"site_scale" in reply for reply in replies)
    return BatteryResult(
        name="site parameters on the wire",
        bar="none of their bytes or names in a reply",
        figures={"pairs of numbers searched": looked, "found": found, "replies that name": named},
        passed=looked > 0 and found == 0 and named == 0,
        note="residuals shifted by released moments, trained with noise's code path, fitted after",
    )


def _replies(
    plan: FederationPlan, workspace: Workspace, path: Path, run_id: str, initial: Arrays
) -> list[bytes]:
    atlas = load_atlas(plan.atlas, plan.input.grid)
    names = [site.name for site in plan.federation.sites]
    agents = {
        name: SiteAgent(SiteConfig.load(workspace.site_config(name)), plan, atlas=atlas)
        for name in names
    }
    sent: list[bytes] = []

    def spied(agent: SiteAgent, message: Sealed) -> Sealed:
        reply = agent.handle(message)
        sent.append(reply.header + reply.body)
        return reply

    try:
        handlers = {n: (lambda m, agent=agent: spied(agent, m)) for n, agent in agents.items()}
        RoundDriver(
            plan,
            open_run(path, plan, initial, run_id),
            InProcessTransport(handlers),
            workspace.coordinator_key,
            workspace.site_keys(names),
            settings=DriverSettings.in_process(),
        ).run()
    finally:
        for agent in agents.values():
            agent.close()
    return sent
