"""``smrfed-site receipts`` and ``ledger``: what left this hospital, and what it has cost."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from client.agent.acceptance import AcceptedPlans
from client.agent.state import StateFolder
from client.commands.display import DEFAULT_CONFIG, AsJson, ConfigPath, out, print_facts, print_json
from client.config import SiteConfig
from client.egress.policy import SitePolicy
from client.egress.receipts import Receipts
from client.privacy.ledger import Ledger


def receipts(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Show every decision about data leaving this hospital, and verify that none is missing."""
    site = SiteConfig.load(config)
    read = Receipts(StateFolder(site.state_dir).receipts).read()
    if as_json:
        print_json([receipt.model_dump(mode="json") for receipt in read])
        return
    table = Table(
        "no.", "time (UTC)", "left?", "run", "round", "numbers", "bytes", "epsilon", "rule"
    )
    for receipt in read:
        decision = receipt.decision
        epsilon = "" if decision.epsilon_after is None else f"{decision.epsilon_after:.3f}"
        table.add_row(
            str(receipt.number),
            receipt.time[:19],
            "left" if decision.released else "[red]refused[/red]",
            escape(decision.run_id),
            f"{decision.round} {decision.kind}",
            f"{decision.numbers:,}",
            f"{decision.bytes:,}",
            epsilon,
            escape(decision.rule),
        )
    out.print(table)
    out.print(f"{len(read)} receipts, chain verified")


def ledger(config: ConfigPath = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Show what this hospital's patients have spent, entry by entry, and verify the ledger."""
    site = SiteConfig.load(config)
    state = StateFolder(site.state_dir)
    policy = SitePolicy.load(site.policy)
    book = Ledger(state.ledger, policy.max_epsilon)
    entries = book.entries()
    names = {a.plan.digest: a.plan for a in AcceptedPlans(state.plans).all()}
    # Each plan accounts at its own delta; the hospital's total at the policy's.
    plans = [
        {
            "name": plan.name,
            "digest": digest,
            "delta": plan.privacy.delta,
            "epsilon": book.spent(plan.privacy.delta, digest),
            "epsilon_budget": plan.privacy.epsilon,
        }
        for digest, plan in names.items()
        if plan.privacy.mode != "none"
    ]
    total = book.spent(policy.max_delta)
    if as_json:
        print_json(
            {
                "epsilon": total,
                "delta": policy.max_delta,
                "max_epsilon": policy.max_epsilon,
                "plans": plans,
                "entries": [
                    {
                        "id": entry.id,
                        "time": entry.time,
                        "run": entry.run_id,
                        "round": entry.round,
                        "plan": entry.plan_digest,
                        "noise_multiplier": entry.use.noise_multiplier,
                        "sampling_rate": entry.use.sampling_rate,
                        "steps": entry.use.steps,
                        "state": entry.state,
                    }
                    for entry in entries
                ],
            }
        )
        return
    table = Table("no.", "time (UTC)", "run", "round", "plan", "noise", "rate", "steps", "state")
    for entry in entries:
        table.add_row(
            str(entry.id),
            entry.time[:19],
            escape(entry.run_id),
            str(entry.round),
            entry.plan_digest[:12],
            f"{entry.use.noise_multiplier:.4g}",
            f"{entry.use.sampling_rate:g}",
            str(entry.use.steps),
            entry.state,
        )
    out.print(table)
    facts = {
        "spent": f"epsilon {total:.4f} of {policy.max_epsilon:g} at delta {policy.max_delta:g}, "
        "over all plans and runs"
    }
    for p in plans:
        facts[f"plan {p['name']}"] = (
            f"epsilon {p['epsilon']:.4f} of {p['epsilon_budget']:g} at delta {p['delta']:g}"
        )
    print_facts({**facts, "ledger": f"{len(entries)} entries, chain verified"})
