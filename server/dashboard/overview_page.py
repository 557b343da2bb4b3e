"""The first page: every run in one line."""

from __future__ import annotations

from collections.abc import Sequence

from server.dashboard.catalogue import Summary
from server.dashboard.links import error_links, run_link
from server.dashboard.progress import Progress
from server.dashboard.words import budget, lasting, moment
from shared_model.evaluation import html
from shared_model.local_page.drawings import bar
from shared_model.local_page.table import Field, stack, tag

_KINDS = {
    "running": "busy",
    "finished": "good",
    "waiting for quorum": "bad",
    "stopped": "bad",
    "interrupted": "bad",
}


def overview_sections(summaries: Sequence[Summary], folder: str) -> list[str]:
    """The sections of the page."""
    if not summaries:
        told = html.paragraph(f"There is no run in {folder} yet.", "note")
        return [f'<section id="runs">{told}</section>']
    counts: dict[str, int] = {}
    for one in summaries:
        word: str = one.progress.state if one.progress else "cannot be read"
        word = word if one.progress or one.problem else "being read"
        counts[word] = counts.get(word, 0) + 1
    told = ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
    header = ("run", "state", "rounds", "hospitals in the last round", "privacy", "expected end")
    table = stack(header, [_row(one) for one in summaries], "All runs")
    return [f'<section id="runs">{html.paragraph(told, "note")}{table}</section>']


def state_tag(progress: Progress) -> str:
    """The state in a box."""
    return tag(progress.state, _KINDS.get(progress.state, "idle"))


def _row(one: Summary) -> list[Field | str]:
    if one.files is None and one.problem is None:
        return [one.name, Field(drawn=tag("being read", "idle"), left=True), "", "", "", ""]
    if one.files is None or one.progress is None:
        problem = one.problem or ""
        unread = Field(drawn=tag("cannot be read", "bad") + error_links(problem), left=True)
        return [one.name, unread, "", "", "", ""]
    files, progress, mode = one.files, one.progress, one.files.plan.privacy.mode
    rounds = files.plan.training.rounds
    done = Field(
        f"{files.completed} of {rounds}",
        progress.under_way,
        drawn=bar(files.completed / rounds, f"{files.completed} of {rounds} rounds"),
    )
    last = files.history[-1] if files.history else None
    took = Field("none yet")
    if last is not None:
        missing = ", ".join(f"{site} ({last.sites[site].code})" for site in sorted(last.set_aside))
        took = Field(
            f"{len(last.accepted)} of {len(files.weights)}",
            f"missing: {missing}" if missing else "all took part",
            drawn="".join(error_links(f"partial: {warning}") for warning in one.warnings[:3]),
        )
    private = Field("mode none", "no formal guarantee")
    if mode != "none":
        private = Field(
            f"ε {budget(one.spent, mode)}",
            f"mode {mode}; {budget(one.planned, mode)} planned, budget "
            f"{files.plan.privacy.epsilon:g}",
        )
    return [
        Field(one.name, files.plan.name, link=run_link(one.name)),
        Field(drawn=state_tag(progress) + error_links(progress.note), left=True),
        done,
        took,
        private,
        expected_end(progress),
    ]


def expected_end(progress: Progress) -> Field:
    """When the last round may end, from the last rounds' pace."""
    if progress.ends_at is None:
        return Field("")
    pace = progress.seconds_per_round
    return Field(
        f"about {moment(progress.ends_at)}", "" if pace is None else f"{lasting(pace)} a round"
    )
