"""A sealed message as a stream of chunks, bounded before anything is buffered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from client.agent import agent_pb2
from shared_model.errors import SmrfedError
from shared_model.protocol.sealed import MAX_BODY_BYTES, Sealed

CHUNK_BYTES = 1 << 20
# A gRPC message is an opening (header, signature) or one piece; anything larger is not ours.
MAX_MESSAGE_BYTES = CHUNK_BYTES + (64 << 10)


def to_chunks(message: Sealed) -> Iterator[agent_pb2.Chunk]:
    """One opening, then the body in pieces of at most :data:`CHUNK_BYTES`."""
    yield agent_pb2.Chunk(
        opening=agent_pb2.Opening(
            header=message.header, signature=message.signature, body_bytes=len(message.body)
        )
    )
    for start in range(0, len(message.body), CHUNK_BYTES):
        yield agent_pb2.Chunk(body=message.body[start : start + CHUNK_BYTES])


def from_chunks(chunks: Iterable[agent_pb2.Chunk], max_body_bytes: int = MAX_BODY_BYTES) -> Sealed:
    """Put a stream of a possibly hostile peer together.

    Raises SMR-E413 (order, or sizes that differ from the announced ones), SMR-E111 or SMR-E112.
    Never holds more than the announced size, and refuses one announced above ``max_body_bytes``.
    """
    stream = iter(chunks)
    first = next(stream, None)
    if first is None or first.WhichOneof("content") != "opening":
        raise _malformed("no opening", "an opening first")
    opening = first.opening
    if opening.body_bytes > max_body_bytes:
        raise _malformed(f"a body of {opening.body_bytes} bytes", f"at most {max_body_bytes} bytes")
    body = bytearray()
    for chunk in stream:
        if chunk.WhichOneof("content") != "body":
            raise _malformed("a second opening", "pieces of the body")
        if not 0 < len(chunk.body) <= CHUNK_BYTES:
            raise _malformed(f"a piece of {len(chunk.body)} bytes", f"1 to {CHUNK_BYTES} bytes")
        if len(body) + len(chunk.body) > opening.body_bytes:
            raise _malformed("more bytes than announced", f"{opening.body_bytes} bytes")
        body += chunk.body
    if len(body) != opening.body_bytes:
        raise _malformed(f"{len(body)} bytes", f"{opening.body_bytes} bytes, as announced")
    return Sealed(opening.header, bytes(body), opening.signature)


def broken_off() -> SmrfedError:
    """The error for a call that gRPC itself ended before a message was there: SMR-E413."""
    return _malformed("a call that broke off, or bytes that are no chunk", "a whole message")


def _malformed(found: str, expected: str) -> SmrfedError:
    return SmrfedError(
        "SMR-E413",
        "a message between courier and agent is not a sealed message in chunks",
        expected=expected,
        found=found,
        remedy="check that courier and agent run the same smrfed version; if they do, another "
        "program writes to the agent's socket",
    )
