"""A site agent without torch: the real gRPC service and protocol around one line of arithmetic.

Run as ``python stand_in_agent.py NAME SOCKET KEY STARTED [GROUP]``: appends a line to STARTED for
each instruction that it computes (and not for one that it answers from memory).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from client.agent.service import serve
from client.agent.status import AgentStatus
from shared_model.errors import SmrfedError
from shared_model.protocol.arrays import body_digest, decode_arrays, encode_arrays
from shared_model.protocol.keys import load_public_key, load_signing_key, public_path
from shared_model.protocol.messages import RoundInstruction, RoundReply, decode_header
from shared_model.protocol.sealed import Sealed, seal


def answer(sealed: Sealed, key: Ed25519PrivateKey) -> Sealed:
    """Move every parameter a third of the way to a target that only this site knows."""
    header = decode_header(RoundInstruction, sealed)
    target = np.float32(len(header.site) + header.site.encode()[-1] / 7)
    third = np.float32(1 / 3)
    arrays = decode_arrays(sealed.body)
    delta = {k: ((target - v) * third).astype(np.float32) for k, v in arrays.items()}
    body = encode_arrays(delta if header.kind == "train" else {})
    reply = RoundReply(
        run_id=header.run_id,
        round=header.round,
        kind=header.kind,
        site=header.site,
        plan_digest=header.plan_digest,
        body_sha256=body_digest(body),
        instruction_sha256=sealed.digest.hex(),
    )
    return seal(reply.canonical_json, body, key)


class StandIn:
    """Answers from memory what it answered before, as the real agent does from disk."""

    max_body_bytes = 1 << 20

    def __init__(
        self, name: str, key: Ed25519PrivateKey, started: Path, coordinator: Ed25519PublicKey
    ) -> None:
        self._name = name
        self._key = key
        self._started = started
        self._coordinator = coordinator
        self._answers: dict[bytes, Sealed] = {}

    def handle(self, instruction: Sealed) -> Sealed:
        instruction.verify(self._coordinator, "coordinator")
        if instruction.digest not in self._answers:
            header = decode_header(RoundInstruction, instruction)
            with self._started.open("a") as file:
                file.write(f"{header.run_id} {header.kind} {header.round}\n")
            if (header.run_id, header.kind, header.round) == ("slow", "train", 1):
                time.sleep(8)
            self._answers[instruction.digest] = answer(instruction, self._key)
        return self._answers[instruction.digest]

    def refused(self, error: SmrfedError) -> None:
        print(error, flush=True)

    def status(self) -> AgentStatus:
        return AgentStatus(self._name, "", "", "", "idle", "", 0, "", 0.0)


def main() -> None:
    _, name, socket, key, started, *group = sys.argv
    coordinator = load_public_key(public_path(Path(key).with_name("coordinator.pem")))
    agent = StandIn(name, load_signing_key(Path(key)), Path(started), coordinator)
    serve(agent, Path(socket), group=group[0] if group else None).wait()


if __name__ == "__main__":
    main()
