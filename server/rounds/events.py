"""What the driver tells an observer while it runs: enough for a progress bar or a log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from shared_model.protocol.messages import Kind

EventKind = Literal[
    "round_started",
    "site_added",
    "site_retried",
    "site_returned",
    "site_accepted",
    "site_set_aside",
    "quorum_missed",
    "round_void",
    "clock_jumped",
    "round_saved",
    "release_saved",
    "run_finished",
    # Of the watchdog, not of the driver.
    "run_started",
    "run_failed",
    "run_given_up",
    "run_left",
]


@dataclass(frozen=True)
class Event:
    """One thing that happened in ``round`` of ``rounds``; ``site``, ``reason`` where they apply."""

    kind: EventKind
    round: int
    rounds: int
    phase: Kind
    site: str | None = None
    reason: str | None = None


Observer = Callable[[Event], None]
