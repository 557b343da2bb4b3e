"""Archives that the tests of a hospital share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bids_fixture import Person, people, write_bids

MakeArchive = Callable[..., Path]


@pytest.fixture
def make_archive(tmp_path: Path) -> MakeArchive:
    """``make_archive(*persons, name="archive", **options)``: a new archive of these people."""

    def make(*persons: Person, name: str = "archive", **options: Any) -> Path:
        return write_bids(tmp_path / name, *persons, **options)

    return make


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve patients, CN, MCI and AD in turn, some with two sessions; do not change it."""
    return write_bids(tmp_path_factory.mktemp("hospital") / "archive", *people(12))


@pytest.fixture
def listed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a plan sends, listed in this process; the one of its own takes seconds to start."""
    from client.agent.outgoing import _shapes

    for command in ("plans", "policy"):
        monkeypatch.setattr(f"client.commands.{command}.outgoing_arrays", _shapes)
