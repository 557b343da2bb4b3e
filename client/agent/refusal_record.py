"""What the agent notes of an instruction that it refuses, whoever sent it and whatever it was."""

from __future__ import annotations

import logging

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from client.egress.refusals import Refusals, Refused
from shared_model.errors import SmrfedError
from shared_model.protocol.messages import RoundInstruction, decode_header
from shared_model.protocol.sealed import Sealed

_log = logging.getLogger(__name__)


def note_refusal(
    refusals: Refusals,
    coordinator: Ed25519PublicKey,
    error: SmrfedError,
    instruction: Sealed | None = None,
) -> None:
    """Write a receipt of a refusal; never raises, because the refusal stands either way.

    ``instruction`` is ``None`` where not even a sealed message could be put together.
    """
    try:
        refusals.note(_described(coordinator, error, instruction))
    except SmrfedError as problem:
        _log.error("a refusal could not be noted: %s", problem)


def _described(
    coordinator: Ed25519PublicKey, error: SmrfedError, instruction: Sealed | None
) -> Refused:
    if instruction is None:
        return Refused(code=error.code, signed=False)
    try:
        instruction.verify(coordinator, "coordinator")
        signed = True
    except SmrfedError:
        signed = False
    size, digest = len(instruction.header) + len(instruction.body), instruction.digest.hex()
    try:
        header = decode_header(RoundInstruction, instruction)
    except SmrfedError:
        return Refused(code=error.code, signed=signed, instruction_sha256=digest, bytes=size)
    return Refused(
        code=error.code,
        signed=signed,
        run_id=header.run_id,
        round=header.round,
        kind=header.kind,
        plan_digest=header.plan_digest,
        instruction_sha256=digest,
        bytes=size,
    )
