"""The agent's socket: for its account alone, or for one named group, never for everybody."""

from __future__ import annotations

import grp
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.agent.service import serve
from client.agent.status import AgentStatus
from client.agent.stub import AgentClient
from shared_model.errors import SmrfedError
from shared_model.protocol.sealed import Sealed


class Agent:
    max_body_bytes = 1 << 10

    def handle(self, instruction: Sealed) -> Sealed:
        return instruction

    def refused(self, error: SmrfedError) -> None: ...

    def status(self) -> AgentStatus:
        return AgentStatus("north", "", "", "", "idle", "", 0, "", 0.0)


@pytest.fixture
def socket() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="smrfed-") as folder:
        yield Path(folder) / "run" / "agent.sock"


def own_group() -> str:
    """A group that this account may give to a file, and that is not root's."""
    if os.geteuid() == 0:
        return next(g.gr_name for g in grp.getgrall() if g.gr_gid not in (0, os.getgid()))
    return next((n for n in map(grp.getgrgid, os.getgroups()) if n.gr_gid), grp.getgrgid(
        os.getgid())).gr_name  # fmt: skip


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_without_a_group_the_socket_is_for_its_owner_alone(socket: Path) -> None:
    service = serve(Agent(), socket)
    try:
        assert (mode(socket), mode(socket.parent)) == (0o600, 0o700)
    finally:
        service.stop(0)


def test_with_a_group_its_members_may_use_the_socket_and_nobody_else(socket: Path) -> None:
    group = own_group()
    service = serve(Agent(), socket, group=group)
    try:
        number = grp.getgrnam(group).gr_gid
        assert (mode(socket), mode(socket.parent)) == (0o660, 0o710)
        assert (socket.stat().st_gid, socket.parent.stat().st_gid) == (number, number)
        with AgentClient(socket) as client:
            assert client.status().site == "north"
    finally:
        service.stop(0)
    # The folder that was shared is taken again by the next start.
    serve(Agent(), socket, group=group).stop(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as two other accounts")
def test_another_account_reaches_the_agent_only_as_a_member_of_the_group(socket: Path) -> None:
    group = own_group()
    number = grp.getgrnam(group).gr_gid
    socket.parent.parent.chmod(0o755)
    service = serve(Agent(), socket, group=group)
    program = (
        "import os, socket, sys; path, user, groups = sys.argv[1], int(sys.argv[2]), sys.argv[3]\n"
        "os.setgroups([int(g) for g in groups.split(',') if g]); os.setgid(user); os.setuid(user)\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "try: s.connect(path); print('reached')\n"
        "except PermissionError: print('refused')"
    )

    def reach(groups: str) -> str:
        line = [sys.executable, "-c", program, str(socket), "61234", groups]
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()

    try:
        assert reach("") == "refused"
        assert reach(str(number)) == "reached"
    finally:
        service.stop(0)


@pytest.mark.parametrize("group", ["no-such-group-of-ours", "root"])
def test_a_group_that_cannot_be_is_refused_and_no_socket_is_left(socket: Path, group: str) -> None:
    with pytest.raises(SmrfedError) as refused:
        serve(Agent(), socket, group=group)
    assert refused.value.code == "SMR-E474"
    assert not socket.exists()
