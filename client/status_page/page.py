"""The sections of the hospital's page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from html import escape

from client.egress.receipts import Receipt
from client.status_page.activity import Activity
from client.status_page.budget import Budget
from client.status_page.policy_words import policy_words
from client.status_page.quality_counts import QualityCounts
from client.status_page.records import Records
from shared_model.errors import SmrfedError
from shared_model.evaluation import html
from shared_model.local_page.drawings import bar
from shared_model.local_page.error_texts import error_folder
from shared_model.local_page.table import Field, stack, tag
from shared_model.preflight.checks import Finding

_CODE = re.compile(r"SMR-E\d{3}")
_LEVELS = {"ok": "good", "note": "busy", "problem": "bad", "skipped": "idle"}
_ANSWERS = {"allowed": "good", "refused": "bad", "person": "busy", "note": "idle"}
STAYS = "This page stays on this machine: exact numbers of patients and scans are on it."


def site_sections(
    activity: Activity | None,
    budget: Budget | None,
    records: Records,
    quality: QualityCounts | None,
    findings: Sequence[Finding] | None,
) -> list[str]:
    """All sections in the order of the page."""
    made = [
        html.section("now", "What the agent does", *_now(activity)),
        html.section("budget", "Privacy budget", *_budget(budget)),
        html.section("receipts", "What left", *_receipts(records)),
        html.section("quality", "Quality of the scans", *_quality(quality)),
        html.section("checks", "Pre-flight checks", *_checks(findings)),
        html.section("policy", "What this hospital allows", *_policy(budget)),
    ]
    return [section for section in made if section]


def _now(activity: Activity | None) -> Iterator[str]:
    yield html.paragraph(STAYS, "note")
    if activity is None:
        yield html.paragraph("Asking the agent.", "note")
        return
    kind = "idle" if activity.word == "idle" else "busy" if activity.running else "bad"
    yield f"<p>{tag(activity.word, kind)} {linked(activity.note)}</p>"
    facts = []
    if activity.running:
        begun = datetime.fromtimestamp(activity.started_at_s, UTC)
        facts.append(("plan", activity.plan))
        facts.append(("running since", _time(begun.isoformat())))
        if activity.run_id:
            last = f"round {activity.round} ({activity.kind}) of run {activity.run_id}"
            facts.append(("last answer", last))
    else:
        facts.append(("to start it", "smrfed-site up, or smrfed-site run"))
    for run_id, number, kind_of in reversed(activity.runs):
        facts.append((f"run {run_id}", f"answered up to round {number} ({kind_of})"))
    yield html.facts(facts)


def _budget(budget: Budget | None) -> Iterator[str]:
    if budget is None:
        yield html.paragraph("The ledger is being read.", "note")
        return
    yield from (_problem(error) for error in budget.problems)
    found = budget.overview
    if found is not None:
        share = found.epsilon / found.max_epsilon
        told = f"epsilon {found.epsilon:.3f} of {found.max_epsilon:g}"
        yield html.paragraph(
            f"The patient who has spent most has spent {told}, at delta {found.delta:g}, over all "
            f"plans and runs; {found.remaining:.3f} remain."
        )
        yield bar(share, told)
        if found.without_privacy:
            yield html.warning(
                f"Not covered: {found.without_privacy} releases in privacy mode none, without "
                "noise. No epsilon holds for the patients in them."
            )
        yield html.paragraph(
            f"Patients ever charged: {found.patients}; half of them spent at most epsilon "
            f"{found.median:.3f}. {len(found.entries)} charges, chain verified."
        )
    spent = {} if found is None else {plan.digest: plan for plan in found.plans}
    if budget.plans:
        header = ("plan", "digest", "accepted", "mode", "rounds", "ε spent", "budget")
        rows: list[list[Field | str]] = []
        for plan in reversed(budget.plans):
            cost = spent.get(plan.digest)
            limit = None if cost is None else cost.epsilon_budget
            rows.append(
                [
                    plan.name, plan.digest[:16], _time(plan.accepted_at), plan.mode,
                    str(plan.rounds), "" if cost is None else f"{cost.epsilon:.3f}",
                    "" if limit is None else f"{limit:g}",
                ]
            )  # fmt: skip
        yield stack(header, rows, "Accepted plans")
    else:
        yield html.paragraph("No plan was accepted yet: smrfed-site accept PLAN.", "note")
    if budget.picture:
        yield (
            '<div class="scroll drawing" tabindex="0" role="region" '
            f'aria-label="Epsilon over time">{budget.picture}</div>'
        )


def _receipts(records: Records) -> Iterator[str]:
    for chain in records.chains:
        if chain.problem is not None:
            yield html.warning(f"SMR-E326 The {chain.name} were altered: {chain.problem}.")
    sound = [f"{c.lines} {c.name}" for c in records.chains if c.problem is None]
    yield html.paragraph(f"Chains verified: {', '.join(sound) or 'none'}.")
    yield html.paragraph(
        f"{records.left} replies with {records.bytes:,} bytes left this hospital, to its "
        f"coordinator; the coordinator has signed for {records.acknowledged}."
    )
    if records.last:
        header = ("receipt", "time", "what", "bytes", "ε after", "received there")
        rows = [_receipt(line, said) for line, said in records.last]
        yield stack(header, rows, "The newest receipts")
        yield html.paragraph("All of a reply: smrfed-site receipts show NUMBER.", "note")


def _receipt(line: Receipt, said: bool | str | None) -> list[Field | str]:
    made = line.decision
    left = tag("left", "busy") if made.released else tag("refused", "bad")
    note = "" if made.released else f"<small>{linked(made.rule)}</small>"
    if not made.released:
        there = Field("")
    elif said is None:
        there = Field("not yet signed for")
    else:
        there = Field(drawn=tag("yes", "good") if said is True else f"{linked(str(said))}")
    return [
        str(line.number),
        _time(line.time),
        Field(f"{made.kind}, round {made.round} of {made.run_id}", drawn=f" {left}{note}",
              left=True),
        f"{made.bytes:,}",
        "" if made.epsilon_after is None else f"{made.epsilon_after:.3f}",
        there,
    ]  # fmt: skip


def _quality(found: QualityCounts | None) -> Iterator[str]:
    if found is None:
        yield html.paragraph(
            "No scan went through quality control yet: smrfed-site prepare does it for scans as "
            "acquired.",
            "note",
        )
        return
    order = [name for name in ("pass", "review", "fail") if name in found.verdicts]
    told = ", ".join(f"{found.verdicts[name]} {name}" for name in order)
    yield html.paragraph(
        f"{found.scans} prepared scans{f': {told}' if told else ''}; training gets {found.used}."
    )
    if found.excluded:
        listed = ", ".join(f"{linked(code)} ({n})" for code, n in found.excluded.items())
        yield f'<p class="note">Left out, by number: {listed}.</p>'
    if found.page:
        yield '<p><a href="/quality">The quality page with every scan</a></p>'


def _checks(findings: Sequence[Finding] | None) -> Iterator[str]:
    if findings is None:
        yield html.paragraph("The checks are being made.", "note")
        return
    problems = sum(finding.level == "problem" for finding in findings)
    yield html.paragraph(
        f"Problems: {problems} in {len(findings)} checks that only look; smrfed-site check makes "
        "all of them, the network and the archive included.",
        "note",
    )
    rows: list[list[Field | str]] = []
    for finding in findings:
        told = finding.found
        if finding.error is not None:
            told = f"{finding.error.code} {finding.error.what}. {finding.error.remedy}"
        level = tag(finding.level, _LEVELS[finding.level])
        rows.append(
            [finding.what, Field(drawn=level, left=True), Field(drawn=linked(told), left=True)]
        )
    yield stack(("check", "state", "found"), rows, "Pre-flight checks")


def _policy(budget: Budget | None) -> Iterator[str]:
    if budget is None or budget.policy is None:
        return
    yield html.items(policy_words(budget.policy))
    if budget.answers:
        yield html.heading(f"The newest plan against it: {budget.plans[-1].name}")
        rows: list[list[Field | str]] = []
        for line in budget.answers:
            word = {"person": "needs a person", "note": ""}.get(line.verdict, line.verdict)
            drawn = tag(word, _ANSWERS[line.verdict]) if word else ""
            number = f" {linked(line.code)}" if line.code else ""
            rows.append(
                [
                    line.subject, Field(line.asks, left=True), Field(line.allows, left=True),
                    Field(drawn=drawn + number, left=True),
                ]
            )  # fmt: skip
        yield stack(
            ("", "the plan asks", "this hospital allows", "answer"), rows, "Plan and policy"
        )


def linked(text: str) -> str:
    """Text with its error numbers as links to their pages, where this installation has them."""
    if error_folder() is None:
        return escape(text)
    return _CODE.sub(lambda m: f'<a href="/errors/{m[0]}">{m[0]}</a>', escape(text))


def _problem(error: SmrfedError) -> str:
    return f'<p class="stays">{linked(f"{error.code} {error.what}. {error.remedy}")}</p>'


def _time(text: str) -> str:
    try:
        return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M UTC}"
    except ValueError:
        return text
