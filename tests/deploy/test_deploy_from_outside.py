"""From another machine nothing but the fleet path answers: two network namespaces, real nginx."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nginx_front import NGINX, NginxFront

from server.config import CoordinatorConfig, CoordinatorFolder
from shared_model.protocol.keys import create_signing_key
from shared_model.supervision.environment import command
from shared_model.supervision.state_file import read_states
from simulations.deployed.pki import create_node_key, issue_server_certificate

_IP = shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin:/bin")
_WHY = (
    "needs root to make network namespaces" if os.geteuid() != 0
    else "ip (iproute2) is not installed" if _IP is None
    else "nginx is not installed" if NGINX is None
    else ""
)  # fmt: skip
pytestmark = [
    pytest.mark.deploy,
    pytest.mark.slow,
    pytest.mark.skipif(bool(_WHY), reason=_WHY),
]
HOST, OUTSIDE, PORT = "10.231.77.1", "10.231.77.2", 8443
PROBE = Path(__file__).with_name("outside_probe.py")


class Namespaces:
    """A coordinator's machine and an attacker's, with one wire between them."""

    def __init__(self) -> None:
        self.inside, self.outside = (f"smrfed-{side}-{os.getpid()}" for side in "io")

    def __enter__(self) -> Namespaces:
        for name in (self.inside, self.outside):
            made = subprocess.run([str(_IP), "netns", "add", name], capture_output=True, text=True)
            if made.returncode:
                self.__exit__()
                pytest.skip(f"this machine makes no network namespaces: {made.stderr.strip()}")
        wire = ("link", "add", "wire-i", "netns", self.inside, "type", "veth")
        self.ip(*wire, "peer", "name", "wire-o", "netns", self.outside)
        for name, end, address in (
            (self.inside, "wire-i", HOST),
            (self.outside, "wire-o", OUTSIDE),
        ):
            self.ip("-n", name, "addr", "add", f"{address}/24", "dev", end)
            self.ip("-n", name, "link", "set", end, "up")
            self.ip("-n", name, "link", "set", "lo", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for name in (self.inside, self.outside):
            subprocess.run([str(_IP), "netns", "delete", name], capture_output=True)

    def ip(self, *arguments: str) -> None:
        subprocess.run([str(_IP), *arguments], check=True)

    def start(self, name: str, *line: str) -> subprocess.Popen[bytes]:
        """A process in a namespace; ``ip netns exec`` becomes it."""
        return subprocess.Popen([str(_IP), "netns", "exec", name, *line])


@pytest.fixture(scope="module")
def found() -> Iterator[dict[str, Any]]:
    """What the attacker found."""
    with tempfile.TemporaryDirectory(prefix="smrfed-") as path, Namespaces() as spaces:
        folder = Path(path)
        home = CoordinatorFolder(folder / "home")
        (home.path / "pki").mkdir(parents=True)
        config = CoordinatorConfig(name="t", public_address=f"{HOST}:{PORT}")
        home.write_config(config)
        certificate = issue_server_certificate(home.path / "pki", [HOST])
        create_signing_key(home.signing_key)
        node_key = folder / "north"
        public = create_node_key(node_key)
        front = NginxFront(
            folder / "nginx", certificate, config.superlink_port, config.enrolment_port
        )
        here = folder / "nginx" / "smrfed.d" / "here.conf"
        here.write_text(here.read_text().replace(f"127.0.0.1:{front.port}", f"{HOST}:{PORT}"))
        started = [
            spaces.start(
                spaces.inside, command("smrfed-coordinator"), "up", "--home", str(home.path)
            ),
            spaces.start(
                spaces.inside, str(NGINX), "-p", str(folder / "nginx"),
                "-c", str(folder / "nginx" / "nginx.conf"), "-g", "user root; daemon off;",
            ),
        ]  # fmt: skip
        try:
            wait_until_up(home)
            register = (
                "import sys; from pathlib import Path; from server.flower.control import ControlApi"
                "\nwith ControlApi('127.0.0.1:18000', Path(sys.argv[1])) as c:"
                "\n    c.register_node('north', Path(sys.argv[2]))"
            )
            line = (sys.executable, "-P", "-c", register, str(home.authority), str(public))
            assert spaces.start(spaces.inside, *line).wait(120) == 0
            probe = subprocess.run(
                [str(_IP), "netns", "exec", spaces.outside, sys.executable, "-P", str(PROBE),
                 HOST, str(PORT), str(home.authority), str(node_key)],
                capture_output=True, text=True, timeout=500,
            )  # fmt: skip
            assert probe.returncode == 0, probe.stderr
            yield json.loads(probe.stdout.splitlines()[-1])
        finally:
            for process in reversed(started):
                process.terminate()
            for process in started:
                process.wait(60)


def wait_until_up(home: CoordinatorFolder) -> None:
    deadline = time.monotonic() + 150
    while True:
        now = {s["name"]: s["state"] for s in read_states(home.logs / "processes.json")}
        if now.get("superexec") == "running":
            return
        assert time.monotonic() < deadline, now
        time.sleep(0.2)


def test_one_port_is_open_and_it_speaks_tls_only(found: dict[str, Any]) -> None:
    assert found["ports"] == [PORT]
    assert found["plain http"] == 400


def test_only_health_answers_without_a_key(found: dict[str, Any]) -> None:
    assert found["health"] == 200
    for method in ("get", "post"):
        answered = {path: status for path, status in found[method].items() if status < 400}
        assert answered == {}
    assert set(found["post"].values()) <= {400, 401, 403, 404, 405}
    assert found["enrol"] >= 400


def test_nobody_outside_starts_runs_admits_nodes_or_takes_tasks(found: dict[str, Any]) -> None:
    assert found["control"] == dict.fromkeys(
        ("list-runs", "list-nodes", "start-run", "register-node"), 403
    )
    assert found["runtime"] == 403


def test_a_stranger_with_the_certificate_of_the_authority_is_no_node(found: dict[str, Any]) -> None:
    assert found["stranger"]["register"] != "done"
    assert found["stranger"]["activate"] == "refused"


def test_a_registered_site_is_a_node_and_nothing_more(found: dict[str, Any]) -> None:
    # That it gets through shows that the others were not refused because nothing worked.
    assert found["registered"]["activate"] == "done"
    assert found["registered"]["register"] != "done"
