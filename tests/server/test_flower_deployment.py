"""deployment.toml round-trips, resolves paths, and says what is wrong; events are followed live."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.flower.deployment import Deployment
from server.flower.event_log import EventFollower, EventLog
from server.rounds.events import Event
from server.rounds.settings import DriverSettings
from shared_model.errors import SmrfedError


def test_settings_survive_the_file(tmp_path: Path) -> None:
    written = Deployment(
        coordinator_key=Path("/keys/coordinator.pem"),
        site_keys=Path("/keys/sites"),
        driver=DriverSettings(poll_interval_s=0.25, silence_s=3.0),
    )
    written.save(tmp_path)
    assert Deployment.load(tmp_path) == written


def test_paths_are_relative_to_the_run_directory(tmp_path: Path) -> None:
    Deployment(coordinator_key=Path("../key.pem"), site_keys=Path("keys")).save(tmp_path)
    read = Deployment.load(tmp_path)
    assert read.coordinator_key == tmp_path / "../key.pem"
    assert read.site_keys == tmp_path / "keys"


@pytest.mark.parametrize(
    "text", [None, "coordinator_key = ", 'coordinator_key = "a"', 'site_keys = "b"\nmore = 1']
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "deployment.toml").write_text(text)
    with pytest.raises(SmrfedError, match=r"deployment\.toml") as raised:
        Deployment.load(tmp_path)
    assert raised.value.code == "SMR-E555"


def test_a_follower_sees_what_comes_after_it_and_waits_for_whole_lines(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    log(Event("round_started", 1, 3, "train"))
    follower = EventFollower(tmp_path)
    assert list(follower.new()) == []
    accepted = Event("site_accepted", 1, 3, "train", "north", None)
    log(accepted)
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"kind": "round_sa')
    assert list(follower.new()) == [accepted]
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('ved", "round": 1, "rounds": 3, "phase": "train"}\n')
    assert list(follower.new()) == [Event("round_saved", 1, 3, "train")]
