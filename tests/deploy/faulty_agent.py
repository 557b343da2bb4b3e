"""A hospital's agent that misbehaves in the rounds that ``switches.json`` names.

``{"faults": {"3": "nan"}}``: what it signs and sends in round 3 is not what it trained.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from safetensors.numpy import save

from shared_model.protocol.arrays import Arrays, body_digest, decode_arrays
from shared_model.protocol.messages import RoundInstruction, RoundReply, decode_header
from shared_model.protocol.sealed import Sealed, seal
from simulations.deployed.stand_in import StandIn, serve_forever

#: What a reply can be, and the number under which the coordinator sets it aside.
FAULTS = {
    "nan": "SMR-E517",
    "wrong shape": "SMR-E516",
    "wrong name": "SMR-E515",
    "wrong type": "SMR-E115",
    "huge": "SMR-E516",
    "thousand times the norm": "SMR-E522",
    "beyond the exact range": "SMR-E510",
    "truncated": "SMR-E113",
    "wrong round": "SMR-E513",
    "other site": "SMR-E512",
    "forged": "SMR-E113",
    "replayed": "SMR-E513",
    "late": "SMR-E503",
}
LATE_S = 150.0


class FaultyAgent(StandIn):
    """Honest but for the rounds in which it is told otherwise."""

    def __init__(self, config: Path) -> None:
        super().__init__(config)
        self._honest: dict[int, Sealed] = {}

    def acknowledge(self, header: RoundInstruction) -> None:
        """Not looked at: an honest agent would find that its key sends what it never released."""

    def sent(self, header: RoundInstruction, reply: Sealed) -> Sealed:
        fault = (self.switch("faults") or {}).get(str(header.round))
        if header.kind == "train":
            self._honest[header.round] = reply
        if header.kind != "train" or fault is None:
            return reply
        if fault == "late":
            time.sleep(LATE_S)
            return reply
        if fault == "replayed":
            return self._honest[header.round - 1]
        if fault == "truncated":
            return Sealed(reply.header, reply.body[: len(reply.body) // 2], reply.signature)
        if fault == "forged":
            return seal(reply.header, reply.body, Ed25519PrivateKey.generate())
        honest = decode_header(RoundReply, reply)
        changed = {
            "wrong round": {"round": honest.round + 1},
            "other site": {"site": "north"},
        }.get(fault)
        if changed is not None:
            named = honest.model_copy(update=changed)
            return seal(named.canonical_json, reply.body, self.key)
        # Not our own encoder, which refuses to write some of these.
        body = save(spoilt(fault, decode_arrays(reply.body)))
        named = honest.model_copy(update={"body_sha256": body_digest(body)})
        return seal(named.canonical_json, body, self.key)


def spoilt(fault: str, arrays: Arrays) -> dict[str, Any]:
    """Arrays that no honest site sends."""
    bias, weight = arrays["head.bias"].copy(), arrays["head.weight"]
    if fault == "nan":
        bias[1] = np.nan
        return {**arrays, "head.bias": bias}
    if fault == "wrong shape":
        return {**arrays, "head.weight": weight.reshape(100, 30)}
    if fault == "wrong name":
        return {"head.weights": weight, "head.bias": bias}
    if fault == "wrong type":
        return {**arrays, "head.bias": bias.astype(np.float64)}
    if fault == "huge":
        return {**arrays, "head.weight": np.zeros((300, 1000), np.float32)}
    if fault == "thousand times the norm":
        return {name: value * np.float32(1000) for name, value in arrays.items()}
    assert fault == "beyond the exact range"
    bias[0] = 2000
    return {**arrays, "head.bias": bias}


if __name__ == "__main__":
    serve_forever(FaultyAgent(Path(sys.argv[1])))
