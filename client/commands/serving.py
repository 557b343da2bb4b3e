"""``smrfed-site run`` and ``status``: the agent in the foreground, and what it is doing."""

from __future__ import annotations

import logging
import os
import sys
import threading
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress

from client.agent.acceptance import Acceptance, AcceptedPlans
from client.agent.durable import make_private_folder
from client.agent.replies import ReplyStore
from client.agent.state import StateFolder
from client.commands.display import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigPath,
    err,
    out,
    print_facts,
    print_json,
)
from client.config import SiteConfig
from client.egress.policy import SitePolicy
from client.privacy.ledger import Ledger
from shared_model.errors import SmrfedError
from shared_model.start_environment import start_environment
from shared_model.supervision.end_signals import EndSignals

PlanDigest = Annotated[
    str | None,
    typer.Option("--plan", help="first digits of an accepted plan's digest; default: the newest"),
]
AsPage = Annotated[
    bool, typer.Option("--page", help="serve a page on loopback, which stays on this machine")
]
Wait = Annotated[
    bool, typer.Option("--wait", help="for a plan to be accepted, where there is none yet")
]
PagePort = Annotated[int, typer.Option("--port", min=0, max=65535, help="port of --page")]

_LOG_BYTES = 10 << 20
_LOG_FILES = 5
_GRACE_S = 30.0
_LOOK_EVERY_S = 2.0
#: Set by an agent that starts itself anew, for nobody else.
_ASKED_PLAN = "SMRFED_ASKED_PLAN"


def run(config: ConfigPath = DEFAULT_CONFIG, plan: PlanDigest = None, wait: Wait = False) -> None:
    """Start the site agent for an accepted plan; it ends with SIGTERM or Ctrl-C."""
    if wait and not wait_for_plan(SiteConfig.load(config), EndSignals()):
        return
    site, accepted = _accepted(config, plan or os.environ.get(_ASKED_PLAN))
    state = StateFolder(site.state_dir)
    start_with_settings(site.threads)
    log_to(state.log)
    end = EndSignals()

    # The training stack takes seconds to import: a mistake above is told before that.
    import torch

    from client.agent.agent import SiteAgent
    from client.agent.service import serve

    torch.set_num_threads(site.threads)
    asked = AskedPlan()
    agent = SiteAgent(site, accepted.plan, go_over=asked if plan is None else None)
    try:
        # The courier finds the agent at once; its instructions wait until the scans are prepared.
        pace_s = SitePolicy.load(site.policy).reply_pace_s
        service = serve(agent, site.socket, pace_s, group=site.socket_group)
        out.print(f"agent of site {site.name}, plan {accepted.plan.name!r}, on {site.socket}")
        try:
            preparation = threading.Thread(target=_prepare, args=(agent,), daemon=True)
            preparation.start()
            while not end.wait(_LOOK_EVERY_S):
                if asked.digest is not None and not preparation.is_alive():
                    service.stop(_GRACE_S)
                    _go_over(agent, asked.digest)
            out.print("stopping; an instruction in work is finished or trained again later")
        finally:
            service.stop(_GRACE_S)
    finally:
        logging.shutdown()
    # A round that outlasted the grace is left: it is trained again, and charged again, after the
    # next start. Waiting for its thread could take hours; the kernel frees the lock.
    os._exit(0)


def wait_for_plan(site: SiteConfig, end: EndSignals) -> bool:
    """Whether a plan is accepted, at once or later; false when the process was told to end before.

    A hospital may join before it knows what it will take part in.
    """
    plans = AcceptedPlans(StateFolder(site.state_dir).plans)
    if not plans.all():
        out.print("no plan is accepted yet; the agent starts by itself after smrfed-site accept")
    while not plans.all():
        if end.wait(_LOOK_EVERY_S):
            return False
    return True


class AskedPlan:
    """Another accepted plan under which the coordinator asked, if it did."""

    def __init__(self) -> None:
        self.digest: str | None = None

    def __call__(self, digest: str) -> None:
        """Note the plan; the newest question counts."""
        self.digest = digest


def _go_over(agent: Any, digest: str) -> None:
    """Start this program anew for another plan, in the same process; an agent serves one."""
    out.print(f"going over to the accepted plan {digest[:12]}")
    agent.close()
    logging.shutdown()
    os.environ[_ASKED_PLAN] = digest
    os.execv(sys.executable, sys.orig_argv)


def _accepted(config: Path, digest: str | None) -> tuple[SiteConfig, Acceptance]:
    site = SiteConfig.load(config)
    plans = AcceptedPlans(StateFolder(site.state_dir).plans)
    return site, plans.chosen(digest)


def _with_bar(agent: Any) -> None:
    with Progress(console=err, transient=True) as bar:
        task = bar.add_task("preparing patients", total=None)
        agent.prepare(lambda done, total: bar.update(task, completed=done, total=total))


def _prepare(agent: Any) -> None:
    """In a thread beside the service: what goes wrong is told, and the agent stays to say so."""
    try:
        _with_bar(agent)
    except SmrfedError as error:
        logging.getLogger(__name__).error("preparing failed: %s", error)
        err.print(error.render(), markup=False, highlight=False)
    except Exception:
        logging.getLogger(__name__).exception("preparing failed")
        err.print("preparing failed; the agent's log tells why", markup=False)


def status(
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
    page: AsPage = False,
    port: PagePort = 18020,
) -> None:
    """Show whether the agent runs, what it does, and what was answered and spent so far."""
    site = SiteConfig.load(config)
    if page:
        from client.status_page.command import serve_page

        serve_page(site, port)
        return
    state = StateFolder(site.state_dir)
    policy = SitePolicy.load(site.policy)
    facts: dict[str, Any] = {
        "site": site.name,
        "running": False,
        "activity": "not running",
        "plans": [
            {"name": a.plan.name, "digest": a.plan.digest, "accepted_at": a.accepted_at}
            for a in AcceptedPlans(state.plans).all()
        ],
        "runs": {
            run_id: {"round": number, "kind": kind}
            for run_id, (number, kind) in ReplyStore(state.replies).runs().items()
        },
        "epsilon": Ledger(state.ledger).spent(policy.max_delta),
        "delta": policy.max_delta,
        "max_epsilon": policy.max_epsilon,
    }
    # grpc is imported only where something may answer.
    if site.socket.is_socket():
        from client.agent.stub import AgentClient

        try:
            with AgentClient(site.socket) as client:
                answer = client.status()
            facts |= {"running": True, "activity": answer.activity, "plan": answer.plan_digest}
        except SmrfedError as error:
            if error.code != "SMR-E412":
                raise
    if as_json:
        print_json(facts)
        return
    runs = [f"{r}: round {a['round']} ({a['kind']})" for r, a in facts["runs"].items()]
    plans = [f"{p['name']} ({p['digest'][:12]})" for p in facts["plans"]]
    print_facts(
        {
            "site": facts["site"],
            "agent": facts["activity"],
            "accepted plans": ", ".join(plans) or "none",
            "answered": ", ".join(runs) or "nothing yet",
            "spent": f"epsilon {facts['epsilon']:.4f} of {facts['max_epsilon']:g} at delta "
            f"{facts['delta']:g}, over all plans and runs",
        }
    )


def start_with_settings(threads: int) -> None:
    """Start this program anew with the settings that only count at its very start."""
    wanted = start_environment(threads)
    if any(name not in os.environ for name in wanted):
        os.environ.update({name: os.environ.get(name, value) for name, value in wanted.items()})
        os.execv(sys.executable, sys.orig_argv)


def log_to(path: Path) -> None:
    """Log into a file that turns over, readable by its owner only."""
    make_private_folder(path.parent)
    path.touch(mode=0o600)
    handler = RotatingFileHandler(path, maxBytes=_LOG_BYTES, backupCount=_LOG_FILES - 1)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    # Not basicConfig: with --log-format json another handler is there already.
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(handler)
