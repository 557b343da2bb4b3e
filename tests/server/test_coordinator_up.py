"""What ``smrfed-coordinator up`` would start, and the bundle that its ServerApp accepts."""

from __future__ import annotations

import datetime
import hashlib
import importlib
import os
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import flwr.supercore.superexec.run_superexec
import pytest

from server.config import CoordinatorConfig, CoordinatorFolder
from server.enrolment import authority as authority_module
from server.enrolment.authority import create_authority, issue_server_certificate
from server.flower.fab import write_app_bundle
from server.supervisor.flower_names import EXECUTOR, REPLACED, require_names
from server.supervisor.pinned import guarded, own_bundle_sha256
from server.supervisor.up import (
    Looking,
    check_coordinator,
    coordinator_specs,
    gave_up,
    only_loopback,
    private_files,
    renew_certificate,
)
from shared_model.errors import SmrfedError
from shared_model.supervision.process_spec import ProcessSpec
from shared_model.supervision.secret_file import ensure_secret
from shared_model.supervision.supervisor import Supervisor


@pytest.fixture
def home(tmp_path: Path) -> CoordinatorFolder:
    folder = CoordinatorFolder(tmp_path)
    folder.write_config(CoordinatorConfig(name="t", public_address="fl.example.org:443"))
    return folder


def test_only_commands_that_exist_and_are_not_switched_off_are_started(
    home: CoordinatorFolder,
) -> None:
    def names(existing: set[str], without: tuple[str, ...] = ()) -> list[str]:
        return [spec.name for spec in coordinator_specs(home, existing, without)]

    assert names({"report"}) == ["superlink", "superexec"]
    assert names({"watch", "dashboard"}, ("dashboard",)) == ["superlink", "superexec", "watch"]
    specs = coordinator_specs(home, {"watch", "enrolment-service"})
    # A run needs the first two; the others end nothing.
    assert [spec.essential for spec in specs] == [True, True, False, False]
    assert "--host 127.0.0.1" in " ".join(specs[0].command)


def test_the_authoritys_key_may_be_kept_elsewhere(home: CoordinatorFolder) -> None:
    assert home.authority_key not in private_files(home)
    home.authority_key.parent.mkdir()
    home.authority_key.touch()
    assert home.authority_key in private_files(home)


def test_the_serverapp_accepts_the_bundle_of_this_installation_and_no_other(tmp_path: Path) -> None:
    assert own_bundle_sha256() == write_app_bundle(tmp_path).sha256
    installed: list[bytes] = []
    content = b"bundle"
    install = guarded(lambda fab, **_: installed.append(fab), hashlib.sha256(content).hexdigest())
    install(content, skip_prompt=True)
    assert installed == [content]
    with pytest.raises(SmrfedError, match="SMR-E549"):
        install(b"another", skip_prompt=True)
    assert installed == [content]


def test_flower_at_the_pinned_version_has_the_names_of_the_coordinator() -> None:
    module = importlib.import_module("flwr.superlink.runtime.run_serverapp")
    require_names(module, "run_serverapp", REPLACED)
    require_names(flwr.supercore.superexec.run_superexec, "run_superexec", EXECUTOR)
    with pytest.raises(SmrfedError, match="SMR-E548"):
        require_names(module, "run_serverapp", {"install_from_hub": ()})


@dataclass
class Lives:
    """Stands for a running process of the supervisor."""

    name: str
    pid: int
    terminated: int = 0

    def terminate(self) -> None:
        self.terminated += 1


def test_a_reissued_certificate_starts_the_superlink_again_once_and_nothing_else(
    home: CoordinatorFolder,
) -> None:
    create_authority(home)
    # No such process: nobody listens anywhere.
    link, other = Lives("superlink", 2**22 + 1), Lives("superexec", 2**22 + 2)
    look = Looking(home)
    for _ in range(3):
        look([link, other])  # type: ignore[list-item]
    assert link.terminated == 0
    issue_server_certificate(home)
    look([link, other])  # type: ignore[list-item]
    assert (link.terminated, other.terminated) == (1, 0)
    look([other])  # type: ignore[list-item]
    again = Lives("superlink", 2**22 + 3)
    for _ in range(3):
        look([again, other])  # type: ignore[list-item]
    assert again.terminated == 0


def test_a_coordinator_that_was_off_for_two_years_starts_with_a_new_certificate(
    home: CoordinatorFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authority_module, "SERVER_DAYS", 0)
    create_authority(home)
    for needed in (home.signing_key, home.superexec_secret):
        ensure_secret(needed)
    now = datetime.datetime.now(datetime.UTC)
    with pytest.raises(SmrfedError, match="SMR-E545"):
        check_coordinator(home, now)
    monkeypatch.setattr(authority_module, "SERVER_DAYS", 396)
    renew_certificate(home)
    check_coordinator(home, now)
    # With the authority's key kept elsewhere nothing is touched.
    home.authority_key.unlink()
    before = home.certificate.read_bytes()
    renew_certificate(home)
    assert home.certificate.read_bytes() == before


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(("host", "ends"), [("0.0.0.0", True), ("127.0.0.1", False)])
def test_a_process_that_listens_outside_ends_everything(
    tmp_path: Path, host: str, ends: bool
) -> None:
    program = (
        f"import socket, time; s = socket.socket(); s.bind(({host!r}, 0)); s.listen()\n"
        "print('listening', flush=True); time.sleep(600)"
    )
    spec = ProcessSpec("p", (sys.executable, "-c", program), tmp_path / "p.log", dict(os.environ))
    supervisor = Supervisor([spec], tmp_path / "p.json", gave_up, look=only_loopback)
    failed: list[SmrfedError] = []

    def run() -> None:
        try:
            supervisor.run()
        except SmrfedError as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    deadline = time.monotonic() + 60
    while not (spec.log.exists() and "listening" in spec.log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if not ends:
        time.sleep(2.5)
        assert thread.is_alive()
        supervisor.stop()
    thread.join(60)
    assert [error.code for error in failed] == (["SMR-E542"] if ends else [])
    assert supervisor.states[0].state == "stopped"
