"""The figures of run directories for Prometheus, read from their files alone.

Participation, times and sizes are the coordinator's own; epsilon is the plan's public figure. What
sites released about patients is not here: a time series of noised figures belongs beside their
intervals (``smrfed-coordinator report``, ``track``).
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from server.checkpoints.run_directory import RunDirectory
from server.plan_view import worst_patient
from server.receipts.book import ReceiptBook
from server.rounds.records import RoundRecord
from shared_model.errors import SmrfedError
from shared_model.observability.prometheus import Metrics

_EVENTS = "events.jsonl"
# What changes when a run does; unchanged files are not read again at the next scrape.
_WATCHED = ("latest", _EVENTS, "receipts.jsonl", "finalised.json", "stopped.json", "plan.json")


@dataclass(frozen=True)
class _RunFacts:
    rounds: int
    completed: int
    state: str
    epsilon: float | None
    budget: float | None
    history: tuple[RoundRecord, ...]
    body_bytes: int
    received: dict[tuple[str, bool], int]
    events: dict[str, int]
    last_event_s: float | None


class RunMetrics:
    """Reads ``home.runs``; keeps what has not changed since the last time."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._known: dict[Path, tuple[object, _RunFacts]] = {}
        self._epsilons: dict[str, float | None] = {}

    def tell(self, out: Metrics) -> None:
        """Add the figures of every run; one that cannot be read is a sample of ``problem``."""
        problems = out.gauge("problem", "1 for a part that cannot be read, with its error's number")
        for path in sorted(file.parent for file in self._runs.glob("*/run.json")):
            try:
                self._tell(out, path.name, self._facts(path))
            except SmrfedError as error:
                problems.set(1, part=f"run {path.name}", code=error.code)
            except OSError:
                problems.set(1, part=f"run {path.name}", code="OSError")

    def _tell(self, out: Metrics, run: str, facts: _RunFacts) -> None:
        out.gauge("run_rounds", "Rounds of the plan").set(facts.rounds, run=run)
        out.gauge("run_rounds_completed", "Rounds that are saved").set(facts.completed, run=run)
        out.gauge("run_state", "1 for the state of the run").set(1, run=run, state=facts.state)
        if facts.epsilon is not None:
            text = "Epsilon of the whole plan for its worst patient: a public figure of the plan"
            out.gauge("run_epsilon", text).set(facts.epsilon, run=run)
        if facts.budget is not None:
            out.gauge("run_epsilon_budget", "The plan's cap of it").set(facts.budget, run=run)
        void = out.counter("run_void_rounds_total", "Rounds of a secure sum that were void")
        void.set(sum(record.void is not None for record in facts.history), run=run)
        seconds = out.counter("run_round_seconds_total", "Seconds of all completed rounds")
        seconds.set(sum(record.seconds for record in facts.history), run=run)
        if facts.history:
            last = out.gauge("run_last_round_seconds", "Seconds of the last completed round")
            last.set(facts.history[-1].seconds, run=run)
        accepted = out.counter("site_rounds_accepted_total", "Rounds in which a site counted")
        aside = out.counter(
            "site_rounds_set_aside_total", "Rounds in which a site did not count, by error number"
        )
        sent = out.counter(
            "sent_bytes_total",
            "Bytes of parameters in instructions of completed rounds, repetitions included",
        )
        for record in facts.history:
            for name, site in record.sites.items():
                counted = name in record.accepted
                accepted.add(float(counted), run=run, site=name)
                sent.add(float(site.pushes * facts.body_bytes), run=run, site=name)
                if not counted:
                    why = site.code or ("void" if site.accepted else "none")
                    aside.add(1.0, run=run, site=name, code=why)
        received = out.counter("received_bytes_total", "Bytes of sealed replies, by authenticity")
        for (name, authentic), count in facts.received.items():
            received.set(count, run=run, site=name, authentic=str(authentic).lower())
        events = out.counter("run_events_total", "Events of the round driver, by kind")
        for kind, count in facts.events.items():
            events.set(count, run=run, kind=kind)
        if facts.last_event_s is not None:
            out.gauge(
                "run_last_event_time_seconds", "When the driver last told anything, since 1970"
            ).set(facts.last_event_s, run=run)

    def _facts(self, path: Path) -> _RunFacts:
        stamp = tuple(_stamp(path / name) for name in _WATCHED)
        known = self._known.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        facts = self._read(path)
        self._known[path] = stamp, facts
        return facts

    def _read(self, path: Path) -> _RunFacts:
        run = RunDirectory.open(path)
        plan, state = run.plan, run.latest()
        if plan.digest not in self._epsilons:
            self._epsilons[plan.digest] = worst_patient(plan)
        received: Counter[tuple[str, bool]] = Counter()
        for line in ReceiptBook(path).read():
            received[line.received.site, line.authentic] += line.bytes
        events, last = _events(path / _EVENTS)
        return _RunFacts(
            rounds=plan.training.rounds,
            completed=state.round,
            state=_state(run, state.round),
            epsilon=self._epsilons[plan.digest],
            budget=None if plan.privacy.mode == "none" else plan.privacy.epsilon,
            history=tuple(state.history),
            body_bytes=len(state.body),
            received=dict(received),
            events=events,
            last_event_s=last,
        )


def _state(run: RunDirectory, completed: int) -> str:
    if run.finalised() is not None:
        return "finished"
    if run.stopped() is not None:
        return "quorum_missed"
    return "running" if completed else "new"


def _events(path: Path) -> tuple[dict[str, int], float | None]:
    """Counts by kind, and when the file was last written to; kinds of later versions count too."""
    counts: Counter[str] = Counter()
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                try:
                    counts[str(json.loads(line)["kind"])] += 1
                except (ValueError, KeyError, TypeError):  # half a line is still being written
                    continue
        return dict(counts), path.stat().st_mtime
    except FileNotFoundError:
        return {}, None


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size
