"""The coordinator's state between two rounds, and its form on disk."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict

from server.rounds.records import RoundRecord
from shared_model.plan import Sha256
from shared_model.protocol.arrays import body_digest
from shared_model.protocol.messages import RunId

#: Name of the averaged parameters in :attr:`RunState.optimiser`.
AVERAGE = "ema"


@dataclass(frozen=True)
class RunState:
    """Everything that the next round depends on.

    Args:
        round: rounds completed; 0 before the first.
        body: the global shared parameters as encoded arrays, the very bytes that sites receive.
        history: one record per completed round.
        optimiser: name -> encoded arrays of a server optimiser's memory; plain averaging has none.
    """

    round: int
    body: bytes
    history: tuple[RoundRecord, ...] = ()
    optimiser: dict[str, bytes] = field(default_factory=dict)

    @property
    def release_body(self) -> bytes:
        """What is evaluated and finalised: the average over the rounds where the plan keeps one."""
        return self.optimiser.get(AVERAGE, self.body)


class StateFile(BaseModel):
    """``state.json``: what belongs together, by digest, so that no file can be exchanged alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    run_id: RunId
    plan_digest: Sha256
    round: int
    global_sha256: Sha256
    optimiser_sha256: dict[str, Sha256]
    history: tuple[RoundRecord, ...]

    @classmethod
    def of(cls, state: RunState, run_id: str, plan_digest: str) -> StateFile:
        """The description of a state."""
        return cls(
            run_id=run_id,
            plan_digest=plan_digest,
            round=state.round,
            global_sha256=body_digest(state.body),
            optimiser_sha256={name: body_digest(b) for name, b in state.optimiser.items()},
            history=state.history,
        )

    def encode(self) -> bytes:
        """JSON with the SHA-256 of its own content, so that a flipped bit does not pass unseen."""
        content = self.model_dump(mode="json")
        document = {"sha256": _digest(content), "state": content}
        return json.dumps(document, indent=1, sort_keys=True).encode()

    @classmethod
    def decode(cls, data: bytes) -> StateFile:
        """Read :meth:`encode`'s bytes; raises ValueError when they are damaged."""
        document = json.loads(data)
        if not isinstance(document, dict) or document.keys() != {"sha256", "state"}:
            raise ValueError("state.json does not have the form of a checkpoint")
        if _digest(document["state"]) != document["sha256"]:
            raise ValueError("state.json does not match its own digest")
        return cls.model_validate(document["state"])


def _digest(content: object) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
