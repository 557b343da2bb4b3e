"""A block of rounds that share one key agreement, and the terms under which its sums are opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MOST_SITES = 64
MOST_ROUNDS = 1000

Field = bytes | str | int


def quorum_is_safe(sites: int, threshold: int, colluding: int) -> bool:
    """Whether two survivor sets told to two groups of sites can never both be opened.

    Every honest site answers for one survivor set. A server with c colluders that splits the
    ``sites - c`` honest ones needs ``threshold - c`` of them on each side, so it fails when
    ``2 (t - c) > K - c``, that is ``2 t > K + c``.
    """
    return 2 * threshold > sites + colluding


@dataclass(frozen=True)
class Block:
    """``rounds`` rounds from ``first_round`` on, and what of the accepted plan their masks rest on.

    ``signing_keys``: every site of the plan, in its order, with its raw Ed25519 public key (32
    bytes). ``threshold`` t: shares that open a secret. ``min_survivors`` m: sites whose vectors a
    sum must hold. Raises ValueError when ``2 <= t <= m <= K <= 64`` does not hold: the plan's
    validator says it to people.
    """

    run_id: str
    plan_digest: str
    first_round: int
    rounds: int
    signing_keys: Mapping[str, bytes]
    threshold: int
    min_survivors: int

    def __post_init__(self) -> None:
        sites = len(self.signing_keys)
        if not 2 <= self.threshold <= self.min_survivors <= sites <= MOST_SITES:
            raise ValueError(
                f"threshold {self.threshold}, {self.min_survivors} survivors, {sites} sites"
            )
        if not (self.first_round >= 1 and 1 <= self.rounds <= MOST_ROUNDS):
            raise ValueError(f"rounds {self.first_round} to {self.first_round + self.rounds - 1}")

    @property
    def sites(self) -> tuple[str, ...]:
        """All sites of the plan, in its order."""
        return tuple(self.signing_keys)

    def point(self, site: str) -> int:
        """Where this site's Shamir shares lie: its place in the plan, from 1."""
        return self.sites.index(site) + 1

    def holds(self, round_number: int) -> bool:
        """Whether the round is one of this block."""
        return 0 <= round_number - self.first_round < self.rounds

    def index(self, round_number: int) -> int:
        """The round's place in the block, from 0; raises ValueError for a round of another one."""
        if not self.holds(round_number):
            raise ValueError(f"round {round_number} is not in the block of {self.first_round}")
        return round_number - self.first_round

    def context(self, purpose: str, *fields: Field) -> bytes:
        """What binds a key or a signature to one use: every field with its length before it."""
        own: tuple[Field, ...] = (self.run_id, self.plan_digest, self.first_round, self.rounds)
        return b"".join(_framed(field) for field in (purpose, *own, *fields))


def _framed(field: Field) -> bytes:
    if isinstance(field, int):
        field = field.to_bytes(8, "big")
    elif isinstance(field, str):
        field = field.encode()
    return len(field).to_bytes(4, "big") + field
