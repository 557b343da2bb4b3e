"""A hospital's figures for its own Prometheus: agent, records, budget, disk. They never leave it.

Read from the state folder and asked of the agent's socket, so that they are told while the agent is
down, too; the agent itself has no network and serves none. No figure is about a patient: the
ledger's epsilon follows from public figures of the plans and from what was answered.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from importlib.metadata import version

from client.agent.replies import ReplyStore
from client.agent.state import StateFolder
from client.config import SiteConfig
from client.egress.policy import SitePolicy
from client.egress.refusals import Refusals
from client.ledger_view.opened import kept_receipts, opened_ledger
from shared_model.errors import SmrfedError
from shared_model.observability.prometheus import Metrics
from shared_model.supervision.state_file import STATE_FILE, read_states

_ANSWER_S = 3.0


def site_metrics(config: SiteConfig) -> str:
    """All figures as Prometheus text; what cannot be read is one sample with its error's number."""
    out = Metrics("smrfed_site")
    out.gauge("info", "Version of smrfed and name of the site").set(
        1, version=version("smrfed"), site=config.name
    )
    state = StateFolder(config.state_dir)
    parts: dict[str, Callable[[], None]] = {
        "agent": lambda: _agent(out, config),
        "receipts": lambda: _receipts(out, state),
        "ledger": lambda: _ledger(out, config, state),
        "disk": lambda: _disk(out, state),
        "processes": lambda: _processes(out, config, state),
    }
    problems = out.gauge("problem", "1 for a part that cannot be read, with its error's number")
    for part, tell in parts.items():
        try:
            tell()
        except SmrfedError as error:
            problems.set(1, part=part, code=error.code)
        except (OSError, ValueError, KeyError) as error:
            problems.set(1, part=part, code=type(error).__name__)
    return out.render()


def _agent(out: Metrics, config: SiteConfig) -> None:
    up = out.gauge("agent_up", "1 while the site agent answers on its socket")
    up.set(0)
    if not config.socket.is_socket():
        return
    from client.agent.stub import AgentClient

    try:
        with AgentClient(config.socket) as client:
            status = client.status(_ANSWER_S)
    except SmrfedError as error:
        if error.code == "SMR-E412":
            return
        raise
    up.set(1)
    out.gauge("agent_start_time_seconds", "When the agent started, in seconds since 1970").set(
        status.started_at_s
    )
    out.gauge("agent_activity", "1 for what the agent does").set(1, activity=status.activity)


def _receipts(out: Metrics, state: StateFolder) -> None:
    receipts = kept_receipts(state)
    refused = Refusals(state.refusals).read() if state.refusals.exists() else ()
    decided = out.counter("receipts_total", "Decisions about data leaving, by what was decided")
    for released in (True, False):
        count = sum(receipt.decision.released is released for receipt in receipts)
        decided.set(count, decision="released" if released else "refused")
    out.counter("released_bytes_total", "Bytes of the replies that left").set(
        sum(receipt.decision.bytes for receipt in receipts if receipt.decision.released)
    )
    out.counter("refusal_lines_total", "Lines on refused instructions").set(len(refused))
    times = [link.time for link in (*receipts[-1:], *refused[-1:])]
    if times:
        latest = max(datetime.fromisoformat(time).timestamp() for time in times)
        out.gauge(
            "last_instruction_time_seconds",
            "When an instruction was last answered or refused, in seconds since 1970",
        ).set(latest)
    rounds = out.gauge("run_round", "Last answered round, by run")
    for run, (number, _) in ReplyStore(state.replies).runs().items():
        rounds.set(number, run=run)


def _ledger(out: Metrics, config: SiteConfig, state: StateFolder) -> None:
    policy = SitePolicy.load(config.policy)
    with opened_ledger(state, policy.max_epsilon) as ledger:
        spent = ledger.spent(policy.max_delta)
        events = ledger.verify()
    delta = f"{policy.max_delta:g}"
    out.gauge("ledger_epsilon", "Spent by the patient who has spent most").set(spent, delta=delta)
    out.gauge("ledger_epsilon_cap", "The policy's cap").set(policy.max_epsilon, delta=delta)
    out.counter("ledger_events_total", "Events in the ledger's chain").set(events)


def _disk(out: Metrics, state: StateFolder) -> None:
    facts = os.statvfs(state.path)
    out.gauge("disk_free_bytes", "Free on the state folder's file system").set(
        facts.f_bavail * facts.f_frsize
    )
    if facts.f_files:
        out.gauge("disk_free_files", "Free file entries (inodes) there").set(facts.f_favail)


def _processes(out: Metrics, config: SiteConfig, state: StateFolder) -> None:
    """What ``smrfed-site up`` says, which may run as two parts in two accounts."""
    up = out.gauge("process_up", "1 while a process of smrfed-site up runs")
    starts = out.counter("process_starts_total", "How often the supervisor started it")
    for folder in (state.path, config.connection.path):
        for process in read_states(folder / "logs" / STATE_FILE):
            name = str(process["name"])
            up.set(process["state"] == "running", process=name)
            starts.set(float(process["starts"]), process=name)
