"""One run: where it stands, its hospitals, rounds, released figures, receipts and events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from server.dashboard.catalogue import View
from server.dashboard.links import error_links, run_link
from server.dashboard.overview_page import expected_end, state_tag
from server.dashboard.run_charts import charts
from server.dashboard.site_lines import SiteLine
from server.dashboard.words import budget, lasting, moment, sized, with_interval
from server.evaluation.figures import Figures
from server.rounds.participation import share_in_words
from server.rounds.quorum import Quorum
from server.rounds.records import RoundRecord
from shared_model.evaluation import html
from shared_model.local_page.background import Background
from shared_model.local_page.drawings import bar, strip
from shared_model.local_page.table import Field, stack, tag

ROUNDS_SHOWN = 25
_EVENTS_SHOWN = 60


def run_sections(view: View, later: Background, upto: int | None = None) -> list[str]:
    """The sections of the page; ``upto`` shows the rounds up to that number."""
    return [
        html.section("state", "Where it stands", *_state(view)),
        html.section("sites", "Hospitals", _sites(view)),
        html.section("charts", "Over the rounds", charts(view, later)),
        html.section("figures", "Released figures", *_figures(view)),
        html.section("rounds", "Rounds", *_rounds(view, upto)),
        html.section("receipts", "Receipts", *_receipts(view)),
        html.section("events", "Events", *_events(view)),
    ]


def _state(view: View) -> Iterator[str]:
    files, progress, plan = view.files, view.progress, view.files.plan
    rounds, mode = plan.training.rounds, plan.privacy.mode
    yield f"<p>{state_tag(progress)} {error_links(progress.note, 'span')}</p>"
    told = f"{files.completed} of {rounds} rounds"
    yield f'<p class="note">{told}</p>{bar(files.completed / rounds, told)}'
    facts = [("plan", f"{plan.name}, digest {plan.digest}"), ("run", files.run_id)]
    if progress.under_way:
        names = ", ".join(progress.answered)
        answered = f"{len(progress.answered)} of {progress.expected} hospitals have answered"
        facts.append(("now", f"{progress.under_way}: {answered}{f' ({names})' if names else ''}"))
    if progress.ends_at is not None:
        end = expected_end(progress)
        facts.append(("expected end", f"{end.text}, at {end.small}"))
    facts.append(("quorum", f"{Quorum.of(plan)}, of {len(files.weights)} hospitals"))
    facts.append(("participation", view.participation.in_words))
    if mode == "none":
        facts.append(("privacy", "mode none: no formal guarantee, for public or synthetic data"))
    else:
        spent, planned = budget(view.spent, mode), budget(view.planned, mode)
        facts.append(
            (
                "privacy",
                f"mode {mode}: epsilon {spent} spent so far, {planned} by the end, budget "
                f"{plan.privacy.epsilon:g} at delta {plan.privacy.delta:g}; the worst patient of "
                "any hospital, by public accounting of what was asked",
            )
        )
    yield html.facts(facts)
    yield from (
        f"<p>{tag('partial', 'bad')} {error_links(w, 'span')}</p>"
        for w in view.participation.warnings
    )
    if files.problem is not None:
        yield html.warning(files.problem)
    if view.releases_problem is not None:
        yield html.warning(view.releases_problem)


def _sites(view: View) -> str:
    metrics = any(line.metrics for line in view.sites)
    header = ["hospital", "rounds", "now", "time", "received", "last seen", "pushes", "ε at most"]
    if metrics:
        header.append("metrics of the last round")
    rows = [_site(line, view, metrics) for line in view.sites]
    return stack(header, rows, "Hospitals of this run")


def _site(line: SiteLine, view: View, metrics: bool) -> list[Field | str]:
    files, progress = view.files, view.progress
    count = len(files.history)
    told = f"{line.site} counted in {line.accepted} of {count} rounds"
    asked = sum(one is not None for one in line.taken)
    small = "" if asked == count else f"asked in {asked}"
    if line.missing is not None:
        code, reason = line.missing
        word = "absent" if code == "SMR-E501" else "missing"
        now = Field(drawn=tag(word, "bad") + error_links(f"{code} {reason}"), left=True)
    elif progress.under_way and line.site in progress.answered:
        now = Field(drawn=tag("answered", "good"), left=True)
    elif progress.under_way:
        now = Field(drawn=tag("asked", "busy"), left=True)
    else:
        now = Field(drawn=tag("took part" if line.accepted else "not asked yet", "idle"), left=True)
    cells: list[Field | str] = [
        Field(line.site, f"weight {line.weight}"),
        Field(f"{line.accepted} of {count}", small, drawn=strip(line.taken, told)),
        now,
        "" if line.seconds is None else lasting(line.seconds),
        Field(sized(line.bytes), f"{line.replies} replies"),
        moment(line.last_seen),
        str(line.pushes),
        budget(line.epsilon, files.plan.privacy.mode),
    ]
    if metrics:
        cells.append(", ".join(f"{name} {value:.4g}" for name, value in line.metrics.items()))
    return cells


def _figures(view: View) -> Iterator[str]:
    made = [release for release in view.releases if release.asked.kind == "evaluate"]
    if not made:
        every = view.files.plan.evaluation.release_every
        none = "nothing about test patients was released yet"
        if not every:
            none = "this plan releases nothing about test patients (evaluation.release_every)"
        yield html.paragraph(f"How well the model does is not known here: {none}.", "note")
        return
    newest = made[-1]
    found = view.figures.figures(newest)
    missing = "".join(
        f"<li>{error_links(f'{site}: {why}', 'span')}</li>"
        for site, why in newest.asked.set_aside.items()
    )
    if found is None:
        yield html.paragraph("The newest figures are being computed.", "note")
    else:
        columns: dict[str, Figures] = dict(found.sites)
        if found.together is not None:
            columns = {"all together": found.together, **columns}
        header = ("", "test patients", "balanced accuracy, %", "macro AUC", "calibration gap")
        rows = [
            [
                Field(name),
                Field(*with_interval(one.patients, 1, 0)),
                Field(*with_interval(one.balanced_accuracy, 100, 1)),
                Field(*with_interval(one.macro_auc)),
                Field(*with_interval(one.calibration_error)),
            ]
            for name, one in columns.items()
        ]
        noise = "exact counts (mode none)"
        if view.files.plan.privacy.mode != "none":
            noise = "noised counts that the hospitals released; intervals hold patients and noise"
        share = share_in_words(newest.asked.accepted, view.files.members)
        told = f"After round {newest.after_round}, from {noise}, 95 %; {share} answered."
        yield html.paragraph(told, "note")
        yield stack(header, rows, "Released figures by hospital")
    if missing:
        yield f'<p class="note">Not in these figures:</p><ul>{missing}</ul>'


def _rounds(view: View, upto: int | None) -> Iterator[str]:
    records = [r for r in view.history if upto is None or r.round <= upto]
    shown = list(reversed(records))[:ROUNDS_SHOWN]
    header = ("round", "counted", "not counted, and why", "began", "took", "attempts")
    rows = [_round(record, view) for record in shown]
    if not rows:
        yield html.paragraph("No round was completed yet.", "note")
        return
    yield stack(header, rows, "Rounds, the newest first")
    links = []
    here = run_link(view.files.name)
    if upto is not None and upto < view.files.completed:
        links.append(f'<a href="{escape(here)}#rounds">newest rounds</a>')
    if len(records) > len(shown):
        links.append(f'<a href="{escape(here)}?upto={shown[-1].round}#rounds">older rounds</a>')
    if links:
        yield f'<p class="pager">{"".join(links)}</p>'


def _round(record: RoundRecord, view: View) -> list[Field | str]:
    label = str(record.round)
    small: str = "" if record.kind == "train" else record.kind
    if record is view.files.stopped:
        small = "quorum missed"
    aside = ""
    if record.void is not None:
        small = "void"
        aside = "".join(error_links(f"void: {record.void}", "div"))
    aside += "".join(error_links(f"{site}: {why}", "div") for site, why in record.set_aside.items())
    all_in = len(record.accepted) == len(view.files.weights)
    partial = "" if all_in else f"{len(record.accepted)} of {len(view.files.weights)} hospitals"
    return [
        Field(label, small),
        Field(", ".join(record.accepted) or "none", partial, left=True),
        Field(drawn=aside, left=True),
        moment(record.started_at, seconds=True),
        lasting(record.seconds),
        str(record.attempts),
    ]


def _receipts(view: View) -> Iterator[str]:
    found = view.receipts
    if found.problem is not None:
        yield html.warning(f"SMR-E561 The chain of receipts does not hold: {found.problem}.")
    else:
        yield html.paragraph(
            f"{found.lines} receipts in an unbroken chain, {sized(found.bytes)} received."
        )
    agree = found.replies - len(found.without_receipt)
    yield html.paragraph(
        f"{agree} of the {found.replies} replies in the history have their receipt."
        + (f" Without: {'; '.join(found.without_receipt[:10])}." if found.without_receipt else "")
    )
    if found.not_authentic:
        yield html.paragraph(
            f"{found.not_authentic} messages were not authentic: they are listed by "
            "smrfed-coordinator receipts and counted nowhere."
        )


def _events(view: View) -> Iterator[str]:
    lines = [_event(event) for event in reversed(view.files.events[-_EVENTS_SHOWN:])]
    if not lines:
        yield html.paragraph("Nothing happened yet.", "note")
        return
    yield html.paragraph("The newest first.", "note")
    text = escape("\n".join(lines))
    yield f'<pre class="log" tabindex="0" role="region" aria-label="Events">{text}</pre>'


def _event(event: Mapping[str, Any]) -> str:
    """One line; fields of later versions are shown as they are."""
    kind = str(event["kind"]).replace("_", " ")
    time = next((moment(str(event[k]), seconds=True) for k in ("time", "at") if k in event), "")
    where = f"round {event.get('round', '?')}"
    if event.get("phase") not in (None, "train"):
        where += f", {event['phase']}"
    known = ("kind", "round", "rounds", "phase", "time", "at")
    rest = [str(v) for k, v in event.items() if k in ("site", "reason") and v is not None]
    rest += [f"{k}={v}" for k, v in event.items() if k not in (*known, "site", "reason") and v]
    said = f"{where}: {kind}" + (f"  {'  '.join(rest)}" if rest else "")
    return "".join(c if c.isprintable() else " " for c in f"{time}  {said}".strip())[:400]
