"""One watchdog for a folder, and whoever asks for it is not taken for one."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from server.config import CoordinatorConfig, CoordinatorFolder
from server.watchdog.command import is_watched


@pytest.fixture
def home(tmp_path: Path) -> CoordinatorFolder:
    folder = CoordinatorFolder(tmp_path)
    folder.runs.mkdir()
    folder.write_config(CoordinatorConfig(name="test", public_address="localhost:443"))
    return folder


@pytest.mark.parametrize("let_go", [True, False])
def test_the_lock_of_a_moment_keeps_no_watchdog_out(home: CoordinatorFolder, let_go: bool) -> None:
    look = [sys.executable, "-m", "server.cli", "watch", "--once", "--home", str(home.path)]
    with (home.path / "watchdog.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert is_watched(home)
        process = subprocess.Popen(look, stderr=subprocess.PIPE, text=True)
        if let_go:
            # Held while it tries, and let go before it has tried for the last time.
            _wait_until_open(process.pid, file.name)
            time.sleep(0.1)
            fcntl.flock(file, fcntl.LOCK_UN)
        _, said = process.communicate(timeout=60)
    assert process.returncode == (not let_go)
    assert ("SMR-E527" in said) == (not let_go)
    assert not is_watched(home)


def _wait_until_open(pid: int, path: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            # A file may be closed between the listing and the look at it.
            with suppress(FileNotFoundError):
                if link.readlink() == Path(path).resolve():
                    return
        time.sleep(0.01)
    raise AssertionError("it never tried")
