"""Ledger and receipts: whole, unaltered, and with room for the plan."""

from __future__ import annotations

from client.egress.acknowledgements import Acknowledgements
from client.egress.policy import SitePolicy
from client.egress.receipts import Receipts
from client.egress.refusals import Refusals
from client.ledger_view.opened import kept_receipts, opened_ledger
from client.preflight.site import CheckedSite
from shared_model.errors import SmrfedError
from shared_model.preflight.checks import Note
from shared_model.protocol.keys import load_public_key


def check_ledger(site: CheckedSite) -> str:
    """The ledger's chain, against the receipts too, and what remains of the cap.

    Raises as :func:`client.ledger_view.opened.opened_ledger`.
    """
    with opened_ledger(site.state, float("inf")) as ledger:
        events = ledger.verify()
        try:
            policy = SitePolicy.load(site.config.policy)
        except SmrfedError:  # the check of the policy tells
            return f"{events} events, chain verified"
        spent = ledger.spent(policy.max_delta)
    text = (
        f"{events} events, chain verified; epsilon {spent:.3f} of {policy.max_epsilon:g} at delta "
        f"{policy.max_delta:g}"
    )
    return Note(f"{text}: the cap is reached") if spent >= policy.max_epsilon else text


def check_receipts(site: CheckedSite) -> str:
    """The chains of receipts, refusals and acknowledgements; raises SMR-E326, and SMR-E118 without
    the coordinator's key.
    """
    state = site.state
    receipts = kept_receipts(state)
    refused = Refusals(state.refusals).read() if state.refusals.exists() else ()
    acknowledged = 0
    if state.acknowledgements.exists():
        key = load_public_key(site.config.coordinator_key)
        said = Acknowledgements(state.acknowledgements, key, Receipts(state.receipts))
        acknowledged = len(said.read())
    return (
        f"{len(receipts)} receipts, {acknowledged} acknowledged, {len(refused)} lines on refusals; "
        "chains verified"
    )
