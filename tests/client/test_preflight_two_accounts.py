"""The agent's account looks where the connection is another account's: nothing breaks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_preflight_site import again, join, site  # noqa: F401 (a fixture)

from client.observability.site_metrics import site_metrics
from client.preflight.catalogue import checks_of
from client.preflight.setup.connection_files import check_courier, check_joined
from client.preflight.setup.file_modes import check_modes
from client.preflight.site import CheckedSite
from client.status_page.readiness import readiness
from shared_model.preflight.checks import NotLookedAt
from shared_model.supervision.state_file import read_states, write_states


@pytest.fixture
def closed(site: CheckedSite, monkeypatch: pytest.MonkeyPatch) -> CheckedSite:  # noqa: F811
    """A joined hospital whose connection folder this account may not enter."""
    join(site)
    folder = site.connection_folder.path
    write_states(folder / "logs" / "processes.json", [{"name": "node"}])
    stat, opened = Path.stat, Path.open

    def refuses(path: Path) -> None:
        if path != folder and path.is_relative_to(folder):
            raise PermissionError(13, "Permission denied", str(path))

    def closed_stat(self: Path, **options: Any) -> Any:
        refuses(self)
        return stat(self, **options)

    def closed_open(self: Path, *arguments: Any, **options: Any) -> Any:
        refuses(self)
        return opened(self, *arguments, **options)

    monkeypatch.setattr(Path, "stat", closed_stat)
    monkeypatch.setattr(Path, "open", closed_open)
    return again(site)


def test_the_checks_say_that_another_account_has_the_connection(closed: CheckedSite) -> None:
    assert not closed.joined
    names = [check.what for check in checks_of(closed)]
    assert "joined" in names
    for look in (check_joined, check_courier):
        with pytest.raises(NotLookedAt, match="network part's account"):
            look(closed)
    assert "closed to others" in str(check_modes(closed)) or "in order" in str(check_modes(closed))
    assert {"joined", "ledger"} <= {finding.what for finding in readiness(closed.config)}


def test_the_metrics_do_without_what_is_closed(closed: CheckedSite) -> None:
    text = site_metrics(closed.config)
    assert "process_up" not in text
    assert "UnboundLocalError" not in text


def test_states_that_cannot_be_read_or_make_no_sense_are_none(closed: CheckedSite) -> None:
    path = closed.connection_folder.path / "logs" / "processes.json"
    assert read_states(path) == ()
    other = closed.config.state_dir / "processes.json"
    for content in ({"supervisor": 2**80, "processes": [{}]}, {"supervisor": 1}, [], 3):
        other.write_text(json.dumps(content))
        assert read_states(other) == ()
    other.write_text(json.dumps({"supervisor": 1, "processes": [{"name": "a"}]}))
    assert read_states(other) == ({"name": "a"},)  # of another account, or of root
