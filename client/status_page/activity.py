"""What the agent does now, asked over its socket; the page works without it."""

from __future__ import annotations

from dataclasses import dataclass

from client.agent.replies import ReplyStore
from client.agent.state import StateFolder
from client.config import SiteConfig
from shared_model.errors import SmrfedError

_PATIENCE_S = 3.0


@dataclass(frozen=True)
class Activity:
    """The agent's word: ``idle``, ``training`` ...; ``not running`` or ``no answer`` without one.

    ``runs``: run -> round and kind of the last answer, from the disk.
    """

    word: str
    running: bool
    plan: str = ""
    run_id: str = ""
    round: int = 0
    kind: str = ""
    started_at_s: float = 0.0
    note: str = ""
    runs: tuple[tuple[str, int, str], ...] = ()


def activity(site: SiteConfig) -> Activity:
    """Ask it; what goes wrong is part of the answer."""
    store = ReplyStore(StateFolder(site.state_dir).replies)
    runs = tuple((run_id, number, kind) for run_id, (number, kind) in store.runs().items())
    if not site.socket.is_socket():
        return Activity("not running", False, runs=runs)
    # grpc is imported only where something may answer.
    from client.agent.stub import AgentClient

    try:
        with AgentClient(site.socket) as client:
            said = client.status(_PATIENCE_S)
    except SmrfedError as error:
        word = "not running" if error.code == "SMR-E412" else "no answer"
        return Activity(word, False, note=f"{error.code} {error.what}", runs=runs)
    return Activity(
        said.activity, True, f"{said.plan_name} ({said.plan_digest[:12]})", said.run_id,
        said.round, said.kind, said.started_at_s, runs=runs,
    )  # fmt: skip
