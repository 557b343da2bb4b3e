"""A hospital on another machine: a network namespace, and a wire that can be cut or slowed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from simulations.deployed.supervised import SupervisedFederation

_PATH = "/usr/sbin:/sbin:/usr/bin:/bin"
_IP, _TC = shutil.which("ip", path=_PATH), shutil.which("tc", path=_PATH)
FORWARDER = Path(__file__).with_name("forwarder.py")
# Two of these tests may run at the same time on one machine.
_NET = f"10.231.{100 + os.getpid() % 150}"
HERE, THERE = f"{_NET}.1", f"{_NET}.2"


def missing() -> str:
    """Why there can be no such wire here, or nothing."""
    if os.geteuid() != 0:
        return "needs root to make network namespaces"
    absent = [name for name, found in (("ip", _IP), ("tc", _TC)) if found is None]
    return f"not installed (iproute2): {', '.join(absent)}" if absent else ""


class Wire:
    """Between this machine (the coordinator's) and one hospital's."""

    def __init__(self) -> None:
        self.name = f"smrfed-site-{os.getpid()}"
        self._near, self._far = f"smr{os.getpid() % 10**8}h", "smrfed0"

    @property
    def inside(self) -> list[str]:
        """Words before a command that is to run at the hospital."""
        return [str(_IP), "netns", "exec", self.name]

    def __enter__(self) -> Wire:
        made = subprocess.run([str(_IP), "netns", "add", self.name], capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"this machine makes no network namespaces: {made.stderr.strip()}")
        try:
            _do(_IP, "link", "add", self._near, "type", "veth",
                "peer", "name", self._far, "netns", self.name)  # fmt: skip
            _do(_IP, "addr", "add", f"{HERE}/24", "dev", self._near)
            _do(_IP, "link", "set", self._near, "up")
            inside = ("-n", self.name)
            _do(_IP, *inside, "addr", "add", f"{THERE}/24", "dev", self._far)
            for device in (self._far, "lo"):
                _do(_IP, *inside, "link", "set", device, "up")
            self.at_rate("1gbit")
        except subprocess.CalledProcessError as error:
            self.__exit__()
            pytest.skip(f"this kernel cannot shape a wire: {error}")
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run([str(_IP), "netns", "delete", self.name], capture_output=True)
        subprocess.run([str(_IP), "link", "delete", self._near], capture_output=True)

    def at_rate(self, rate: str, latency: str = "800ms", burst: str = "32kb") -> None:
        """So many bits per second in each direction; what waits longer is lost."""
        shape = ("root", "tbf", "rate", rate, "burst", burst, "latency", latency)
        _do(_TC, "qdisc", "replace", "dev", self._near, *shape)
        _do(_TC, "-n", self.name, "qdisc", "replace", "dev", self._far, *shape)

    def cut(self) -> None:
        """Packets vanish without a word, in both directions."""
        # A bucket smaller than any packet: as if a firewall dropped everything.
        self.at_rate("8bit", latency="1ms", burst="10b")

    def mend(self) -> None:
        """As before."""
        self.at_rate("1gbit")

    def forward(self, federation: SupervisedFederation) -> None:
        """What nginx does for a coordinator: the SuperLink listens on loopback alone."""
        line = [sys.executable, "-P", str(FORWARDER), HERE, str(federation.superlink_port)]
        federation.processes.start("forwarder", line)


def _do(program: str | None, *arguments: str) -> None:
    subprocess.run([str(program), *arguments], check=True, capture_output=True)
