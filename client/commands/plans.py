"""``smrfed-site accept``: what a plan asks of this hospital, shown before a person agrees."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from client.agent.acceptance import AcceptedPlans, Shapes
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
from client.privacy.composition import plan_use
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.privacy.accounting import epsilon

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
    policy.admit_plan(agreed)
    with err.status("building the model to list what it would send"):
        outgoing = outgoing_arrays(agreed, config)
    if outgoing is not None:
        policy.admit_plan(agreed, outgoing)
    private = agreed.privacy.mode != "none"
    spent = epsilon([plan_use(agreed)], agreed.privacy.delta) if private else None
    if not as_json:
        print_facts(
            {
                "plan": agreed.name,
                "digest": agreed.digest,
                "this site": f"{entry.name}, {entry.declared_patients} declared patients (public)",
                "privacy": f"mode {agreed.privacy.mode}, "
                + (
                    f"epsilon {spent:.3f} at delta {agreed.privacy.delta:g} per patient "
                    f"(the plan's budget {agreed.privacy.epsilon:g}, "
                    f"this hospital's cap {policy.max_epsilon:g})"
                    if private
                    else "no guarantee: for public or synthetic data only"
                ),
                "training": f"{agreed.training.rounds} rounds of {agreed.training.local_steps} "
                f"steps, sampling rate {agreed.training.sampling_rate:g}",
                "leaves": "per round the update of the shared parameters below"
                + ("; never metrics, losses or counts" if private else _metrics(policy)),
                "stays": "scans, identifiers, site parameters, evaluation, ledger and receipts",
            }
        )
        _print_outgoing(agreed, outgoing)
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


def outgoing_arrays(plan: FederationPlan, config: Path) -> Shapes | None:
    """Names and shapes of the shared parameters; ``None`` where the training stack is missing.

    The model is built in a process of its own, so that this one needs no torch. Raises the error of
    that process when the model cannot be built.
    """
    done = subprocess.run(
        [sys.executable, "-m", "client.agent.outgoing", str(config)],
        input=plan.canonical_json,
        capture_output=True,
        check=False,
    )
    if done.returncode == 3:
        return None
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise SmrfedError(
            "SMR-E418",
            "the process that lists what a plan would send ended without an answer",
            expected="names and shapes",
            found=done.stderr.decode(errors="replace").strip()[-500:],
            remedy="run `python -m client.agent.outgoing SITE_TOML < plan.json` to see its error",
        ) from None
    if "error" in answer:
        raise SmrfedError(**answer["error"])
    return {name: tuple(shape) for name, shape in answer["shapes"].items()}


def _print_outgoing(plan: FederationPlan, outgoing: Shapes | None) -> None:
    if outgoing is None:
        out.print(
            f"no torch here: the shared parameters match {list(plan.groups.shared)}, less "
            f"{list(plan.groups.frozen + plan.groups.site)}; the agent refuses any other"
        )
        return
    table = Table("array that leaves per round", "shape", "bytes")
    for name, shape in outgoing.items():
        table.add_row(name, " x ".join(map(str, shape)) or "1", f"{4 * math.prod(shape):,}")
    numbers = sum(math.prod(shape) for shape in outgoing.values())
    table.add_section()
    table.add_row(f"{len(outgoing)} arrays", f"{numbers:,} numbers", f"{4 * numbers:,}")
    out.print(table)


def _metrics(policy: SitePolicy) -> str:
    return "; training loss and drawn patients" if policy.allow_metrics else "; no metrics"


def _ask(as_json: bool) -> None:
    if as_json or not sys.stdin.isatty():
        raise SmrfedError(
            "SMR-E419",
            "a plan is accepted by a person",
            expected="an answer at a terminal, or --yes",
            found="no terminal",
            remedy="read what the plan asks, then run the command again with --yes",
        )
    typer.confirm("Accept this plan on behalf of the hospital?", abort=True)
