"""``smrfed-site prepare`` and ``review``: from the archive to data that training may trust."""

from __future__ import annotations

import getpass
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from client.agent.acceptance import AcceptedPlans
from client.agent.state import StateFolder
from client.agent.state_lock import StateLock
from client.commands.display import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigPath,
    err,
    out,
    print_facts,
    print_json,
)
from client.commands.serving import PlanDigest, log_to, start_with_settings
from client.config import SiteConfig
from client.prepared.no_room import no_room
from shared_model.errors import SmrfedError
from shared_model.plan import AtlasSection, FederationPlan, InputSection
from shared_model.preparation import Preparation

if TYPE_CHECKING:
    from client.intake.report import IntakeReport
    from client.prepared.assessment import AssessedScan, Assessment
    from client.prepared.native_site import NativeSite
    from client.prepared.prune import Pruned
    from client.quality.admission import Use

#: The exit code when everything else is prepared but something was excluded.
EXCLUDED = 3
_SHORTEST_NAME = 6
_RESULTS = ("pass", "review", "fail")

Workers = Annotated[
    int | None,
    typer.Option(min=1, help="scans at once, 3 GiB each; default: as cores and memory allow"),
]
Again = Annotated[
    bool, typer.Option("--again", help="also try scans again that failed before, unchanged")
]
Prune = Annotated[
    bool,
    typer.Option(
        "--prune",
        help="then remove what was derived from scans that left the archive, or for plans that "
        "nobody accepted",
    ),
]
ScanName = Annotated[
    str, typer.Argument(help="the scan's name on the quality page (its first digits)")
]
Decision = Annotated[Literal["accept", "reject"], typer.Argument(help="what you decide")]
Why = Annotated[str, typer.Option("--why", help="the reason, for the record")]
Who = Annotated[str, typer.Option("--who", help="who decides; default: the user logged in")]


def prepare(
    config: ConfigPath = DEFAULT_CONFIG,
    plan: PlanDigest = None,
    workers: Workers = None,
    again: Again = False,
    prune: Prune = False,
    as_json: AsJson = False,
) -> None:
    """Take in, prepare and check every scan of the archive; only what is missing is done.

    Uses the newest accepted plan's recipe; before any plan, the default for native scans, so that a
    hospital can look at its data first. Exit code 3: prepared, but something was excluded.
    """
    site = SiteConfig.load(config)
    agreed = _plan(site, plan)
    aligned = agreed is not None and agreed.input.preparation.source == "mni152"
    if aligned:
        start_with_settings(site.threads)
    try:
        log_to(StateFolder(site.state_dir).log)
    except OSError as error:
        raise no_room(site.state_dir, error) from None
    if prune:
        # An agent holds patients in memory: better told now than after an hour.
        StateLock(site.state_dir).release()
    if agreed is not None and aligned:
        _prepare_aligned(site, agreed)
        if prune:
            _tell_pruned(_prune(site, native=False))
        return
    intake = None if site.dicom is None else _take_in(site)
    native = native_site(site, agreed)
    assessment = _prepare_native(native, agreed, workers, again, intake)
    pruned = _prune(site, native=True) if prune else None
    _tell(site, native, assessment, intake, pruned, as_json)
    left_out = any(scan.refusal(native.input.quality) for scan in assessment.scans)
    if assessment.exclusions or left_out:
        raise typer.Exit(EXCLUDED)


def review(
    scan: ScanName,
    decision: Decision,
    why: Why,
    config: ConfigPath = DEFAULT_CONFIG,
    who: Who = "",
    plan: PlanDigest = None,
    as_json: AsJson = False,
) -> None:
    """Record a person's decision about one scan: accept what needs review, or reject a scan."""
    site = SiteConfig.load(config)
    from client.quality.overrides import Overrides

    native = native_site(site, _plan(site, plan))
    named = [s for s in native.assessment().scans if s.record.source_sha256.startswith(scan)]
    # One image that lies in two sessions is one scan; the decision is about its worse verdict.
    count = len({s.record.source_sha256 for s in named})
    if count != 1 or len(scan) < _SHORTEST_NAME:
        raise SmrfedError(
            "SMR-E287",
            f"{scan!r} does not name one scan",
            expected="six or more first digits of a scan's name on the quality page",
            found=f"{count} scans that begin with it",
            remedy="copy the scan's name from the quality page",
        )
    found = max(named, key=lambda s: _RESULTS.index(s.verdict.result))
    override = Overrides(site.state_dir).record(
        found.record.source_sha256,
        decision,
        found.verdict,
        who=who or getpass.getuser(),
        why=why,
    )
    facts = {
        "scan": f"{found.patient.id} {found.scan.session} {override.source_sha256[:12]}",
        "verdict": found.verdict.result,
        "decision": f"{decision} by {override.who}: {override.why}",
        "training": _taken(replace(found, override=override), native.input.quality),
    }
    print_json(facts) if as_json else print_facts(facts)


def _taken(scan: AssessedScan, use: Use) -> str:
    refused = scan.refusal(use)
    return "takes it" if refused is None else f"does not take it: {refused.code}, {refused.what}"


def native_site(site: SiteConfig, plan: FederationPlan | None) -> NativeSite:
    """The hospital's native archive under a plan, or under the default recipe."""
    from client.prepared.native_site import NativeSite

    if plan is None:
        section = InputSection(preparation=Preparation(source="native"))
        return NativeSite(site, section, AtlasSection(), ())
    return NativeSite(site, plan.input, plan.atlas, plan.task.labels)


def _plan(site: SiteConfig, digest: str | None) -> FederationPlan | None:
    plans = AcceptedPlans(StateFolder(site.state_dir).plans)
    if digest is not None:
        return plans.find(digest).plan
    accepted = plans.all()
    return accepted[-1].plan if accepted else None


def _prepare_aligned(site: SiteConfig, plan: FederationPlan) -> None:
    from client.agent.agent import SiteAgent

    agent = SiteAgent(site, plan)
    try:
        with _bar() as bar:
            task = bar.add_task("preparing patients", total=None)
            agent.prepare(lambda done, total: bar.update(task, completed=done, total=total))
    finally:
        agent.close()
    out.print("prepared; start the agent with smrfed-site run")


def _prune(site: SiteConfig, *, native: bool) -> Pruned:
    from client.prepared.prune import prune

    accepted = AcceptedPlans(StateFolder(site.state_dir).plans).all()
    return prune(site, [acceptance.plan for acceptance in accepted], native=native)


def _tell_pruned(pruned: Pruned) -> None:
    out.print(f"removed: {pruned.files} files, {pruned.megabytes:g} MB", highlight=False)


def _take_in(site: SiteConfig) -> IntakeReport:
    from client.intake.intake import take_in
    from client.intake.pseudonym import load_pseudonym_key

    assert site.dicom is not None
    with _bar() as bar:
        task = bar.add_task("taking in DICOM", total=None)
        return take_in(
            site.archive,
            site.dataset,
            site.dicom,
            load_pseudonym_key(site.state_dir),
            lambda what, done, total: bar.update(
                task, description=what, completed=done, total=total
            ),
        )


def _prepare_native(
    native: NativeSite,
    plan: FederationPlan | None,
    workers: int | None,
    again: bool,
    intake: IntakeReport | None,
) -> Assessment:
    from client.prepared.native_run import default_workers

    provenance = {"plan": "none yet" if plan is None else f"{plan.name} ({plan.digest[:12]})"}
    with _bar() as bar:
        task = bar.add_task("preparing scans", total=None)
        return native.prepare(
            workers or default_workers(),
            lambda done, total: bar.update(task, completed=done, total=total),
            provenance,
            again=again,
            not_taken_in=() if intake is None else intake.exclusions,
        )


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description:<18}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=err,
        transient=True,
    )


def _tell(
    site: SiteConfig,
    native: NativeSite,
    assessment: Assessment,
    intake: IntakeReport | None,
    pruned: Pruned | None,
    as_json: bool,
) -> None:
    use = native.input.quality
    verdicts = Counter(scan.verdict.result for scan in assessment.scans)
    used = sum(scan.refusal(use) is None for scan in assessment.scans)
    excluded = Counter(e.code for e in assessment.exclusions)
    not_taken = Counter(e.code for e in (() if intake is None else intake.exclusions))
    folder = StateFolder(site.state_dir).derivatives
    page = folder / "quality.html"
    if as_json:
        facts: dict[str, Any] = {
            "scans": len(assessment.scans),
            "verdicts": dict(verdicts),
            "used": used,
            "excluded": dict(excluded),
            "page": str(page),
        }
        if intake is not None:
            facts["intake"] = {"images": intake.images, "excluded": dict(not_taken)}
        if pruned is not None:
            facts["pruned"] = {"files": pruned.files, "megabytes": pruned.megabytes}
        print_json(facts)
        return
    if intake is not None:
        out.print(f"{intake.dicom_files} DICOM files: {intake.images} T1w scans taken in")
        for session in intake.sessions:
            for warning in session.warnings:
                out.print(f"{session.subject} {session.session}: {warning}", markup=False)
        for warning in intake.warnings:
            out.print(warning, markup=False)
    table = Table("", "", show_header=False, box=None)
    for name in ("pass", "review", "fail"):
        table.add_row(name, str(verdicts[name]))
    table.add_row("training takes", str(used))
    out.print(table)
    for code, count in sorted(excluded.items()):
        out.print(f"excluded: {count} by {code} (docs/errors/{code}.md)", highlight=False)
    if pruned is not None:
        _tell_pruned(pruned)
    out.print(f"look at {page}", soft_wrap=True, highlight=False)
