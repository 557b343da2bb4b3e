"""What is unsafe is found, and what is safe is not: files, secrets, certificates, clocks, ports."""

from __future__ import annotations

import datetime
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from shared_model.supervision import safety
from shared_model.supervision.listening import listening_addresses, outside_loopback
from shared_model.supervision.secret_file import ensure_secret
from simulations.deployed.pki import ServerCertificate, issue_server_certificate

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> ServerCertificate:
    return issue_server_certificate(tmp_path_factory.mktemp("pki"))


def test_a_private_file_of_ours_is_safe(tmp_path: Path) -> None:
    assert safety.unsafe_private_file(ensure_secret(tmp_path / "s")) is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_a_key_that_others_may_read_or_write_is_not(tmp_path: Path, mode: int) -> None:
    secret = ensure_secret(tmp_path / "s")
    secret.chmod(mode)
    found = safety.unsafe_private_file(secret)
    assert found is not None
    assert f"{mode:04o}" in found.found


def test_a_missing_key_a_link_and_an_open_folder_are_not(tmp_path: Path) -> None:
    secret = ensure_secret(tmp_path / "folder" / "s")
    assert safety.unsafe_private_file(tmp_path / "absent") is not None
    link = tmp_path / "link"
    link.symlink_to(secret)
    assert safety.unsafe_private_file(link) is not None
    secret.parent.chmod(0o777)
    assert "replace" in getattr(safety.unsafe_private_file(secret), "what", "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_of_another_account_is_not(tmp_path: Path) -> None:
    secret = ensure_secret(tmp_path / "s")
    os.chown(secret, 61234, 61234)
    assert "another account" in getattr(safety.unsafe_private_file(secret), "what", "")


@pytest.mark.parametrize(("content", "safe"), [
    (b"", False), (b"x", False), (b"short but not empty", False), (b"\0" * 48, False),
    (bytes(range(32)), True),
])  # fmt: skip
def test_a_secret_that_can_be_guessed_is_not(tmp_path: Path, content: bytes, safe: bool) -> None:
    (tmp_path / "s").write_bytes(content)
    assert (safety.unsafe_secret(tmp_path / "s") is None) == safe


def test_a_secret_is_made_once(tmp_path: Path) -> None:
    first = ensure_secret(tmp_path / "s").read_bytes()
    assert ensure_secret(tmp_path / "s").read_bytes() == first
    assert safety.unsafe_secret(tmp_path / "s") is None


@pytest.mark.parametrize(
    ("host", "when", "safe"),
    [
        ("127.0.0.1", NOW, True),
        ("localhost", NOW, True),
        (None, NOW, True),
        ("fl.example.org", NOW, False),
        ("127.0.0.1", NOW + 31 * DAY, False),
        ("127.0.0.1", NOW - DAY, False),
    ],
)
def test_a_certificate_must_be_valid_now_and_for_the_host(
    pki: ServerCertificate, host: str | None, when: datetime.datetime, safe: bool
) -> None:
    found = safety.unsafe_certificate(pki.certificate, pki.authority, host, when)
    assert (found is None) == safe


def test_a_certificate_of_another_authority_is_refused(
    pki: ServerCertificate, tmp_path: Path
) -> None:
    other = issue_server_certificate(tmp_path)
    assert safety.unsafe_certificate(pki.certificate, other.authority, None, NOW) is not None
    (tmp_path / "rubbish").write_text("no certificate")
    assert safety.unsafe_certificate(tmp_path / "rubbish", pki.authority, None, NOW) is not None


@pytest.mark.parametrize(
    ("now", "newest", "safe"),
    [
        (datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC), None, False),
        (datetime.datetime(2199, 1, 1, tzinfo=datetime.UTC), None, False),
        (NOW, None, True),
        (NOW, NOW - DAY, True),
        (NOW, NOW + DAY, False),
    ],
)
def test_a_clock_that_is_behind_what_was_written_is_wrong(
    now: datetime.datetime, newest: datetime.datetime | None, safe: bool
) -> None:
    assert (safety.unsafe_clock(now, newest=newest) is None) == safe


LISTENER = """
import socket, sys, time
one = socket.socket(getattr(socket, sys.argv[1])); one.bind((sys.argv[2], 0)); one.listen()
print(one.getsockname()[1], flush=True); time.sleep(600)
"""


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    ("family", "host", "outside"),
    [
        ("AF_INET", "127.0.0.1", False),
        ("AF_INET", "0.0.0.0", True),
        ("AF_INET6", "::1", False),
        ("AF_INET6", "::", True),
    ],
)
def test_the_kernel_says_where_a_process_listens(family: str, host: str, outside: bool) -> None:
    if family == "AF_INET6" and not _has_ipv6():
        pytest.skip("no IPv6 on this machine")
    line = [sys.executable, "-c", LISTENER, family, host]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        assert listening_addresses({process.pid}) == {(host, port)}
        assert outside_loopback({process.pid}) == ({(host, port)} if outside else set())
    finally:
        process.kill()
        process.wait()


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
    except OSError:
        return False
    return True
