"""The hospital's records, followed: what left, what was signed for, what was refused."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from client.agent.state import StateFolder
from client.egress.acknowledgements import Acknowledged
from client.egress.receipts import Receipt
from client.egress.refusals import Refusal
from shared_model.chain.following import ChainFollower

_SHOWN = 25


@dataclass(frozen=True)
class Chain:
    """One record: how many lines, and what is wrong with it; None where it holds."""

    name: str
    lines: int
    problem: str | None


@dataclass(frozen=True)
class Records:
    """What the records say.

    Attributes:
        last: the newest receipts, newest first, each with what the coordinator signed: ``True``,
            the number of its refusal, or None where it has not said yet.
        left, bytes: replies that left in all, and their size.
    """

    chains: tuple[Chain, ...]
    last: tuple[tuple[Receipt, bool | str | None], ...]
    left: int
    bytes: int
    acknowledged: int


class RecordBooks:
    """Follows the three records of a state folder; reads only what is new."""

    def __init__(self, state: StateFolder) -> None:
        self._lock = threading.Lock()
        self._begin_receipts()
        self._begin_said()
        self._begin_refused()
        self._receipts = ChainFollower(
            state.receipts, Receipt, self._begin_receipts, self._take_receipt
        )
        self._said = ChainFollower(
            state.acknowledgements, Acknowledged, self._begin_said, self._take_said
        )
        self._refused = ChainFollower(
            state.refusals, Refusal, self._begin_refused, self._take_refused
        )

    def look(self) -> Records:
        """Read what is new and verify it."""
        with self._lock:
            problems = [one.follow() for one in (self._receipts, self._said, self._refused)]
            counts = (self._count, len(self._answers), self._refusals)
            names = ("receipts", "acknowledgements", "refused instructions")
            return Records(
                chains=tuple(map(Chain, names, counts, problems)),
                last=tuple((r, self._answers.get(r.decision.reply_sha256)) for r in self._last),
                left=self._left,
                bytes=self._bytes,
                acknowledged=len(self._answers),
            )

    def _begin_receipts(self) -> None:
        self._count = self._left = self._bytes = 0
        self._last: deque[Receipt] = deque(maxlen=_SHOWN)

    def _take_receipt(self, line: Receipt) -> None:
        self._count += 1
        self._last.appendleft(line)
        if line.decision.released:
            self._left += 1
            self._bytes += line.decision.bytes

    def _begin_said(self) -> None:
        self._answers: dict[str, bool | str] = {}

    def _take_said(self, line: Acknowledged) -> None:
        said = line.acknowledgement
        self._answers[said.reply_sha256] = True if said.accepted else said.code or "refused"

    def _begin_refused(self) -> None:
        self._refusals = 0

    def _take_refused(self, line: Refusal) -> None:
        self._refusals += 1
