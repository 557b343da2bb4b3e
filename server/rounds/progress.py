"""A progress bar over the rounds, with a line for every site that is set aside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from server.rounds.events import Event, Observer

_TOLD = (
    "site_added",
    "site_returned",
    "site_set_aside",
    "quorum_missed",
    "round_void",
    "clock_jumped",
    "run_failed",
    "run_given_up",
)


@contextmanager
def progress_bar(console: Console) -> Iterator[Observer]:
    """An observer for :class:`RoundDriver` that draws on ``console`` while the context is open."""
    columns = (
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("rounds", total=None)
        accepted: set[str] = set()

        def observe(event: Event) -> None:
            if event.kind == "round_started":
                accepted.clear()
                done = event.round - 1 if event.phase == "train" else event.round
                progress.update(task, total=event.rounds, completed=done)
            elif event.kind == "site_accepted" and event.site is not None:
                accepted.add(event.site)
            elif event.kind in _TOLD:
                who = event.site or event.kind.replace("_", " ")
                text = f"round {event.round} ({event.phase}): {who}: {event.reason or 'joined'}"
                progress.console.print(escape(text), style="yellow", highlight=False)
            elif event.kind == "round_saved":
                progress.update(task, completed=event.round)
            what = f"round {event.round}" if event.phase == "train" else event.phase
            progress.update(task, description=f"{what}, {len(accepted)} sites in")

        yield observe
