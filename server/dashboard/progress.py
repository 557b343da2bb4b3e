"""How far a run is: its state in a word, the round under way, and when it may end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from statistics import fmean, median
from typing import Literal

from server.dashboard.run_files import RunFiles
from server.evaluation.early_stop import early_end
from server.rounds.quorum import Quorum
from server.watchdog.wanted import in_words

State = Literal["waiting to start", "running", "waiting for quorum", "interrupted", "stopped",
                "finished"]  # fmt: skip
_RECENT = 20


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        under_way: what is asked now (``round 4``, ``evaluate after round 4``); empty when nothing.
        answered, expected: sites accepted in it, and sites of the plan.
        seconds_per_round: of the last rounds, with what was asked in between; an interruption
            counts as three rounds at most.
        ends_at: expected end of the last round; None where nothing is to be expected.
    """

    state: State
    note: str
    under_way: str
    answered: tuple[str, ...]
    expected: int
    seconds_per_round: float | None
    ends_at: datetime | None


def progress_of(run: RunFiles, now: datetime | None = None) -> Progress:
    """Read it off the files."""
    asked = _asked_now(run)
    state, note = _state(run, asked)
    pace = _pace(run)
    alive = state in ("running", "waiting for quorum")
    ends = None
    if alive and pace is not None:
        ends = _ends_at(run, pace, now or datetime.now(UTC))
    return Progress(
        state=state,
        note=note,
        under_way=asked.words if alive else "",
        answered=asked.answered if alive else (),
        expected=len(run.weights),
        seconds_per_round=pace,
        ends_at=ends,
    )


@dataclass(frozen=True)
class _Asked:
    words: str = ""
    answered: tuple[str, ...] = ()
    missed_quorum: str = ""


def _asked_now(run: RunFiles) -> _Asked:
    """The question under way, from the events since the last ``round_started``."""
    answered: dict[str, None] = {}
    phase, number, missed = "", 0, ""
    for event in run.events:
        kind = event["kind"]
        if kind == "round_started":
            answered, missed = {}, ""
            phase, number = str(event.get("phase", "train")), _integer(event.get("round"))
        elif kind in ("round_saved", "release_saved", "run_finished"):
            answered, phase, missed = {}, "", ""
        elif kind == "site_accepted" and event.get("site"):
            answered[str(event["site"])] = None
        elif kind == "quorum_missed":
            missed = str(event.get("reason") or "asked again")
    if not phase:
        return _Asked(f"round {run.completed + 1}" if run.driven else "")
    words = {
        "train": f"round {number}",
        "finalise": "telling the sites the final model",
        "keys": f"agreeing on masks before round {number}",
        "shares": f"agreeing on masks before round {number}",
        "unmask": f"opening the sum of round {number}",
    }.get(phase, f"{phase} after round {number}")
    return _Asked(words, tuple(sorted(answered)), missed)


def _state(run: RunFiles, asked: _Asked) -> tuple[State, str]:
    told = len(run.weights)
    if run.finalised is not None:
        early = early_end(run.plan, run.completed)
        note = f"{len(run.finalised.accepted)} of {told} hospitals have the final model"
        note += f"; {early}" if early else ""
        return "finished", note
    if run.driven is not False and (run.events or run.history or run.driven):
        if asked.missed_quorum and not Quorum.of(run.plan).met(asked.answered):
            needed = f"{len(asked.answered)} hospitals have answered; {Quorum.of(run.plan)} needed"
            return "waiting for quorum", f"{needed}; {asked.missed_quorum}"
        if run.driven is None and run.stopped is not None:
            return "stopped", _quorum_words(run)
        return "running", ""
    wanted = run.wanted
    if wanted is not None and wanted.state in ("given_up", "stopped"):
        return "stopped", f"wanted: {in_words(wanted)}"
    if wanted is not None and wanted.open:
        why = f"; {_quorum_words(run)}" if run.stopped is not None else ""
        return "interrupted", f"the watchdog starts it again: {in_words(wanted)}{why}"
    if run.stopped is not None:
        return "stopped", _quorum_words(run)
    if not run.history and not run.events:
        return "waiting to start", "no process has driven this run yet"
    return "interrupted", "no process drives this run; it goes on after the last completed round"


def _quorum_words(run: RunFiles) -> str:
    assert run.stopped is not None
    return (
        f"round {run.stopped.round} missed its quorum of {Quorum.of(run.plan)} in "
        f"{run.stopped.attempts} attempts (SMR-E520)"
    )


def _pace(run: RunFiles) -> float | None:
    recent = run.history[-_RECENT:]
    if not recent:
        return None
    own = median(record.seconds for record in recent)
    begun = [datetime.fromisoformat(record.started_at) for record in recent]
    apart = [(b - a).total_seconds() for a, b in pairwise(begun)]
    if not apart:
        return own
    most = 3 * max(median(apart), own)
    return max(own, fmean(min(seconds, most) for seconds in apart))


def _ends_at(run: RunFiles, pace: float, now: datetime) -> datetime:
    last = run.history[-1]
    saved = datetime.fromisoformat(last.started_at) + timedelta(seconds=last.seconds)
    since = max(0.0, (now - saved).total_seconds())
    left = max(0, run.plan.training.rounds - run.completed)
    # The round under way cannot end in the past.
    return now + timedelta(seconds=max(left * pace - since, (left - 1) * pace, 0.0))


def _integer(value: object) -> int:
    return value if isinstance(value, int) else 0
