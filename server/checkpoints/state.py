"""The coordinator's state between two rounds, and its form on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict

from server.rounds.history import History
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
        history: one record per completed round; a :class:`History` where they are many.
        optimiser: name -> encoded arrays of a server optimiser's memory; plain averaging has none.
    """

    round: int
    body: bytes
    history: Sequence[RoundRecord] = ()
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

    @staticmethod
    def encode(state: RunState, run_id: str, plan_digest: str) -> bytes:
        """JSON with the SHA-256 of its own content, so that a flipped bit does not pass unseen."""
        bare = StateFile(
            run_id=run_id,
            plan_digest=plan_digest,
            round=state.round,
            global_sha256=body_digest(state.body),
            optimiser_sha256={name: body_digest(b) for name, b in state.optimiser.items()},
            history=(),
        )
        # The records are JSON already; no other value can hold these characters unescaped.
        text = _canonical(bare.model_dump(mode="json"))
        text = text.replace('"history":[]', f'"history":{History.of(state.history).json}', 1)
        return f'{{"sha256":"{_sha256(text)}","state":{text}}}\n'.encode()

    @classmethod
    def decode(cls, data: bytes) -> StateFile:
        """Read :meth:`encode`'s bytes; raises ValueError when they are damaged."""
        document = json.loads(data)
        if not isinstance(document, dict) or document.keys() != {"sha256", "state"}:
            raise ValueError("state.json does not have the form of a checkpoint")
        if _sha256(_canonical(document["state"])) != document["sha256"]:
            raise ValueError("state.json does not match its own digest")
        return cls.model_validate(document["state"])


def _canonical(content: object) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
