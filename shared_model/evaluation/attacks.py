"""An audit's membership attacks as an evaluation shows them: none of too few people."""

from __future__ import annotations

from shared_model.evaluation.beyond import Attack, Audit
from shared_model.evaluation.estimate import Estimate

#: Members, and outsiders, below which an attack says nothing that a page could show.
FEWEST = 20


def shown_audit(audit: Audit | None) -> Audit | None:
    """The audit, without the figures of attacks with fewer than 20 members or outsiders."""
    if audit is None:
        return None
    return audit.model_copy(update={"attacks": tuple(map(_shown, audit.attacks))})


def _shown(attack: Attack) -> Attack:
    sizes = (attack.members, attack.outsiders)
    if all(size is not None and size >= FEWEST for size in sizes):
        return attack
    return Attack(
        title=attack.title,
        members=None,
        outsiders=None,
        suppressed=True,
        auroc=Estimate(value=None),
        rates=(),
    )
