"""A registered site that means harm: what it can do to the others, and what becomes of it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from hostile_site import HostileSite, received_by
from loopback import SITES, Coordinator

from client.courier.envelope import pack
from server.checkpoints.run_directory import RunDirectory
from server.rounds.events import Event
from shared_model.protocol.arrays import body_digest, encode_arrays
from shared_model.protocol.keys import load_signing_key
from shared_model.protocol.messages import RoundInstruction, RoundReply
from shared_model.protocol.sealed import Sealed, seal
from simulations.deployed.federation import DeployedFederation

pytestmark = [pytest.mark.deploy, pytest.mark.slow]


def test_a_forged_reply_is_refused_and_the_true_one_still_counts(
    coordinator: Coordinator, federation: DeployedFederation
) -> None:
    """Flower itself takes the forged one in place of the true one; the round asks again."""
    north, south = SITES
    events: list[Event] = []
    hostile = hostile_site(federation, north)
    victim = node_id(federation, south)
    # The victim holds its instruction and has not answered yet.
    federation.processes.stop([f"{south}-exec"])
    log = federation.processes[f"{south}-node"].log
    with Driving(federation, coordinator.new_run("forged").path, events) as driving:
        message = received_by(log)
        content = pack(forged(coordinator, north, south, "forged"))
        hostile.forge_reply(flower_run(federation, south), victim, message, content)
        driving.until(lambda: any(e.kind == "site_retried" and e.site == south for e in events))
        federation.start_site_exec(south)
    # Flower dropped the true reply to the first message, and told its sender nothing of it.
    state = driving.finished.latest()
    # As if nothing had happened: the same bits, everybody accepted in every round.
    assert body_digest(state.body) == coordinator.in_process.sha256
    assert all(record.accepted == SITES for record in state.history)
    assert state.history[0].sites[south].pushes >= 2
    reasons = [str(e.reason) for e in events if e.kind == "site_retried"]
    assert any("not signed by its key" in reason for reason in reasons), reasons


def test_a_site_cannot_take_or_read_what_is_for_another(federation: DeployedFederation) -> None:
    hostile = hostile_site(federation, SITES[0])
    with pytest.raises(httpx.HTTPStatusError) as refused:
        hostile.pull_as(node_id(federation, SITES[1]))
    assert refused.value.response.status_code == 401


def test_an_instruction_that_a_site_injects_is_refused_by_the_others_agent(
    coordinator: Coordinator, federation: DeployedFederation
) -> None:
    """Flower delivers it; only the coordinator's signature would make an agent work."""
    north, south = SITES
    hostile = hostile_site(federation, north)
    log = federation.processes[f"{south}-node"].log
    # The first answer of this run takes eight seconds.
    with Driving(federation, coordinator.new_run("slow").path, []) as driving:
        driving.until(lambda: "slow train 1" in coordinator.started(south).read_text())
        run_id = flower_run(federation, south)
        received = log.read_text().count("Receiving:")
        content = pack(injected(coordinator, north, south))
        hostile.forge_instruction(run_id, node_id(federation, south), content)
    assert log.read_text().count("Receiving:") > received
    assert "injected" not in coordinator.started(south).read_text()
    assert body_digest(driving.finished.latest().body) == coordinator.in_process.sha256


class Driving:
    """A run that goes on in a thread; leaving the block waits for its end."""

    def __init__(self, federation: DeployedFederation, run_dir: Path, events: list[Event]) -> None:
        self._results: list[RunDirectory] = []
        self._thread = threading.Thread(
            target=lambda: self._results.append(federation.run(run_dir, 400, events.append))
        )

    def __enter__(self) -> Driving:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(420)

    @property
    def finished(self) -> RunDirectory:
        (result,) = self._results
        return result

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 150
        while not condition():
            assert self._thread.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.1)


def hostile_site(federation: DeployedFederation, name: str) -> HostileSite:
    key = federation.connection(name).node_key
    return HostileSite(federation.address, federation.authority, key, node_id(federation, name))


def node_id(federation: DeployedFederation, name: str) -> int:
    log = federation.processes[f"{name}-node"].log.read_text()
    return int(re.findall(r"SuperNode ID: (\d+)", log)[-1])


def flower_run(federation: DeployedFederation, name: str) -> int:
    log = federation.processes[f"{name}-node"].log.read_text()
    return int(re.findall(r"\[RUN (\d+)\]", log)[-1])


def forged(coordinator: Coordinator, by: str, site: str, run_id: str) -> Sealed:
    """An update of ``site`` that ``by`` made up and signed with the only key that it has."""
    body = encode_arrays({"head.bias": np.full(3, 1e3, np.float32)})
    reply = RoundReply(
        run_id=run_id,
        round=1,
        kind="train",
        site=site,
        plan_digest=coordinator.plan.digest,
        body_sha256=body_digest(body),
        instruction_sha256="0" * 64,
    )
    return seal(reply.canonical_json, body, load_signing_key(coordinator.folder / f"{by}.pem"))


def injected(coordinator: Coordinator, by: str, site: str) -> Sealed:
    """An instruction for ``site`` that is not the coordinator's."""
    body = encode_arrays({})
    instruction = RoundInstruction(
        run_id="injected",
        round=1,
        kind="train",
        site=site,
        plan_digest=coordinator.plan.digest,
        body_sha256=body_digest(body),
    )
    key = load_signing_key(coordinator.folder / f"{by}.pem")
    return seal(instruction.canonical_json, body, key)
