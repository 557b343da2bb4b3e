"""The coordinator's signature for a reply, and its statement of a whole run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared_model.errors import SmrfedError
from shared_model.protocol.acknowledgement import Acknowledgement, Received, countersign
from shared_model.protocol.statement import Statement

KEY = Ed25519PrivateKey.from_private_bytes(b"c" * 32)
RECEIVED = Received(
    run_id="run-1", round=3, kind="train", site="a", reply_sha256="ab" * 32, accepted=True
)


def test_signing_twice_gives_the_same_bytes_and_they_verify() -> None:
    said = countersign(RECEIVED, KEY)
    assert said == countersign(RECEIVED, KEY)
    said.verify(KEY.public_key())
    with pytest.raises(SmrfedError, match="SMR-E366"):
        said.verify(Ed25519PrivateKey.generate().public_key())


@given(st.data())
def test_no_field_can_be_changed_under_a_signature(data: st.DataObject) -> None:
    said = countersign(RECEIVED, KEY)
    changed = {
        "run_id": "run-2",
        "round": data.draw(st.integers(4, 1_000_000)),
        "kind": data.draw(st.sampled_from(["evaluate", "finalise", "x"])),
        "site": "b",
        "reply_sha256": data.draw(st.text("0123456789abcdef", min_size=64, max_size=64)),
        "accepted": False,
        "code": "SMR-E514",
    }
    field = data.draw(st.sampled_from(sorted(changed)))
    other = Acknowledgement.model_validate(said.model_dump() | {field: changed[field]})
    with pytest.raises(SmrfedError, match="SMR-E366"):
        other.verify(KEY.public_key())


def test_a_signature_is_of_its_length() -> None:
    for bad in ("", "ab", "zz" * 64, "ab" * 65):
        with pytest.raises(ValidationError):
            Acknowledgement.model_validate(RECEIVED.model_dump() | {"signature": bad})


def statement() -> Statement:
    return Statement(
        run_id="run-1",
        plan_digest="1" * 64,
        site="a",
        written_at="2026-11-21T12:00:00+00:00",
        receipts=1,
        head="2" * 64,
        received=(RECEIVED,),
    )


def test_a_statement_survives_its_file_and_nothing_in_it_can_be_changed(tmp_path: Path) -> None:
    path = tmp_path / "statement.json"
    path.write_bytes(statement().signed(KEY).encode())
    assert Statement.load(path, KEY.public_key()).received == (RECEIVED,)
    whole = json.loads(path.read_bytes())
    for field, value in (
        ("received", []),
        ("site", None),
        ("receipts", 2),
        ("head", "3" * 64),
        ("run_id", "run-2"),
        ("signature", ""),
        ("signature", "00" * 64),
        ("surplus", 1),
    ):
        path.write_text(json.dumps(whole | {field: value}))
        with pytest.raises(SmrfedError, match="SMR-E367"):
            Statement.load(path, KEY.public_key())
    for damaged in (b"", b"{", b"[" * 100_000, b"null", b"\xff"):
        path.write_bytes(damaged)
        with pytest.raises(SmrfedError, match="SMR-E367"):
            Statement.load(path, KEY.public_key())
    with pytest.raises(SmrfedError, match="SMR-E367"):
        Statement.load(tmp_path / "missing", KEY.public_key())
