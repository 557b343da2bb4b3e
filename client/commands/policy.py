"""``smrfed-site policy``: a plan held against this hospital's policy, in plain words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from client.agent.acceptance import AcceptedPlans, Shapes
from client.agent.state import StateFolder
from client.commands.display import DEFAULT_CONFIG, AsJson, ConfigPath, err, out, print_json
from client.commands.outgoing import outgoing_arrays, print_outgoing
from client.config import SiteConfig
from client.egress.explanation import Circumstances, Line, explain
from client.egress.policy import SitePolicy
from client.ledger_view.opened import opened_ledger
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.protocol.keys import fingerprint, load_public_key

app = typer.Typer(help="What this hospital allows.", no_args_is_help=True)

PlanPath = Annotated[Path, typer.Argument(help="federation plan in TOML", metavar="PLAN")]

_COLOURS = {"allowed": "green", "refused": "red", "person": "yellow", "note": "dim"}
_WORDS = {"allowed": "allowed", "refused": "refused", "person": "needs a person", "note": ""}


@app.callback()
def policy() -> None:
    """What this hospital allows."""


@app.command()
def check(plan: PlanPath, config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Explain line by line what a plan asks and what the policy says; exit status 1: refused."""
    site = SiteConfig.load(config)
    agreed = FederationPlan.load(plan)
    rules = SitePolicy.load(site.policy)
    outgoing, unbuilt = None, None
    with err.status("building the model to list what it would send"):
        try:
            outgoing = outgoing_arrays(agreed, config)
        except SmrfedError as error:
            unbuilt = Line("the model", error.what, str(error.found), "refused", error.code)
    lines = explained(site, rules, agreed, outgoing)
    lines = lines if unbuilt is None else (*lines, unbuilt)
    refused = [line for line in lines if line.verdict == "refused"]
    if as_json:
        print_json(
            {
                "name": agreed.name,
                "digest": agreed.digest,
                "allowed": not refused,
                "lines": [asdict(line) for line in lines],
                "outgoing": outgoing,
            }
        )
    else:
        out.print(f"plan {agreed.name}, digest {agreed.digest}", highlight=False, soft_wrap=True)
        print_lines(lines)
        if unbuilt is None:
            print_outgoing(agreed, outgoing)
        words = "refused by this policy" if refused else "within this policy"
        out.print(f"the plan is {words}; nothing was changed")
    if refused:
        raise typer.Exit(1)


def explained(
    site: SiteConfig, rules: SitePolicy, plan: FederationPlan, outgoing: Shapes | None
) -> tuple[Line, ...]:
    """The lines for this site as it stands now."""
    state = StateFolder(site.state_dir)
    try:
        coordinator = fingerprint(load_public_key(site.coordinator_key))
    except SmrfedError:
        coordinator = None
    spent = 0.0
    if plan.privacy.mode != "none":
        with opened_ledger(state, math.inf) as ledger:
            spent = ledger.spent(plan.privacy.delta)
    accepted = any(a.plan.digest == plan.digest for a in AcceptedPlans(state.plans).all())
    around = Circumstances(site.name, coordinator, accepted, outgoing, spent, datetime.now(UTC))
    return explain(rules, plan, around)


def print_lines(lines: Sequence[Line]) -> None:
    """The explanation as a table."""
    table = Table("", "the plan asks", "this hospital allows", "answer")
    for line in lines:
        word = f"{line.code} {_WORDS[line.verdict]}" if line.code else _WORDS[line.verdict]
        colour = _COLOURS[line.verdict]
        cells = (escape(line.subject), escape(line.asks), escape(line.allows))
        table.add_row(*cells, f"[{colour}]{word}[/{colour}]")
    out.print(table)
