"""What an agent tells about itself: nothing in it depends on patients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # the courier's stub reads this module, and needs no pydantic
    from shared_model.plan import FederationPlan

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


def status_of(
    site: str,
    plan: FederationPlan,
    key_fingerprint: str,
    activity: Activity,
    runs: Mapping[str, tuple[int, str]],
    started_at_s: float,
) -> AgentStatus:
    """The status of an agent whose last answer is the last of ``runs``: run -> round and kind."""
    run_id = next(reversed(list(runs)), "")
    number, kind = runs.get(run_id, (0, ""))
    return AgentStatus(
        site=site,
        plan_name=plan.name,
        plan_digest=plan.digest,
        key_fingerprint=key_fingerprint,
        activity=activity,
        run_id=run_id,
        round=number,
        kind=kind,
        started_at_s=started_at_s,
    )
