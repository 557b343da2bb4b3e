"""Messages: canonical, signed, and safe against bytes from a hostile peer."""

from __future__ import annotations

import errno
import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared_model.errors import SmrfedError
from shared_model.protocol import keys
from shared_model.protocol.arrays import body_digest, decode_arrays, encode_arrays
from shared_model.protocol.messages import RoundInstruction, RoundReply, decode_header
from shared_model.protocol.sealed import Sealed, seal

KEY = Ed25519PrivateKey.generate()
ARRAYS = st.dictionaries(
    st.text(st.characters(categories=["Ll", "Nd"], include_characters="._"), min_size=1).filter(
        lambda name: name != "__metadata__"
    ),
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_side=4)),
    max_size=5,
)


def instruction(body: bytes = b"", **changes: object) -> RoundInstruction:
    fields = {
        "run_id": "run-1",
        "round": 3,
        "kind": "train",
        "site": "site-a",
        "plan_digest": "0" * 64,
        "body_sha256": body_digest(body),
    }
    return RoundInstruction.model_validate(fields | changes)


@given(ARRAYS)
def test_arrays_survive_the_wire_bit_for_bit(arrays: dict[str, np.ndarray]) -> None:
    decoded = decode_arrays(encode_arrays(arrays))
    assert list(decoded) == sorted(arrays)
    for name, value in arrays.items():
        assert decoded[name].dtype == np.float32
        assert decoded[name].shape == value.shape
        assert decoded[name].tobytes() == value.tobytes()


@given(ARRAYS)
def test_the_bytes_do_not_depend_on_the_order(arrays: dict[str, np.ndarray]) -> None:
    backwards = dict(reversed(list(arrays.items())))
    assert encode_arrays(arrays) == encode_arrays(backwards)


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.float16])
def test_only_float32_is_sent(dtype: type) -> None:
    with pytest.raises(SmrfedError, match=r"SMR-E114[\s\S]*weight|weight[\s\S]*SMR-E114"):
        encode_arrays({"weight": np.zeros(3, dtype)})


@given(st.binary(max_size=400))
@settings(max_examples=300)
def test_garbage_is_a_typed_error(body: bytes) -> None:
    with pytest.raises(SmrfedError, match="SMR-E115"):
        decode_arrays(body)


def decoded_or_code(body: bytes) -> dict[str, np.ndarray] | str:
    try:
        return decode_arrays(body)
    except SmrfedError as error:
        return error.code


@given(st.data())
@settings(max_examples=300)
def test_damaged_arrays_decode_to_float32_or_a_typed_error(data: st.DataObject) -> None:
    arrays = {"a": np.ones((2, 3), np.float32), "b": np.zeros(4, np.float32)}
    body = bytearray(encode_arrays(arrays))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    decoded = decoded_or_code(bytes(body))
    if isinstance(decoded, str):
        assert decoded == "SMR-E115"
    else:
        assert all(value.dtype == np.float32 for value in decoded.values())
        assert sum(value.nbytes for value in decoded.values()) <= len(body)


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [1 << 60], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}},
        {"a": None},
        [1, 2],
    ],
)
def test_lying_headers_are_refused_without_allocating(header: object) -> None:
    text = json.dumps(header).encode()
    with pytest.raises(SmrfedError, match="SMR-E115"):
        decode_arrays(struct.pack("<Q", len(text)) + text + bytes(8))


def test_a_header_survives_and_its_bytes_are_canonical() -> None:
    header = instruction()
    sealed = seal(header.canonical_json, b"", KEY)
    sealed.verify(KEY.public_key(), "coordinator")
    assert decode_header(RoundInstruction, sealed) == header
    assert instruction().canonical_json == header.canonical_json


def test_a_changed_header_body_or_key_fails_the_signature() -> None:
    sealed = seal(instruction().canonical_json, b"", KEY)
    other = instruction(site="site-b").canonical_json
    for forged in (
        Sealed(other, sealed.body, sealed.signature),
        Sealed(sealed.header, b"x", sealed.signature),
        seal(sealed.header, sealed.body, Ed25519PrivateKey.generate()),
    ):
        with pytest.raises(SmrfedError, match="SMR-E113"):
            forged.verify(KEY.public_key(), "coordinator")


def test_bytes_cannot_move_between_header_and_body() -> None:
    assert Sealed(b"ab", b"c", bytes(64)).digest != Sealed(b"a", b"bc", bytes(64)).digest


def test_a_body_that_the_header_does_not_name_is_refused() -> None:
    sealed = seal(instruction(b"one").canonical_json, b"two", KEY)
    with pytest.raises(SmrfedError, match="SMR-E117"):
        decode_header(RoundInstruction, sealed)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b"\xff\xfe",
        b"[" * 60_000,
        instruction().canonical_json.replace(b",", b", "),
        instruction().canonical_json[:-1] + b',"round":3}',
        instruction().canonical_json.replace(b'"round":3', b'"round":0'),
        instruction().canonical_json.replace(b'"round":3', b'"round":"x"'),
        instruction().canonical_json.replace(b'"train"', b'"exec"'),
        instruction().canonical_json.replace(b'"site-a"', b'"../../etc"'),
        instruction().canonical_json.replace(b'"protocol_version":1', b'"protocol_version":2'),
        instruction().canonical_json[:-1] + b',"extra":1}',
    ],
)
def test_a_malformed_header_is_a_typed_error(header: bytes) -> None:
    with pytest.raises(SmrfedError, match="SMR-E116"):
        decode_header(RoundInstruction, seal(header, b"", KEY))


def test_a_metric_must_be_finite_to_be_encoded() -> None:
    fields = instruction().model_dump(exclude={"acknowledged"})
    reply = RoundReply(**fields, instruction_sha256="1" * 64, metrics={"loss": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        _ = reply.canonical_json


def test_an_oversized_header_is_refused() -> None:
    with pytest.raises(SmrfedError, match="SMR-E111"):
        Sealed(bytes((64 << 10) + 1), b"", bytes(64))
    with pytest.raises(SmrfedError, match="SMR-E112"):
        Sealed(b"", b"", bytes(63))


def test_keys_are_private_files_and_are_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "site.key"
    key = keys.load_or_create_signing_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    again = keys.load_or_create_signing_key(path)
    public = keys.load_public_key(keys.public_path(path))
    assert keys.fingerprint(again.public_key()) == keys.fingerprint(key.public_key())
    assert keys.fingerprint(public) == keys.fingerprint(key.public_key())
    with pytest.raises(FileExistsError):
        keys.create_signing_key(path)


def test_a_full_disk_leaves_no_half_key_and_a_lost_public_half_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "site.key"

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            keys.load_or_create_signing_key(path)
    assert list(tmp_path.iterdir()) == []
    key = keys.load_or_create_signing_key(path)
    for spoil in (Path.unlink, lambda public: public.write_bytes(b"")):
        spoil(keys.public_path(path))
        keys.load_or_create_signing_key(path)
        public = keys.load_public_key(keys.public_path(path))
        assert keys.fingerprint(public) == keys.fingerprint(key.public_key())


def test_a_file_that_is_no_key_is_a_typed_error(tmp_path: Path) -> None:
    path = tmp_path / "site.key"
    path.write_text("not a key", encoding="utf-8")
    with pytest.raises(SmrfedError, match="SMR-E118"):
        keys.load_signing_key(path)
    with pytest.raises(SmrfedError, match="SMR-E118"):
        keys.load_public_key(tmp_path / "absent")
