"""Chunks between courier and agent: exact for honest peers, bounded for the others."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.agent.agent_pb2 import Chunk, Opening
from client.agent.refusals import inward, outward, site_failed
from client.agent.wire import CHUNK_BYTES, from_chunks, to_chunks
from shared_model.errors import SmrfedError
from shared_model.protocol.sealed import Sealed

SIGNATURE = b"s" * 64


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2_500_000])
def test_a_message_survives_the_wire(size: int) -> None:
    message = Sealed(b"header", bytes(range(256)) * (size // 256) + b"x" * (size % 256), SIGNATURE)
    chunks = list(to_chunks(message))
    assert all(len(chunk.body) <= CHUNK_BYTES for chunk in chunks)
    assert from_chunks(iter(chunks)) == message


def opening(size: int, header: bytes = b"h", signature: bytes = SIGNATURE) -> Chunk:
    return Chunk(opening=Opening(header=header, signature=signature, body_bytes=size))


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [Chunk()],
        [Chunk(body=b"x")],
        [opening(1)],
        [opening(2), Chunk(body=b"x")],
        [opening(1), Chunk(body=b"xx")],
        [opening(1), opening(1)],
        [opening(1), Chunk()],
        [opening(1), Chunk(body=b"")],
        [opening(101), Chunk(body=b"x" * 101)],
        [opening(2 * CHUNK_BYTES), Chunk(body=b"x" * (CHUNK_BYTES + 1))],
        [opening(2**63), Chunk(body=b"x")],
    ],
)
def test_a_stream_that_is_no_message_is_refused(chunks: list[Chunk]) -> None:
    with pytest.raises(SmrfedError, match="SMR-E413"):
        from_chunks(chunks, max_body_bytes=100 if len(chunks[1:]) < 2 else 2**30)


def test_an_endless_stream_is_left_when_it_exceeds_its_announcement() -> None:
    def endless() -> object:
        yield opening(3 * CHUNK_BYTES)
        for taken in range(10):
            assert taken < 4
            yield Chunk(body=b"x" * CHUNK_BYTES)

    with pytest.raises(SmrfedError, match="SMR-E413"):
        from_chunks(endless())  # type: ignore[arg-type]


@settings(max_examples=50)
@given(st.lists(st.binary(max_size=200), max_size=6))
def test_garbage_is_a_typed_error(pieces: list[bytes]) -> None:
    chunks = []
    for piece in pieces:
        try:
            chunks.append(Chunk.FromString(piece))
        except Exception:
            continue
    with pytest.raises(SmrfedError, match=r"SMR-E413|SMR-E112"):
        from_chunks(chunks, max_body_bytes=1000)


def test_a_refusal_leaves_as_a_number_only() -> None:
    secret = SmrfedError("SMR-E403", "sub-077", found="12 patients", remedy="/data/sub-077.nii")
    line = outward(secret)
    assert line.startswith("SMR-E403 ")
    assert "077" not in line
    assert "12" not in line
    assert inward(line).code == "SMR-E403"  # type: ignore[union-attr]
    assert inward("anything else") is None


@pytest.mark.parametrize("code", ["SMR-E201", "SMR-E250", "SMR-E321", "SMR-E325", "SMR-E601"])
def test_failures_that_may_depend_on_patients_are_indistinguishable(code: str) -> None:
    data = SmrfedError(code, "sub-077 has no scan", remedy="none")
    assert outward(data) == outward(site_failed(ValueError("sub-078")))
