"""A reply that left, found again and held against its receipt."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from client.agent.durable import make_private_folder, write_durably
from client.agent.replies import read_reply
from client.agent.state import StateFolder
from client.egress.receipts import Decision
from shared_model.errors import SmrfedError
from shared_model.protocol.arrays import body_digest, decode_any
from shared_model.protocol.sealed import Sealed


@dataclass(frozen=True)
class SentArray:
    """One array of a reply: its name, shape, bytes, L2 norm, smallest and largest number."""

    name: str
    shape: tuple[int, ...]
    bytes: int
    norm: float
    smallest: float
    largest: float


def find_sent(state: StateFolder, decision: Decision, key: Ed25519PublicKey) -> Sealed:
    """The very bytes that a receipt is about, whose digests and signature hold.

    Raises SMR-E369 when no copy is kept any more or nothing left, and SMR-E407 when the copy is
    damaged or is not what the receipt names.
    """
    name = f"{decision.round:07d}-{decision.kind}.reply"
    places = [folder / decision.run_id / name for folder in (state.replies, state.sent)]
    for path in places:
        if path.exists():
            reply = read_reply(path)[1]
            if reply.digest.hex() == decision.reply_sha256:
                _require_sound(path, reply, decision, key)
                return reply
    raise SmrfedError(
        "SMR-E369",
        f"no copy of round {decision.round} ({decision.kind}) of run {decision.run_id} is kept",
        expected=f"a stored reply with digest {decision.reply_sha256[:16]}...",
        found="nothing left" if not decision.released else "no such file",
        remedy="the receipt stays valid without it; max_sent_archive_bytes of the policy says how "
        "much is kept",
    )


def arrays_of(reply: Sealed) -> tuple[SentArray, ...]:
    """Every array of a reply; the numbers are those that left."""
    return tuple(
        SentArray(
            name,
            value.shape,
            value.nbytes,
            math.sqrt(float(np.square(value, dtype=np.float64).sum())),
            float(value.min()) if value.size else 0.0,
            float(value.max()) if value.size else 0.0,
        )
        for name, value in decode_any(reply.body).items()
    )


def header_of(reply: Sealed) -> dict[str, Any]:
    """The header as it left."""
    read: dict[str, Any] = json.loads(reply.header)
    return read


def export(reply: Sealed, folder: Path) -> tuple[Path, ...]:
    """Write header, body and signature to ``folder``, each byte as it left."""
    make_private_folder(folder)
    parts = {
        "header.json": reply.header,
        "body.safetensors": reply.body,
        "signature.ed25519": reply.signature,
    }
    for name, content in parts.items():
        write_durably(folder / name, content)
    return tuple(folder / name for name in parts)


def _require_sound(path: Path, reply: Sealed, decision: Decision, key: Ed25519PublicKey) -> None:
    problem = ""
    if body_digest(reply.body) != decision.body_sha256:
        problem = f"a body with digest {body_digest(reply.body)}"
    try:
        reply.verify(key, "this site")
    except SmrfedError:
        problem = "a signature that is not this site's"
    if problem:
        raise SmrfedError(
            "SMR-E407",
            f"a stored answer of this site is damaged: {path}",
            expected="the bytes that the receipt names, signed by this site",
            found=problem,
            remedy="check the disk and restore the state folder from a backup",
        )
