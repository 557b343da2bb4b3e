"""The block of rounds that an accepted plan prescribes from some round on: the same at all ends."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from shared_model.plan import FederationPlan
from shared_model.privacy.summed_noise import section_of
from shared_model.secure_aggregation.block import Block
from shared_model.secure_aggregation.encryption import SEALED_BYTES
from shared_model.secure_aggregation.messages import KeyAdvertisement

# What a relayed reply takes beside its body, and an array beside its bytes, generously.
_REPLY_BYTES, _ARRAY_BYTES = 8192, 1024


def plan_block(plan: FederationPlan, run_id: str, first_round: int) -> Block:
    """The block that begins with ``first_round``; it does not reach beyond the plan's last round.

    Raises ValueError when the plan has no secure sum, or no such round.
    """
    section = section_of(plan)
    return Block(
        run_id=run_id,
        plan_digest=plan.digest,
        first_round=first_round,
        rounds=min(section.rounds_per_setup, plan.training.rounds - first_round + 1),
        signing_keys={
            site.name: bytes.fromhex(site.signing_key or "") for site in plan.federation.sites
        },
        threshold=section.threshold,
        min_survivors=section.min_survivors,
    )


def is_signing_key(plan: FederationPlan, site: str, key: Ed25519PublicKey) -> bool:
    """Whether this is the key with which the plan lets the site certify its masks."""
    return plan.site(site).signing_key == key.public_bytes_raw().hex()


def largest_question(plan: FederationPlan) -> int:
    """Bytes that the body of a ``shares`` or ``unmask`` question takes at most; 0 without them."""
    if not plan.privacy.summed:
        return 0
    block = plan_block(plan, "any", 1)
    shares = KeyAdvertisement.body_bytes(block) + _REPLY_BYTES
    unmask = SEALED_BYTES + 2 * _ARRAY_BYTES
    return len(block.sites) * max(shares, unmask) + _ARRAY_BYTES
