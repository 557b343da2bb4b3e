"""Every decoder of a peer's bytes, at both ends: damaged or hostile input is a numbered error.

Mutations of valid messages reach deeper than random bytes; both are tried. Memory is measured, not
assumed: what a decoder allocates is bounded by a small multiple of what it was given.
"""

from __future__ import annotations

import functools
import json
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st
from masked_messages import MASKING, UNMASKING, masked_decoders

from client.agent.agent_pb2 import Chunk
from client.agent.refusals import inward
from client.agent.wire import from_chunks, to_chunks
from client.courier import envelope as courier
from server.flower import envelope as coordinator
from server.rounds.checks import Question, authenticate, check_update
from server.rounds.transport import Failure
from shared_model.errors import SmrfedError
from shared_model.protocol.acknowledgement import Received, countersign
from shared_model.protocol.arrays import body_digest, decode_arrays, encode_arrays
from shared_model.protocol.messages import RoundInstruction, RoundReply, decode_header
from shared_model.protocol.sealed import MAX_HEADER_BYTES, Sealed, seal
from shared_model.secure_aggregation.messages import MaskingOrder

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
ARRAYS = {"head.weight": np.arange(12, dtype=np.float32).reshape(3, 4)}
SHAPES = {"head.weight": (3, 4)}
BODY = encode_arrays(ARRAYS)


@functools.cache
def instruction() -> Sealed:
    said = Received(
        run_id="run", round=1, kind="train", site="a", reply_sha256="ab" * 32, accepted=True
    )
    header = RoundInstruction(
        run_id="run",
        round=2,
        kind="train",
        site="a",
        plan_digest="1" * 64,
        body_sha256=body_digest(BODY),
        acknowledged=countersign(said, KEY),
    )
    return seal(header.canonical_json, BODY, KEY)


@functools.cache
def reply() -> Sealed:
    asked = decode_header(RoundInstruction, instruction())
    header = RoundReply(
        **asked.model_dump(exclude={"acknowledged"}),
        instruction_sha256=instruction().digest.hex(),
        metrics={"train_loss": 0.5},
    )
    return seal(header.canonical_json, BODY, KEY)


def question() -> Question:
    asked = decode_header(RoundInstruction, instruction())
    return Question(asked, instruction(), KEY.public_key())


def signed(header: bytes, body: bytes = BODY) -> Sealed:
    """A peer that holds a key and sends what it likes."""
    return seal(header[:MAX_HEADER_BYTES], body, KEY)


def about_masks(kind: str, **orders: MaskingOrder) -> bytes:
    """The header of a question about masks."""
    asked = decode_header(RoundInstruction, instruction())
    said = asked.model_dump(exclude={"acknowledged"}) | {"kind": kind, "site": "a"} | orders
    return RoundInstruction.model_validate(said).canonical_json


DECODERS: dict[str, tuple[Callable[[bytes], Any], bytes]] = {
    "arrays": (decode_arrays, BODY),
    "instruction": (
        lambda data: decode_header(RoundInstruction, signed(data)),
        instruction().header,
    ),
    "reply": (lambda data: decode_header(RoundReply, signed(data)), reply().header),
    "authenticate": (lambda data: authenticate(signed(data), question()), reply().header),
    "update": (lambda data: check_update(data, SHAPES, 1e9), BODY),
    "masking order": (
        lambda data: decode_header(RoundInstruction, signed(data)),
        about_masks("train", masking=MASKING),
    ),
    "unmasking order": (
        lambda data: decode_header(RoundInstruction, signed(data)),
        about_masks("unmask", unmasking=UNMASKING),
    ),
}
MASKED = masked_decoders()


@st.composite
def mutated(draw: st.DrawFn, valid: bytes) -> bytes:
    """A few bytes changed, pieces cut out, doubled, or replaced; sometimes anything at all."""
    data = bytearray(valid)
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(["set", "cut", "insert", "double", "number"]))
        if kind == "set" and at < len(data):
            data[at] = draw(st.integers(0, 255))
        elif kind == "cut":
            del data[at : at + draw(st.integers(1, 40))]
        elif kind == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=20))
        elif kind == "double":
            data[at:at] = data[at : at + draw(st.integers(1, 60))]
        elif kind == "number":
            data[at : at + 8] = struct.pack("<Q", draw(st.integers(0, 2**64 - 1)))
    return bytes(data)


@pytest.mark.parametrize("name", sorted(DECODERS))
@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_mutated_messages_give_numbered_errors_or_what_they_say(
    name: str, data: st.DataObject
) -> None:
    decode, valid = DECODERS[name]
    content = data.draw(mutated(valid) | st.binary(max_size=300))
    try:
        read = decode(content)
    except SmrfedError as error:
        assert error.code.startswith("SMR-E")  # noqa: PT017
    else:
        if isinstance(read, RoundInstruction | RoundReply):
            # One spelling per content: what is read is what was signed.
            assert read.canonical_json == content
        else:
            assert encode_arrays(read) is not None


@pytest.mark.parametrize("name", sorted(MASKED))
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_mutated_messages_about_masks_give_numbered_errors_or_another_message(
    name: str, data: st.DataObject
) -> None:
    decode, valid = MASKED[name]
    assert decode(valid) is not None
    try:
        decode(data.draw(mutated(valid) | st.binary(max_size=300)))
    except SmrfedError as error:
        assert error.code.startswith("SMR-E1")  # noqa: PT017


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


@pytest.mark.parametrize(
    "name", ["instruction", "reply", "authenticate", "masking order", "unmasking order"]
)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_headers_of_any_json_are_typed_errors(name: str, data: st.DataObject) -> None:
    decode, valid = DECODERS[name]
    fields = json.loads(valid)
    field = data.draw(st.sampled_from([*sorted(fields), "surplus"]))
    changed = data.draw(st.sampled_from([fields | {field: data.draw(JSON)}, data.draw(JSON)]))
    text = json.dumps(changed, sort_keys=True, separators=(",", ":")).encode()
    try:
        read = decode(text)
    except SmrfedError as error:
        assert error.code in {"SMR-E116", "SMR-E117", "SMR-E512", "SMR-E513"}  # noqa: PT017
    else:
        assert read.canonical_json == text


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_chunks_of_a_damaged_stream_are_typed_errors(data: st.DataObject) -> None:
    pieces = [chunk.SerializeToString() for chunk in to_chunks(instruction())]
    chunks = []
    for piece in data.draw(st.permutations(pieces)):
        if data.draw(st.booleans()):
            piece = data.draw(mutated(piece))
        try:
            chunks.append(Chunk.FromString(piece))
        except Exception:
            continue  # protobuf itself refuses: gRPC ends the call
    try:
        message = from_chunks(chunks, max_body_bytes=10_000)
    except SmrfedError as error:
        assert error.code in {"SMR-E111", "SMR-E112", "SMR-E413"}  # noqa: PT017
    else:
        assert len(message.body) <= 10_000


RECORDS = st.dictionaries(
    st.sampled_from(["envelope", "arrays", "error", "other"]),
    st.sampled_from(
        [
            ConfigRecord({"header": b"{}", "signature": bytes(64)}),
            ConfigRecord({"header": "text", "signature": bytes(64)}),
            ConfigRecord({"header": b"{}", "signature": b""}),
            ConfigRecord({"header": bytes(100_000), "signature": bytes(64)}),
            ConfigRecord({"code": "SMR-E360", "title": "\x1b[2J" * 1000}),
            ConfigRecord({"code": 3, "title": [1.5]}),
            ConfigRecord(),
            ArrayRecord({"body": Array(np.zeros(3))}),
            ArrayRecord(),
            courier.pack(instruction())["arrays"],
        ]
    ),
)


@settings(max_examples=200, deadline=None)
@given(records=RECORDS)
def test_envelopes_of_any_records_are_messages_failures_or_typed_errors(
    records: dict[str, Any],
) -> None:
    try:
        assert isinstance(courier.unpack(RecordDict(records)), Sealed)
    except SmrfedError as error:
        assert error.code in {"SMR-E111", "SMR-E112", "SMR-E451"}  # noqa: PT017
    copied = {
        name: ArrayRecord(dict(record)) if isinstance(record, ArrayRecord) else record
        for name, record in records.items()
    }
    answer = coordinator.unpack(RecordDict(copied))
    assert isinstance(answer, Sealed | Failure)
    if isinstance(answer, Failure):
        assert answer.reason.isprintable()
        assert len(answer.reason) < 1000


@given(st.text(max_size=200))
def test_a_refusal_line_is_a_number_or_nothing(line: str) -> None:
    refusal = inward(line)
    assert refusal is None or line.startswith(refusal.code)


def bombs(size: int) -> dict[str, bytes]:
    """Bytes that are cheap to send and might be dear to read."""
    return {
        "zeros": bytes(size),
        "brackets": b"[" * size,
        "lists": b"[" + b"[]," * (size // 3) + b"[]]",
        "objects": b"[" + b'{"":0},' * (size // 7) + b"0]",
        "names": b"{" + b",".join(b'"%x":0' % n for n in range(size // 10)) + b"}",
        "digits": b"1" * size,
        "escapes": b'"' + b"\\u0000" * (size // 6) + b'"',
        "spaces": b" " * size,
    }


def safetensors_bombs(size: int) -> dict[str, bytes]:
    """The same as the header of arrays; and headers that lie about what follows."""
    framed = {name: struct.pack("<Q", len(b)) + b for name, b in bombs(size).items()}
    tensor = {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 2**62]}
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    lies = {
        "huge shape": {"x": tensor},
        "negative": {"x": tensor | {"shape": [-1]}},
        "overlap": {"x": tensor | {"shape": [1], "data_offsets": [0, 4]}, "y": tensor},
        "many": {str(n): empty for n in range(size // 60)},
        "metadata": {"__metadata__": {"x": "y" * size}},
    }
    for name, header in lies.items():
        text = json.dumps(header).encode()
        framed[name] = struct.pack("<Q", len(text)) + text + bytes(16)
    framed["long header"] = struct.pack("<Q", 2**63) + bytes(size)
    return framed


def peak_bytes(decode: Callable[[bytes], Any], content: bytes) -> int:
    tracemalloc.start()
    try:
        decode(content)
    except SmrfedError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


@pytest.mark.parametrize("name", ["instruction", "reply", "authenticate"])
def test_a_header_bomb_takes_little_memory(name: str) -> None:
    decode = DECODERS[name][0]
    for kind, bomb in bombs(MAX_HEADER_BYTES).items():
        assert peak_bytes(decode, bomb) < 16 << 20, kind


def test_a_bomb_of_arrays_takes_memory_in_proportion() -> None:
    size = 1 << 18
    for kind, bomb in safetensors_bombs(size).items():
        assert peak_bytes(decode_arrays, bomb) < 64 * len(bomb) + (1 << 20), kind


def test_the_coordinator_reads_no_update_larger_than_the_plans() -> None:
    for kind, bomb in safetensors_bombs(1 << 22).items():
        if len(bomb) > 10_000:
            assert peak_bytes(lambda data: check_update(data, SHAPES, None), bomb) < 64 << 10, kind


@pytest.mark.parametrize("name", sorted(MASKED))
def test_a_bomb_among_the_masks_takes_no_more_than_the_plan_allows(name: str) -> None:
    decode = MASKED[name][0]
    for kind, bomb in {**safetensors_bombs(1 << 18), **bombs(1 << 18)}.items():
        allowed = 64 * len(bomb) if name == "integers" or len(bomb) < 10_000 else 0
        assert peak_bytes(decode, bomb) < allowed + (256 << 10), kind


def test_an_announced_size_is_no_allocation() -> None:
    def stream(size: int) -> list[Chunk]:
        chunks = list(to_chunks(instruction()))
        chunks[0].opening.body_bytes = size
        return chunks

    for size in (1 << 20, 1 << 62):
        peak = peak_bytes(lambda _, size=size: from_chunks(stream(size), 1 << 21), b"")  # type: ignore[misc]
        assert peak < 1 << 20


IN_A_SMALL_HOUSE = """
import re, resource, sys
sys.path.insert(0, sys.argv[1])
from test_hostile_bytes import bombs, safetensors_bombs, signed
from shared_model.errors import SmrfedError
from shared_model.protocol.arrays import decode_arrays, decode_integers
from shared_model.protocol.messages import RoundInstruction, decode_header
size = int(re.findall(r"VmSize:\\s+(\\d+) kB", open("/proc/self/status").read())[0]) << 10
resource.setrlimit(resource.RLIMIT_AS, (size + (96 << 20),) * 2)
refused = 0
for bomb in [*safetensors_bombs(1 << 20).values(), *bombs(1 << 20).values()]:
    for decode in (decode_arrays, decode_integers):
        try:
            decode(bomb)
        except SmrfedError:
            refused += 1
for bomb in bombs(1 << 16).values():
    try:
        decode_header(RoundInstruction, signed(bomb))
    except SmrfedError:
        refused += 1
print("alive", refused)
"""


def test_native_code_allocates_no_more_than_python_shows() -> None:
    # tracemalloc does not see what safetensors allocates: here the kernel counts.
    done = subprocess.run(
        [sys.executable, "-c", IN_A_SMALL_HOUSE, str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("alive "), done.stderr
    assert int(done.stdout.split()[1]) >= 42
