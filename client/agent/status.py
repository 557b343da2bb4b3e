"""What an agent tells about itself: nothing in it depends on patients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Activity = Literal["idle", "preparing", "training", "evaluating", "calibrating", "finalising"]


@dataclass(frozen=True)
class AgentStatus:
    """``run_id``, ``round`` and ``kind`` are those of the last answer, empty before the first.

    ``started_at_s`` is in seconds since 1970.
    """

    site: str
    plan_name: str
    plan_digest: str
    key_fingerprint: str
    activity: str
    run_id: str
    round: int
    kind: str
    started_at_s: float
