"""The phases of a round, seen from outside, and a kill at each of them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from server.checkpoints.run_directory import RunDirectory
from simulations.deployed.supervised import SupervisedFederation
from simulations.deployed.victims import processes

PATIENCE_S = 900.0
#: Phase -> the round in which it is disturbed; one run goes through all of them.
PHASES = {
    "before the push": 0,
    "while training": 1,
    "while the reply is on its way": 2,
    "while saving": 3,
    "between rounds": 4,
    "at finalise": 5,
}
ROUNDS = 5


@dataclass(frozen=True)
class Watched:
    """One run, and the site at whose work the phases are read off."""

    federation: SupervisedFederation
    run: RunDirectory
    site: str = "north"

    def wait_for(self, phase: str) -> None:
        """Until the run is in this phase of the round that belongs to it."""
        number, notes = PHASES[phase], self.federation.sites[self.site].notes
        run_id = self.run.run_id
        until(
            {
                "before the push": lambda: self.told("run_started", 0),
                "while training": lambda: f"computing {run_id} train {number}" in notes(),
                "while the reply is on its way": lambda: (
                    f"answered {run_id} train {number}" in notes()
                ),
                "while saving": lambda: self.accepted(number) == len(self.federation.sites),
                "between rounds": lambda: self.told("round_saved", number),
                "at finalise": lambda: self.told("round_started", number, "finalise"),
            }[phase],
            phase,
        )

    def told(self, kind: str, number: int, phase: str = "train") -> bool:
        """Whether an event was logged."""
        wanted = (kind, number, phase)
        events = self.federation.events(self.run)
        return any((e["kind"], e["round"], e["phase"]) == wanted for e in events)

    def accepted(self, number: int) -> int:
        """How many sites' replies of a round counted."""
        found = {
            e["site"]
            for e in self.federation.events(self.run)
            if (e["kind"], e["round"], e["phase"]) == ("site_accepted", number, "train")
        }
        return len(found)


def kill(federation: SupervisedFederation, name: str, within_s: float = 10.0) -> bool:
    """``kill -9`` of a process by its name; false when it is not there at that time."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        process = processes(federation).get(name)
        if process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                os.kill(process.pid, signal.SIGKILL)
                return True
        time.sleep(0.05)
    return False


def until(condition: Callable[[], object], what: str, within_s: float = PATIENCE_S) -> None:
    """Wait for a condition, with a bound."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {within_s:g} s"
        time.sleep(0.05)
