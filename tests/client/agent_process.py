"""A real agent behind a real socket, in a process that can kill itself at a chosen moment.

Run as ``python agent_process.py SITE_FOLDER PLAN_JSON [POINT ROUND]``: at ROUND, right after POINT
(claimed, reserved, trained or looked, gated or saved), the process sends itself SIGKILL.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from small_site import small_atlas

from client.agent import agent as agent_module
from client.agent import trained_round as trained_module
from client.agent.agent import SiteAgent
from client.agent.replies import Question, ReplyStore
from client.agent.service import serve
from client.config import SiteConfig
from client.egress.gate import EgressGate
from client.privacy.ledger import Ledger
from shared_model.plan import FederationPlan

POINTS: dict[str, tuple[Any, str]] = {
    "claimed": (ReplyStore, "claim"),
    "reserved": (Ledger, "reserve"),
    "trained": (trained_module, "train_round"),
    "gated": (EgressGate, "release"),
    "saved": (ReplyStore, "save"),
}

LOOKING = {"looked": (agent_module, "released_statistics")}


def kill_after(owner: Any, name: str, fatal_round: int) -> None:
    asked: list[int] = []
    find, function = ReplyStore.find, getattr(owner, name)

    def noting_find(store: ReplyStore, question: Question) -> Any:
        asked.append(question.round)
        return find(store, question)

    def fatal(*args: Any, **options: Any) -> Any:
        result = function(*args, **options)
        if asked[-1] == fatal_round:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    ReplyStore.find = noting_find  # type: ignore[method-assign]
    replacement: Callable[..., Any] = fatal
    setattr(owner, name, replacement)


def main() -> None:
    folder, plan = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    if len(sys.argv) > 3:
        kill_after(*(POINTS | LOOKING)[sys.argv[3]], int(sys.argv[4]))
    config = SiteConfig.load(folder / "site.toml")
    agent = SiteAgent(config, FederationPlan.parse(plan), atlas=small_atlas())
    service = serve(agent, config.socket)
    print("ready", flush=True)
    service.wait()


if __name__ == "__main__":
    main()
