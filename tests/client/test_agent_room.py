"""A full disk at a hospital: looked at before a question is charged; asking costs nothing."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from agent_site import build_hospital
from small_site import small_atlas

from client.agent.replies import ReplyStore
from client.agent.room import require_room
from client.privacy.ledger import Ledger
from client.training.site_model import SiteModel
from shared_model.errors import SmrfedError

SHAPES = {"head.weight": (1000, 1000)}


@pytest.mark.parametrize(("free", "enough"), [(27_000_000, False), (30_000_000, True)])
def test_room_for_the_answer_its_copies_and_the_records(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, enough: bool
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    if enough:
        require_room(tmp_path, SHAPES)
        return
    with pytest.raises(SmrfedError, match="SMR-E453"):
        require_room(tmp_path, SHAPES)


def test_a_full_disk_is_charged_once_however_often_the_coordinator_asks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, archive: Path
) -> None:
    hospital = build_hospital(tmp_path / "site", archive)
    agent = hospital.agent()
    instruction = hospital.instruction(
        SiteModel.build(hospital.plan, small_atlas()).shared_arrays()
    )
    free = {"bytes": 1 << 40}
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free["bytes"]))
    save = ReplyStore.save

    def full(*_: object) -> None:
        free["bytes"] = 1000
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ReplyStore, "save", full)
    try:
        with pytest.raises(SmrfedError, match="SMR-E410"):
            agent.handle(instruction)
        for _ in range(5):
            with pytest.raises(SmrfedError, match="SMR-E453"):
                agent.handle(instruction)
        assert [e.state for e in Ledger(hospital.state.ledger).entries()] == ["commit"]
        monkeypatch.setattr(ReplyStore, "save", save)
        free["bytes"] = 1 << 40
        agent.handle(instruction)
    finally:
        agent.close()
    assert [e.state for e in Ledger(hospital.state.ledger).entries()] == ["commit", "seal"]
