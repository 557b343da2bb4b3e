"""Digests of files that are not read again."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.archive.problems import Defect, Problem
from client.prepared.file_index import FileIndex

LONG_AGO_NS = 1_700_000_000_000_000_000


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


EDITS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.binary(min_size=1, max_size=3)),
        st.tuples(st.just("replace"), st.binary(min_size=1, max_size=3)),
        # As cp -p and archive programs do: new bytes under the old time.
        st.tuples(st.just("write under an old time"), st.binary(min_size=1, max_size=3)),
        st.tuples(st.just("touch"), st.integers(0, 3)),
        st.tuples(st.just("look"), st.none()),
        st.tuples(st.just("next process"), st.none()),
    ),
    max_size=12,
)


@given(EDITS)
@settings(max_examples=200, deadline=None)
def test_no_sequence_of_edits_gives_a_stale_digest(edits: list[tuple[str, Any]]) -> None:
    with TemporaryDirectory() as name:
        path, kept = Path(name) / "scan.nii", Path(name) / "state" / "files.json"
        path.write_bytes(b"first")
        index = FileIndex(kept)
        for kind, value in edits:
            if kind == "write":
                path.write_bytes(value)
            elif kind == "replace":
                path.with_suffix(".new").write_bytes(value)
                path.with_suffix(".new").replace(path)
            elif kind == "write under an old time":
                path.write_bytes(value)
                os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
            elif kind == "touch":
                os.utime(path, ns=(LONG_AGO_NS + value, LONG_AGO_NS + value))
            elif kind == "next process":
                index.save()
                index = FileIndex(kept)
            assert index.sha256(path) == sha(path.read_bytes())


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as settled at once: nobody waits two seconds in a test."""
    monkeypatch.setattr("client.prepared.file_index._RACY_NS", -1)


@pytest.mark.usefixtures("settled")
def test_an_unchanged_file_is_not_read_again_and_a_withdrawn_one_forgotten(tmp_path: Path) -> None:
    paths = [tmp_path / f"sub-KOWALSKI-{n}.nii" for n in range(3)]
    for path in paths:
        path.write_bytes(path.name.encode())
    index = FileIndex(tmp_path / "files.json")
    digests = [index.sha256(path) for path in paths]
    index.save()
    text = (tmp_path / "files.json").read_text()
    assert "KOWALSKI" not in text
    assert str(tmp_path) not in text
    assert len(json.loads(text)) == 3
    # Only the index knows what they hold now: were one read, its digest would differ.
    planted = text.replace(digests[1], "f" * 64)
    (tmp_path / "files.json").write_text(planted)
    second = FileIndex(tmp_path / "files.json")
    assert [second.sha256(path) for path in paths[:2]] == [digests[0], "f" * 64]
    second.save()
    assert len(json.loads((tmp_path / "files.json").read_text())) == 2


def test_a_fresh_file_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "scan"
    path.write_bytes(b"a")
    index = FileIndex(tmp_path / "files.json")
    index.sha256(path)
    index.save()
    assert not (tmp_path / "files.json").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"a": 1}',
        b'{"a": [1, 2, 3, 4, 5]}',
        b'{"a": ["x"]}',
        b"\xff\xfe",
        b"[" * 9999,
    ],
)
def test_a_damaged_index_costs_time_only(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "files.json").write_bytes(content)
    path = tmp_path / "scan"
    path.write_bytes(b"content")
    assert FileIndex(tmp_path / "files.json").sha256(path) == sha(b"content")


def test_a_file_that_is_gone_is_a_numbered_defect(tmp_path: Path) -> None:
    with pytest.raises(Defect) as told:
        FileIndex(tmp_path / "files.json").sha256(tmp_path / "gone")
    assert told.value.kind is Problem.UNREADABLE_IMAGE
