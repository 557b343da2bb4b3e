"""A machine of our own: Debian with systemd as its first process, booted in namespaces.

``SMRFED_BOOT_ROOT=FOLDER`` keeps the Debian tree between runs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NEEDED = ("debootstrap", "systemd-nspawn", "nsenter", "unshare")
PACKAGES = "python3,python3-venv,systemd-sysv,dbus,nginx-light,iproute2,curl,ca-certificates"
# In a mount namespace with one cgroup tree, which the system inside may manage.
_BOOT = (
    "mount -t cgroup2 none /sys/fs/cgroup && exec systemd-nspawn --quiet --directory={root} --boot "
    "--register=no --keep-unit --private-network --console=pipe --machine=smrfed-test"
)


def missing() -> str | None:
    """Why no machine can be booted here, or None."""
    absent = [name for name in NEEDED if shutil.which(name) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    return None if os.geteuid() == 0 else "booting a machine in namespaces needs root"


def debian(folder: Path) -> Path:
    """A Debian tree with systemd, nginx and Python."""
    root = Path(os.environ.get("SMRFED_BOOT_ROOT") or folder / "debian")
    if not (root / "usr/bin/systemctl").exists():
        command = [
            "debootstrap",
            "--variant=minbase",
            f"--include={PACKAGES}",
            "bookworm",
            str(root),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:]
    return root


class Machine:
    """A booted machine; commands run in it as root, or as another account."""

    def __init__(self, root: Path, leader: int) -> None:
        self.root = root
        self._leader = leader

    def run(
        self, *command: str, account: str | None = None, given: str = "", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command, with the programs of ``/opt/smrfed/current`` on its path."""
        enter = ["nsenter", f"--target={self._leader}", "-m", "-p", "-n", "-u", "-i", "--"]
        become = ["setpriv", f"--reuid={account}", f"--regid={account}", "--init-groups"]
        path = "PATH=/opt/smrfed/current/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        line = [*enter, *(become if account else []), "env", path, "HOME=/tmp", *command]
        done = subprocess.run(
            line, input=given, capture_output=True, text=True, check=False, timeout=1200, cwd="/"
        )
        if check:
            assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done

    def wait(self, *command: str, contains: str = "", account: str | None = None) -> str:
        """Until a command succeeds and says so."""
        deadline = time.monotonic() + 300
        while True:
            done = self.run(*command, account=account, check=False)
            if done.returncode == 0 and contains in done.stdout:
                return done.stdout
            assert time.monotonic() < deadline, (command, done.stdout, done.stderr)
            time.sleep(2)

    def process_of(self, unit: str) -> str:
        """The main process of a unit."""
        return self.run("systemctl", "show", "--value", "--property=MainPID", unit).stdout.strip()


@contextmanager
def booted(root: Path) -> Iterator[Machine]:
    """Boot the tree, and power it off in the end."""
    (root / "etc/machine-id").write_text("")
    command = ["unshare", "--mount", "sh", "-c", _BOOT.format(root=root)]
    container = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
    )
    try:
        machine = Machine(root, _leader_of(container))
        machine.wait("systemctl", "is-system-running", contains="running")
        yield machine
    finally:
        container.terminate()
        try:
            container.wait(120)
        except subprocess.TimeoutExpired:
            container.kill()
            container.wait(30)


def _leader_of(container: subprocess.Popen[bytes]) -> int:
    """The first process of the machine: the child of systemd-nspawn that is its systemd."""
    children = Path(f"/proc/{container.pid}/task/{container.pid}/children")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and container.poll() is None:
        for child in children.read_text().split():
            if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                return int(child)
        time.sleep(0.2)
    raise AssertionError("the machine did not boot")
