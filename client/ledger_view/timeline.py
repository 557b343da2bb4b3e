"""Epsilon over time: what the worst patient had spent after each charge, in all and by plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from client.privacy.ledger import Ledger

_POINTS = 32


@dataclass(frozen=True)
class Curve:
    """Epsilon just after the charges at ``times``; ``plan_digest`` ``None``: of everything."""

    plan_digest: str | None
    times: tuple[datetime, ...]
    epsilon: tuple[float, ...]


def timeline(
    ledger: Ledger, delta: float, step: Callable[[], None] = lambda: None
) -> tuple[Curve, ...]:
    """The curve of everything, then one of every plan by itself, at one delta.

    Of a long ledger only some charges are computed, the first and the last of every plan always.
    ``step`` is called after each.
    """
    entries = ledger.entries()
    digests = list(dict.fromkeys(entry.plan_digest for entry in entries))
    out = []
    for digest in (None, *digests):
        mine = [entry for entry in entries if digest in (None, entry.plan_digest)]
        shown = [mine[index] for index in _spread(len(mine))]
        spent = []
        for entry in shown:
            spent.append(ledger.spent(delta, digest, until=entry.id))
            step()
        out.append(
            Curve(
                digest,
                tuple(datetime.fromisoformat(entry.time) for entry in shown),
                tuple(spent),
            )
        )
    return tuple(out)


def points(charges: Sequence[int]) -> int:
    """How many points :func:`timeline` computes for so many charges of each curve."""
    return sum(len(_spread(count)) for count in charges)


def _spread(count: int) -> list[int]:
    if count <= _POINTS:
        return list(range(count))
    return sorted({round(index * (count - 1) / (_POINTS - 1)) for index in range(_POINTS)})
