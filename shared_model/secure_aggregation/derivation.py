"""Every key of a block from one secret: HKDF-SHA256 (RFC 5869), one context per use."""

from __future__ import annotations

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shared_model.secure_aggregation.block import Block, Field

SECRET_BYTES = 32
_SALT = b"smrfed-secure-aggregation-v1"


def derive(secret: bytes, block: Block, purpose: str, *fields: Field, length: int = 32) -> bytes:
    """``length`` bytes (at most 8160) for this purpose, run, plan, block and these fields alone.

    Without ``secret`` they look random; the same secret gives the same bytes after a restart.
    Raises ValueError when ``secret`` is not 32 bytes.
    """
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a secret of {len(secret)} bytes, not {SECRET_BYTES}")
    info = block.context(purpose, *fields)
    return HKDF(algorithm=SHA256(), length=length, salt=_SALT, info=info).derive(secret)
