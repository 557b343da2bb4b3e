"""What of this hospital runs at the moment: agent and SuperNode; neither has to, yet."""

from __future__ import annotations

import time
from pathlib import Path

from client.preflight.site import CheckedSite
from shared_model.errors import SmrfedError
from shared_model.preflight.checks import Note

_PROC = Path("/proc")
_ANSWER_S = 5.0


def check_agent(site: CheckedSite) -> str:
    """Ask the agent on its socket what it does; raises SMR-E414 when the call goes wrong."""
    socket = site.config.socket
    if not socket.is_socket():
        return Note("not running: smrfed-site run, or smrfed-site up")
    from client.agent.stub import AgentClient

    try:
        with AgentClient(socket) as client:
            status = client.status(_ANSWER_S)
    except SmrfedError as error:
        if error.code != "SMR-E412":
            raise
        return Note("not running; the last one left its socket, which the next one clears")
    hours = (time.time() - status.started_at_s) / 3600
    text = f"{status.activity}, plan {status.plan_digest[:12]}, running for {hours:.1f} h"
    plan = site.plan
    if plan is not None and plan.digest != status.plan_digest:
        return Note(f"{text}; the newest accepted plan is {plan.digest[:12]}: restart it for that")
    return text


def check_supernode(site: CheckedSite, proc: Path = _PROC) -> str:
    """Look for the SuperNode among the processes that this account can see."""
    for command_line in sorted(proc.glob("[0-9]*/cmdline")):
        try:
            words = command_line.read_bytes().split(b"\0")
        except OSError:  # it ended, or is somebody else's
            continue
        if any(Path(word.decode("utf-8", "replace")).name == "flower-supernode" for word in words):
            return f"process {command_line.parent.name}"
    return Note("none that this account can see: smrfed-site up starts it")
