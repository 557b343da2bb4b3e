"""Receipts of refused instructions: every number is there, and no flood fills the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.egress.refusals import Refusals, Refused
from shared_model.errors import SmrfedError


def test_a_flood_of_garbage_takes_a_few_lines(tmp_path: Path) -> None:
    path = tmp_path / "refusals.jsonl"
    refusals = Refusals(path)
    for _ in range(20_000):
        refusals.note(Refused(code="SMR-E413", signed=False))
    refusals.note(Refused(code="SMR-E401", signed=True, run_id="run", round=3, kind="train"))
    lines = refusals.read()
    assert [line.count for line in lines] == [2**n for n in range(15)] + [1]
    assert lines[-1].refused.round == 3
    assert path.stat().st_size < 16 * 600
    # What strangers send does not hide what the coordinator itself sends.
    refusals.note(Refused(code="SMR-E413", signed=True))
    assert refusals.read()[-1].refused.signed


def test_a_restart_goes_on_from_the_last_written_count(tmp_path: Path) -> None:
    path = tmp_path / "refusals.jsonl"
    for _ in range(5):
        Refusals(path).note(Refused(code="SMR-E113", signed=False))
    # Each start knows what was written: 1, 2, and then 3, which is not written.
    assert [line.count for line in Refusals(path).read()] == [1, 2]


def test_an_altered_record_is_found_and_a_full_disk_is_told(tmp_path: Path) -> None:
    path = tmp_path / "refusals.jsonl"
    refusals = Refusals(path)
    refusals.note(Refused(code="SMR-E113", signed=False))
    path.write_text(path.read_text().replace("SMR-E113", "SMR-E402"))
    with pytest.raises(SmrfedError, match="SMR-E326"):
        refusals.read()
    (tmp_path / "folder").mkdir()
    with pytest.raises(SmrfedError, match="SMR-E327"):
        Refusals(tmp_path / "folder").note(Refused(code="SMR-E113", signed=False))
