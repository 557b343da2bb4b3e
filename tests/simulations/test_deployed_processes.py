"""Processes of a deployed federation: none outlives its block, whatever ends the block."""

from __future__ import annotations

import os
import signal
import ssl
import stat
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from shared_model.errors import SmrfedError
from shared_model.supervision.secret_file import ensure_secret
from simulations.deployed.environment import offline_environment
from simulations.deployed.pki import create_node_key, issue_server_certificate
from simulations.deployed.processes import ProcessSet, free_ports

# Starts a child of its own that ignores SIGTERM, tells both ids, and waits.
FAMILY = """
import os, signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"])
time.sleep(0.3)
print(os.getpid(), child.pid, flush=True)
time.sleep(600)
"""


def family_of(log: Path) -> list[int]:
    """Ids of a FAMILY process and its child, once it has told them."""
    deadline = time.monotonic() + 30
    while not log.exists() or not log.read_text().endswith("\n"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return [int(part) for part in log.read_text().split()]


def gone(pids: list[int], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while any(psutil.pid_exists(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_leaving_the_block_ends_processes_and_their_children(tmp_path: Path) -> None:
    with ProcessSet(tmp_path, os.environ) as processes:
        child = processes.start("family", [sys.executable, "-c", FAMILY])
        pids = family_of(child.log)
        assert all(psutil.pid_exists(pid) for pid in pids)
    assert gone(pids, 10)


def test_an_exception_ends_them_too(tmp_path: Path) -> None:
    # A test run in a shell's background has Ctrl-C switched off.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    pids: list[int] = []

    def interrupted() -> None:
        with ProcessSet(tmp_path, os.environ) as processes:
            pids.extend(family_of(processes.start("f", [sys.executable, "-c", FAMILY]).log))
            signal.raise_signal(signal.SIGINT)

    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(pids) == 2
    assert gone(pids, 10)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_guardian_ends_them_when_their_parent_is_killed(
    tmp_path: Path, number: signal.Signals
) -> None:
    program = (
        "import os, sys, time; from pathlib import Path\n"
        "from simulations.deployed.processes import ProcessSet\n"
        f"with ProcessSet(Path({str(tmp_path)!r}), os.environ) as p:\n"
        f"    p.start('family', [sys.executable, '-c', {FAMILY!r}]); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program])
    pids = family_of(tmp_path / "family.log")
    parent.send_signal(number)
    parent.wait()
    assert gone(pids, 15)


def test_a_stopped_process_is_forgotten_and_can_be_started_again(tmp_path: Path) -> None:
    with ProcessSet(tmp_path, os.environ) as processes:
        first = processes.start("sleeper", [sys.executable, "-c", "import time; time.sleep(600)"])
        processes.stop(["sleeper"])
        assert not first.running
        assert processes.children == ()
        second = processes.start("sleeper", [sys.executable, "-c", "print('again')"])
        processes.wait_until(lambda: not second.running, "the end", 30)
        assert second.log_tail() == "again"


def test_waiting_names_the_process_that_died_and_shows_its_log(tmp_path: Path) -> None:
    with ProcessSet(tmp_path, os.environ) as processes:
        processes.start("fragile", [sys.executable, "-c", "raise SystemExit('no such key')"])
        with pytest.raises(SmrfedError, match="no such key") as raised:
            processes.wait_until(lambda: False, "readiness", 30, ["fragile"])
    assert raised.value.code == "SMR-E553"


def test_waiting_has_an_end(tmp_path: Path) -> None:
    with (
        ProcessSet(tmp_path, os.environ) as processes,
        pytest.raises(SmrfedError, match=r"not reached within 0\.2 s") as raised,
    ):
        processes.wait_until(lambda: False, "readiness", 0.2)
    assert raised.value.code == "SMR-E554"


class Quiet(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments: object) -> None: ...


def test_the_server_certificate_holds_for_loopback_under_its_authority_only(tmp_path: Path) -> None:
    files = issue_server_certificate(tmp_path / "a")
    other = issue_server_certificate(tmp_path / "b")
    server = HTTPServer(("127.0.0.1", 0), Quiet)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"https://127.0.0.1:{server.server_port}/"
    try:
        trust = ssl.create_default_context(cafile=str(files.authority))
        with urlopen(url, context=trust, timeout=10) as answer:
            assert answer.status == 200
        with pytest.raises(URLError, match="CERTIFICATE_VERIFY_FAILED"):
            urlopen(
                url, context=ssl.create_default_context(cafile=str(other.authority)), timeout=10
            )
    finally:
        server.shutdown()
        server.server_close()


def test_a_node_key_is_a_p384_pair_in_openssh_format_for_its_owner_alone(tmp_path: Path) -> None:
    public = create_node_key(tmp_path / "keys" / "site")
    private = load_ssh_private_key((tmp_path / "keys" / "site").read_bytes(), password=None)
    assert isinstance(private, EllipticCurvePrivateKey)
    assert private.curve.name == "secp384r1"
    assert load_ssh_public_key(public.read_bytes()) == private.public_key()
    assert stat.S_IMODE((tmp_path / "keys" / "site").stat().st_mode) == 0o600


def test_a_secret_is_long_random_and_private(tmp_path: Path) -> None:
    first, second = (ensure_secret(tmp_path / name) for name in ("a", "b"))
    assert len(first.read_bytes()) >= 32
    assert first.read_bytes() != second.read_bytes()
    assert stat.S_IMODE(first.stat().st_mode) == 0o600


def test_free_ports_are_distinct() -> None:
    assert len(set(free_ports(20))) == 20


def test_flower_is_told_to_fetch_report_and_install_nothing(tmp_path: Path) -> None:
    program = (
        "from flwr.supercore.telemetry import FLWR_TELEMETRY_ENABLED as t\n"
        "from flwr.common.constant import RUNTIME_DEPENDENCY_INSTALL as i\n"
        "from flwr.supercore.utils import get_flwr_home as h\n"
        "from flwr.supercore.constant import FLWR_DISABLE_UPDATE_CHECK as u\n"
        "import os; print(t, i, os.environ[u], h())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=offline_environment(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["0", "False", "1", str(tmp_path)]
