"""A second supervisor, or a port that is taken, is refused at once and not after minutes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from shared_model.errors import SmrfedError
from shared_model.supervision.only_one import only_one, require_free_port

_HOLDER = """
import sys, pathlib, time
from shared_model.supervision.only_one import only_one
with only_one((pathlib.Path(sys.argv[1]),), "SMR-E552", "up"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_second_is_refused_until_the_first_is_gone_however_it_ends(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    first = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(folder)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with (
            pytest.raises(SmrfedError, match="SMR-E552"),
            only_one((tmp_path / "other", folder), "SMR-E552", "up"),
        ):
            pass
        with only_one((tmp_path / "other",), "SMR-E552", "up"):
            pass
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait(30)
    with only_one((folder,), "SMR-E552", "up"):
        assert (folder / "up.lock").stat().st_mode & 0o077 == 0


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SmrfedError, match=f"(?s){port}.*node_port"):
            require_free_port(port, "SMR-E479", "node_port", patience_s=0.0)
    require_free_port(port, "SMR-E479", "node_port", patience_s=10.0)
