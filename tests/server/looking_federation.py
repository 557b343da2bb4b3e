"""A toy federation whose sites also answer ``evaluate`` and ``calibrate``, by public arithmetic."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
from driver_runs import drive_on
from noised_patients import draw, released
from toy_federation import (
    Fault,
    ToySite,
    ToyTransport,
    initial_arrays,
    make_plan,
    read,
)

from server.checkpoints.run_directory import RunDirectory
from shared_model.plan import FederationPlan
from shared_model.protocol.sealed import Sealed

NAMES = ("a", "b", "c")
SITES = [{"name": name, "declared_patients": 100} for name in NAMES]
BIAS = "reasoner.head.bias"
LEAN = (1.5, 0.0, 0.0)


def looking_plan(rounds: int = 5, every: int = 2, patience: int = 0, **sections) -> FederationPlan:
    """Mode local; what is released carries noise, from a generator that every restart repeats."""
    return make_plan(
        *NAMES,
        training={"rounds": rounds},
        **{
            "federation": {"sites": SITES},
            # Toy updates are not clipped: the bound that follows must not concern them.
            "privacy": {"mode": "local", "noise_multiplier": 3.0, "clipping_norm": 100.0},
            "evaluation": {
                "release_every": every,
                "release_noise_multiplier": 1.3 if every else 0.0,
                "early_stop_patience": patience,
            },
            "calibration": {"rule": "prior_free", "noise_multiplier": 4.0},
            **sections,
        },
    )


def start(path: Path, plan: FederationPlan) -> RunDirectory:
    if path.exists():
        return RunDirectory.open(path)
    arrays = initial_arrays() | {BIAS: np.zeros(3, np.float32)}
    return RunDirectory.create(path, plan, arrays, "looking-run")


class LookingSite(ToySite):
    """Its model ranks the better the more rounds it saw, up to ``plateau``."""

    def __init__(self, name: str, plan: FederationPlan, plateau: int = 1000) -> None:
        super().__init__(name)
        self.plan = plan
        self.plateau = plateau
        self.asked: list[tuple[str, int]] = []

    def handle(self, message: Sealed) -> Sealed:
        instruction = read(message)
        if (instruction.kind, instruction.round) not in self.asked:
            self.asked.append((instruction.kind, instruction.round))
        if instruction.kind in ("train", "finalise"):
            return super().handle(message)
        rng = np.random.default_rng([instruction.round, *self.name.encode()])
        separation = 1.0 + 0.4 * min(instruction.round, self.plateau)
        patients = draw(rng, 90, LEAN, separation)
        return self.sign(message, released(rng, instruction.kind, patients, self.plan))


class LookingTransport(ToyTransport):
    def __init__(
        self, plan: FederationPlan, faults: dict[str, Fault] | None = None, plateau: int = 1000
    ) -> None:
        super().__init__(*NAMES, faults=faults)
        self.sites = {name: LookingSite(name, plan, plateau) for name in NAMES}


def run_until_killed(path: Path, transport: Callable[[], ToyTransport], countdown: int) -> None:
    """In a child process: go on with a run, and SIGKILL before its fsync number ``countdown``."""
    really, left = os.fsync, countdown

    def fsync(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        really(descriptor)

    os.fsync = fsync
    try:
        drive_on(RunDirectory.open(path), transport())
        os._exit(0)
    except BaseException:
        os._exit(1)


def killed_at_every_write(path: Path, transport: Callable[[], ToyTransport]) -> int:
    """Run to the end, one killed process after another, each a write further; how many were."""
    for countdown in range(1, 400):
        child = os.fork()
        if not child:
            run_until_killed(path, transport, countdown)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            return countdown - 1
        assert os.WTERMSIG(status) == signal.SIGKILL
    raise AssertionError("the run never ended")
