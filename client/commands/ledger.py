"""``smrfed-site ledger``: what every release has cost this hospital's patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from client.agent.acceptance import AcceptedPlans
from client.agent.durable import write_durably
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
from client.ledger_view.drawing import drawing
from client.ledger_view.export import as_json as export_as_json
from client.ledger_view.export import export_html, verified
from client.ledger_view.forecast import Side, forecast
from client.ledger_view.opened import kept_receipts, opened_ledger
from client.ledger_view.overview import Overview, overview
from client.ledger_view.timeline import points, timeline
from client.privacy.ledger import Ledger
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.privacy.section import SUMMED
from shared_model.privacy.trust import trust_in_words
from shared_model.protocol.keys import load_public_key, load_signing_key, public_path

app = typer.Typer(
    help="Show what this hospital's patients have spent; forecast a plan; export for an officer.",
    invoke_without_command=True,
)

Plot = Annotated[
    Path | None, typer.Option("--plot", help="draw epsilon over time into an SVG", metavar="FILE")
]
CrossCheck = Annotated[
    bool, typer.Option("--cross-check", help="compute epsilon with a second accountant (Opacus)")
]
PlanPath = Annotated[Path, typer.Argument(help="federation plan in TOML", metavar="PLAN")]
File = Annotated[Path, typer.Argument(help="HTML file", metavar="FILE")]
Rounds = Annotated[
    int | None, typer.Option("--rounds", min=1, help="rounds to come; default: all of the plan")
]
Key = Annotated[
    Path | None,
    typer.Option("--key", help="the site's public key (PEM); default: this site's", metavar="PEM"),
]

_LEVELS_SHOWN = 12


@app.callback()
def show(
    context: typer.Context,
    config: ConfigPath = DEFAULT_CONFIG,
    plot: Plot = None,
    cross_check: CrossCheck = False,
    as_json: AsJson = False,
) -> None:
    """Show what this hospital's patients have spent, entry by entry, and verify the ledger."""
    if context.invoked_subcommand is not None:
        return
    if plot is not None and plot.suffix != ".svg":
        raise typer.BadParameter("the drawing is an SVG: name a file that ends in .svg")
    site, policy, plans = _site(config)
    state = StateFolder(site.state_dir)
    with opened_ledger(state, policy.max_epsilon) as ledger:
        figures = overview(ledger, policy, plans, kept_receipts(state))
        second = _second_opinion(ledger, policy.max_delta) if cross_check else None
        if plot is not None:
            write_durably(plot, _drawn(ledger, figures).encode())
        events = ledger.verify()
    if as_json:
        checked = {} if second is None else {"cross_check": second}
        print_json({**figures.model_dump(mode="json"), **checked})
        return
    _print_entries(figures)
    _print_levels(figures)
    facts = {
        "spent": f"epsilon {figures.epsilon:.4f} of {figures.max_epsilon:g} at delta "
        f"{figures.delta:g} by the patient who has spent most, over all plans and runs; "
        f"{figures.remaining:.4f} remain",
        "replace one": f"epsilon {_number(figures.replace_one)} if that patient's data were others "
        "instead of absent",
        "patients": f"{figures.patients}; half of them have spent at most epsilon "
        f"{figures.median:.4f}",
    }
    for plan in figures.plans:
        budget = "" if plan.epsilon_budget is None else f" of {plan.epsilon_budget:g}"
        facts[f"plan {plan.name}"] = f"epsilon {plan.epsilon:.4f}{budget} at delta {plan.delta:g}"
        if plan.mode in SUMMED:
            facts[f"trust, plan {plan.name}"] = f"mode {plan.mode}: {plan.trust}"
    if figures.without_privacy:
        facts["not covered"] = (
            f"{figures.without_privacy} releases in privacy mode none, without noise: no epsilon "
            "holds for the patients in them"
        )
    if second is not None:
        facts["second accountant"] = (
            f"epsilon {second['prv']:.4f} by PRV, {second['pld']:.4f} by PLD: "
            + ("they agree" if second["agree"] else "THEY DIFFER by more than their errors")
        )
    print_facts(
        {**facts, "ledger": f"{len(figures.entries)} entries, {events} events, chain verified"}
    )


@app.command("forecast")
def show_forecast(
    plan: PlanPath,
    config: ConfigPath = DEFAULT_CONFIG,
    rounds: Rounds = None,
    as_json: AsJson = False,
) -> None:
    """Show what a plan would cost these patients, and whether it would be refused; changes nothing.

    Who would train and who would test is read from the archive where that is possible, otherwise
    everybody whom the ledger knows is taken for both, with one newcomer.
    """
    site, policy, _ = _site(config)
    asked = FederationPlan.load(plan)
    if asked.privacy.mode == "none":
        _print_no_guarantee(asked, as_json)
        return
    planned = rounds or asked.training.rounds
    state = StateFolder(site.state_dir)
    with opened_ledger(state, policy.max_epsilon) as ledger, err.status("composing"):
        train, test, source = _sides(ledger, site, asked)
        told = forecast(asked, train, test, policy.max_epsilon, planned)
    delta = asked.privacy.delta
    facts: dict[str, Any] = {
        "plan": asked.name,
        "digest": asked.digest,
        "delta": delta,
        "patients_from": source,
        "training_patients": train.patients,
        "test_patients": test.patients,
        **asdict(told),
        "remaining": max(0.0, told.cap - told.after),
        "missing": told.missing,
        "refused": told.refused,
    }
    if as_json:
        print_json(facts)
        return
    verdict = (
        f"the ledger would refuse it: epsilon {told.missing:.4f} are missing; "
        f"{told.rounds_that_fit} of {told.rounds} rounds fit; {told.patients_beyond} patients "
        "would exceed the cap"
        if told.refused
        else f"fits; epsilon {facts['remaining']:.4f} of the cap would remain"
    )
    print_facts(
        {
            "plan": f"{asked.name} ({asked.digest[:16]})",
            "patients": f"{train.patients} to train, {test.patients} to test ({source})",
            "costs by itself": f"epsilon {told.alone:.4f} for {told.rounds} rounds at delta "
            f"{delta:g}",
            "holds if": trust_in_words(asked),
            "spent now": f"epsilon {told.before:.4f} of {told.cap:g} by the worst of them",
            "spent then": f"epsilon {told.after:.4f} of {told.cap:g}",
            "of the plan's own budget": f"epsilon {told.plan_after:.4f} of {told.plan_cap:g}",
            "verdict": verdict,
        }
    )


@app.command("export")
def write_export(file: File, config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Write the ledger for a data protection officer: one signed HTML file, no identifiers."""
    site, policy, plans = _site(config)
    state = StateFolder(site.state_dir)
    key = load_signing_key(state.key)
    with opened_ledger(state, policy.max_epsilon) as ledger:
        figures = overview(ledger, policy, plans, kept_receipts(state))
        document = export_html(site.name, figures, ledger.head(), _drawn(ledger, figures), key)
    write_durably(file, document)
    told = export_as_json(verified(document, key.public_key()))
    if as_json:
        print_json(told)
        return
    print_facts(
        {
            "written": file,
            "spent": f"epsilon {figures.epsilon:.4f} of {figures.max_epsilon:g}",
            "signed by": told["key_fingerprint"],
            "ledger": f"{told['events']} events, newest {told['head'][:16]}",
        }
    )


@app.command("verify-export")
def verify_export(
    file: File, config: ConfigPath = DEFAULT_CONFIG, key: Key = None, as_json: AsJson = False
) -> None:
    """Verify the signature of an export; at the hospital also that the ledger still continues it.

    With --key nothing of the hospital is needed.
    """
    if key is not None:
        told = verified(_read(file), load_public_key(key))
    else:
        site, policy, _ = _site(config)
        state = StateFolder(site.state_dir)
        told = verified(_read(file), load_public_key(public_path(state.key)))
        with opened_ledger(state, policy.max_epsilon) as ledger:
            if not ledger.contains(told.events, told.head):
                raise _older_than(told.events, told.exported_at)
    if as_json:
        print_json(export_as_json(told))
        return
    print_facts(
        {
            "signature": f"holds; key {told.key_fingerprint}",
            "hospital": told.site,
            "exported": told.exported_at,
            "spent then": f"epsilon {told.overview.epsilon:.4f} of {told.overview.max_epsilon:g}",
            "ledger": f"{told.events} events"
            + ("" if key is not None else "; today's ledger continues it"),
        }
    )


def _site(config: Path) -> tuple[SiteConfig, SitePolicy, list[FederationPlan]]:
    site = SiteConfig.load(config)
    plans = AcceptedPlans(StateFolder(site.state_dir).plans).all()
    return site, SitePolicy.load(site.policy), [accepted.plan for accepted in plans]


def _sides(ledger: Ledger, site: SiteConfig, plan: FederationPlan) -> tuple[Side, Side, str]:
    from client.archive.plan_split import split_by_plan
    from client.prepared.scan_source import scan_source

    try:
        split = split_by_plan(scan_source(site, plan).patients(), plan)
    except SmrfedError as error:
        everybody = {**ledger.exposures(), frozenset(): 1}
        side = Side(everybody, {**ledger.exposures(plan.digest), frozenset(): 1})
        return side, side, f"everybody in the ledger and a newcomer; the archive: {error.code}"
    sides = [
        Side(ledger.exposures(None, ids), ledger.exposures(plan.digest, ids))
        for ids in ([p.id for p in side] for side in (split.train, split.test))
    ]
    return sides[0], sides[1], "from the archive"


def _drawn(ledger: Ledger, figures: Overview) -> str:
    charges = [len(figures.entries)]
    charges += [sum(plan.releases.values()) for plan in figures.plans if plan.releases]
    with Progress(console=err, transient=True) as bars:
        bar = bars.add_task("composing", total=points(charges))
        curves = timeline(ledger, figures.delta, lambda: bars.advance(bar))
    names = {plan.digest: plan.name for plan in figures.plans}
    return drawing(curves, names, figures.max_epsilon, figures.delta)


def _second_opinion(ledger: Ledger, delta: float) -> dict[str, Any]:
    # Opacus brings torch, which nothing else here needs.
    from client.privacy.cross_check import cross_check
    from client.privacy.per_patient import uses_of, worst_exposure

    worst = worst_exposure(ledger.exposures(), delta)
    check = cross_check(uses_of(worst), delta)
    return {"pld": check.pld, "prv": check.prv, "agree": check.agree}


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"cannot read {file}: {error.strerror}") from None


def _older_than(events: int, time: str) -> SmrfedError:
    return SmrfedError(
        "SMR-E355",
        "the privacy ledger does not contain what an export of it says",
        expected=f"event {events}, its newest on {time}",
        found="another event, or none: the ledger was replaced by an older or another one",
        remedy="restore the newest copy of the ledger with its .head and .key files; the export "
        "tells how much was spent at least",
    )


def _print_no_guarantee(plan: FederationPlan, as_json: bool) -> None:
    if as_json:
        print_json({"plan": plan.name, "digest": plan.digest, "mode": "none", "refused": False})
    else:
        out.print("privacy mode none: no budget is spent, and no guarantee is given")


def _print_entries(figures: Overview) -> None:
    """Rounds that were charged alike share a row; ``--json`` has every entry."""
    table = Table(
        "first day", "run", "rounds", "purpose", "noise", "rate", "steps", "patients", "state",
        box=SIMPLE_HEAD, padding=(0, 1, 0, 0),
    )  # fmt: skip
    alike = (
        "run", "purpose", "plan", "noise_multiplier", "sampling_rate", "steps", "patients", "state"
    )  # fmt: skip
    for _, group in groupby(figures.entries, key=lambda entry: [entry[name] for name in alike]):
        entries = list(group)
        first, last = entries[0], entries[-1]
        rounds = str(first["round"])
        if len(entries) > 1:
            rounds = f"{len(entries)}: {first['round']}-{last['round']}"
        table.add_row(
            first["time"][:10], escape(first["run"]), rounds, first["purpose"],
            f"{first['noise_multiplier']:.4g}", f"{first['sampling_rate']:g}",
            str(sum(entry["steps"] for entry in entries)), str(first["patients"]), first["state"],
        )  # fmt: skip
    out.print(table)


def _print_levels(figures: Overview) -> None:
    table = Table("epsilon spent", "replace one", "patients")
    shown: Sequence[Any] = figures.levels[:_LEVELS_SHOWN]
    for level in shown:
        table.add_row(f"{level.epsilon:.4f}", _number(level.replace_one), str(level.patients))
    rest = figures.levels[_LEVELS_SHOWN:]
    if rest:
        table.add_row(f"below, at {len(rest)} levels", "", str(sum(r.patients for r in rest)))
    out.print(table)


def _number(value: float | None) -> str:
    return "unbounded" if value is None else f"{value:.4f}"
