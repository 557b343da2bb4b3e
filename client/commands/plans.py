"""``smrfed-site accept``: what a plan asks of this hospital, shown before a person agrees."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from client.agent.acceptance import AcceptedPlans
from client.agent.state import StateFolder
from client.commands.display import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigPath,
    err,
    out,
    print_facts,
    print_json,
    require_a_person,
)
from client.commands.outgoing import outgoing_arrays, print_outgoing
from client.commands.policy import explained, print_lines
from client.config import SiteConfig
from client.egress.policy import SitePolicy
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.privacy.plan_cost import plan_epsilon
from shared_model.privacy.trust import trust_in_words

PlanPath = Annotated[Path, typer.Argument(help="federation plan in TOML", metavar="PLAN")]
Yes = Annotated[bool, typer.Option("--yes", help="accept without asking")]


def accept(
    plan: PlanPath,
    config: ConfigPath = DEFAULT_CONFIG,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Show what a plan means for this hospital, and accept it within the site's policy."""
    site = SiteConfig.load(config)
    agreed = FederationPlan.load(plan)
    policy = SitePolicy.load(site.policy)
    entry = agreed.site(site.name)
    try:
        policy.admit_plan(agreed)
    except SmrfedError:
        if not as_json:
            print_lines(explained(site, policy, agreed, None))
        raise
    with err.status("building the model to list what it would send"):
        outgoing = outgoing_arrays(agreed, config)
    if outgoing is not None:
        policy.admit_plan(agreed, outgoing)
    private = agreed.privacy.mode != "none"
    spent = plan_epsilon(agreed) if private else None
    if not as_json:
        print_facts(
            {
                "plan": agreed.name,
                "digest": agreed.digest,
                "this site": f"{entry.name}, {entry.declared_patients} declared patients (public)",
                "privacy": f"mode {agreed.privacy.mode}, "
                + (
                    f"epsilon {spent:.3f} at delta {agreed.privacy.delta:g} per "
                    f"{agreed.privacy.unit} (the plan's budget {agreed.privacy.epsilon:g}, "
                    f"this hospital's cap {policy.max_epsilon:g})"
                    if private
                    else "no guarantee: for public or synthetic data only"
                ),
                "trust": trust_in_words(agreed),
                "training": f"{agreed.training.rounds} rounds of {agreed.training.local_steps} "
                f"steps, sampling rate {agreed.training.sampling_rate:g}",
                "leaves": "only what is listed below" + ("" if private else _metrics(policy)),
                "stays": "scans, identifiers, site parameters, evaluation, ledger and receipts",
            }
        )
        print_lines(explained(site, policy, agreed, outgoing))
        print_outgoing(agreed, outgoing)
    if not yes:
        _ask(as_json)
    acceptance = AcceptedPlans(StateFolder(site.state_dir).plans).accept(agreed, outgoing)
    if as_json:
        print_json(
            {
                "name": agreed.name,
                "digest": agreed.digest,
                "accepted_at": acceptance.accepted_at,
                "privacy_mode": agreed.privacy.mode,
                "epsilon": spent,
                "outgoing": outgoing,
            }
        )
    else:
        out.print("accepted: compare the digest with the coordinator's, then smrfed-site run")
        served = _served(site)
        if served not in (None, agreed.digest):
            out.print(
                f"the agent that runs serves plan {served[:12]}; it goes over to this one by "
                "itself when the coordinator asks under it",
                style="yellow",
                markup=False,
            )


def _served(site: SiteConfig) -> str | None:
    """Digest of the plan for which an agent runs, where one does and answers."""
    if not site.socket.is_socket():
        return None
    from client.agent.stub import AgentClient

    try:
        with AgentClient(site.socket) as agent:
            return agent.status(3.0).plan_digest
    except SmrfedError:
        return None


def _metrics(policy: SitePolicy) -> str:
    return "; training loss and drawn patients" if policy.allow_metrics else "; no metrics"


def _ask(as_json: bool) -> None:
    require_a_person(as_json, act="a plan is accepted by a person", first="read what the plan asks")
    typer.confirm("Accept this plan on behalf of the hospital?", abort=True)
