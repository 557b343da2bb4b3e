"""Runs the toy federation in a process of its own, which kills itself (SIGKILL) at a given point.

Usage: toy_driver_process.py RUN_DIR POINT, POINT = never | poll:N | saved:N | fsync:N | finalise.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from toy_federation import COORDINATOR_KEY, Answer, ToyTransport, site_keys

from server.checkpoints.run_directory import RunDirectory
from server.rounds.driver import RoundDriver
from server.rounds.events import Event
from server.rounds.settings import DriverSettings


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    directory = RunDirectory.open(Path(sys.argv[1]))
    what, _, number = sys.argv[2].partition(":")
    countdown = int(number or 0)

    class Killing(ToyTransport):
        def poll(self, handle: str) -> Answer:
            nonlocal countdown
            if what == "poll":
                countdown -= 1
                if countdown < 0:
                    die()
            return super().poll(handle)

    def observe(event: Event) -> None:
        if what == "saved" and event.kind == "round_saved" and event.round == countdown:
            die()
        if what == "finalise" and event.phase == "finalise" and event.kind == "site_accepted":
            die()

    if what == "fsync":
        really = os.fsync

        def fsync(descriptor: int) -> None:
            nonlocal countdown
            countdown -= 1
            if countdown < 0:
                die()
            really(descriptor)

        os.fsync = fsync

    transport = Killing(*directory.plan.weights)
    RoundDriver(
        directory.plan,
        directory,
        transport,
        COORDINATOR_KEY,
        site_keys(directory.plan),
        observe,
        settings=DriverSettings.in_process(),
    ).run()


main()
