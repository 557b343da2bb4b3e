"""A federation with secure sums without torch: stand-in agents in this process, toy integers."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from driver_runs import FakeTime

from client.agent.state import StateFolder
from server.checkpoints.run_directory import RunDirectory
from server.rounds.driver import RoundDriver, RunResult
from server.rounds.events import Event, Observer
from server.rounds.settings import DriverSettings
from server.rounds.transport import Failure
from shared_model.errors import SmrfedError
from shared_model.protocol.arrays import Arrays
from shared_model.protocol.keys import create_signing_key
from shared_model.protocol.messages import RoundInstruction, decode_header
from shared_model.protocol.sealed import Sealed
from simulations.deployed.stand_in import StandIn
from simulations.deployed.summed_toys import summed_parameters, summed_toy_plan

INITIAL: Arrays = {
    "head.bias": np.zeros(3, np.float32),
    "head.weight": np.linspace(-1, 1, 21, dtype=np.float32).reshape(3, 7),
}
SITE = """
name = "{name}"
archive = "archive"
state_dir = "state"
coordinator_key = "../coordinator.key.pub"
policy = "policy.toml"
socket = "agent.sock"
[labels]
CN = ["CN"]
"""
POLICY = 'max_epsilon = 1000.0\nmax_delta = 1e-5\nmodes = ["local", "distributed", "central"]\n'
# Site, kind and round of a question -> what to do in place of answering it.
Fault = Callable[[str, RoundInstruction, Sealed], Sealed | Failure | None]


@dataclass
class MaskedToys:
    """Hospitals below ``folder``; agents are made anew whenever one is ``killed``."""

    folder: Path
    names: tuple[str, ...] = ("a", "b", "c", "d")
    mode: str = "distributed"
    sections: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.coordinator = create_signing_key(self.folder / "coordinator.key")
        keys = {}
        for name in self.names:
            state = StateFolder(self.folder / name / "state")
            state.path.mkdir(parents=True, mode=0o700)
            keys[name] = create_signing_key(state.key).public_key()
        self.keys: dict[str, Ed25519PublicKey] = keys
        hexed = {name: key.public_bytes_raw().hex() for name, key in keys.items()}
        self.plan = summed_toy_plan(hexed, self.mode, **self.sections)
        for name in self.names:
            site = self.folder / name
            (site / "site.toml").write_text(SITE.format(name=name))
            (site / "policy.toml").write_text(POLICY)
            plan = self.plan.model_dump(mode="json", exclude_none=True)
            (site / "plan.json").write_text(json.dumps(plan))
        self.agents: dict[str, StandIn] = {}
        self.run = RunDirectory.create(self.folder / "run", self.plan, INITIAL, "toy-sums")
        self.asked: list[tuple[str, str, int]] = []
        self.sent: dict[tuple[str, str, int], set[bytes]] = {}
        self.events: list[Event] = []

    def agent(self, name: str) -> StandIn:
        if name not in self.agents:
            self.agents[name] = StandIn(self.folder / name / "site.toml")
        return self.agents[name]

    def kill(self, name: str) -> None:
        """What the process held in memory is gone; the lock goes with it."""
        agent = self.agents.pop(name, None)
        if agent is not None:
            agent.lock.release()

    def drive(
        self,
        fault: Fault | None = None,
        observer: Observer | None = None,
        settings: DriverSettings | None = None,
        **words: Any,
    ) -> RunResult:
        fake = FakeTime()
        usual = DriverSettings.in_process().model_copy(update={"poll_interval_s": 1.0})

        def observe(event: Event) -> None:
            self.events.append(event)
            if observer is not None:
                observer(event)

        return RoundDriver(
            self.plan, self.run, _Transport(self, fault), self.coordinator, self.keys, observe,
            settings=settings or usual, clock=fake.clock, sleep=fake.sleep, **words,
        ).run()  # fmt: skip

    def expected(self, survivors: Mapping[int, Collection[str]] | None = None) -> bytes:
        """The final parameters when only these sites are in the sums of some rounds."""
        initial = (self.run.path / "initial.safetensors").read_bytes()
        return summed_parameters(self.plan, initial, survivors or {})


class _Transport:
    """A site works when it is polled; every question's bytes are remembered."""

    def __init__(self, toys: MaskedToys, fault: Fault | None) -> None:
        self._toys, self._fault = toys, fault
        self._waiting: dict[str, tuple[str, Sealed]] = {}
        self._count = 0

    def push(self, site: str, message: Sealed, time_to_live_s: float) -> str:
        self._count += 1
        handle = f"{site}/{self._count}"
        header = decode_header(RoundInstruction, message)
        place = (site, header.kind, header.round)
        self._toys.asked.append(place)
        self._toys.sent.setdefault(place, set()).add(message.digest)
        self._waiting[handle] = site, message
        return handle

    def poll(self, handle: str) -> Sealed | Failure | None:
        site, message = self._waiting[handle]
        header = decode_header(RoundInstruction, message)
        if self._fault is not None:
            answer = self._fault(site, header, message)
            if not isinstance(answer, Failure) or answer.reason != HONEST.reason:
                return answer
        try:
            return self._toys.agent(site).handle(message)
        except SmrfedError as error:
            return Failure(f"{error.code}: {error.what}", error.code)


#: From a fault: let the site answer.
HONEST = Failure("answer honestly")


def silent(*questions: tuple[str, str, int]) -> Fault:
    """These questions (site, kind, round) are never answered."""

    def fault(site: str, header: RoundInstruction, message: Sealed) -> Sealed | Failure | None:
        return None if (site, header.kind, header.round) in questions else HONEST

    return fault


def dead(site_: str, kind: str, number: int) -> Fault:
    """A site that answers nothing from a question on."""
    begun: list[bool] = []

    def fault(site: str, header: RoundInstruction, message: Sealed) -> Sealed | Failure | None:
        if site == site_ and (header.kind, header.round) == (kind, number):
            begun.append(True)
        return None if site == site_ and begun else HONEST

    return fault
