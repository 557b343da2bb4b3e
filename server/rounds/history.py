"""A run's history in little memory, and every exchange of it from the newest back."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, overload

from server.rounds.records import RoundRecord


class Exchanges(Protocol):
    """What was asked and answered, read from the newest back: a tuple of records is one."""

    def __reversed__(self) -> Iterator[RoundRecord]: ...


class History(Sequence[RoundRecord]):
    """One record per round, in order; each is kept as canonical JSON and decoded when looked at.

    A tenth of the memory of the records themselves, in runs of thousands of rounds.
    """

    __slots__ = ("_lines",)

    def __init__(self, lines: tuple[str, ...] = ()) -> None:
        self._lines = lines

    @classmethod
    def of(cls, records: Iterable[RoundRecord]) -> History:
        """These records; a history stays what it is."""
        if isinstance(records, History):
            return records
        return cls(tuple(_encoded(record) for record in records))

    def plus(self, record: RoundRecord) -> History:
        """With one more round."""
        return History((*self._lines, _encoded(record)))

    @property
    def json(self) -> str:
        """A JSON array of all records, keys sorted, without spaces."""
        return f"[{','.join(self._lines)}]"

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, index: int) -> RoundRecord: ...

    @overload
    def __getitem__(self, index: slice) -> History: ...

    def __getitem__(self, index: int | slice) -> RoundRecord | History:
        if isinstance(index, slice):
            return History(self._lines[index])
        return RoundRecord.model_validate_json(self._lines[index])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self._lines == other._lines

    def __hash__(self) -> int:
        return hash(self._lines)


@dataclass(frozen=True)
class Merged:
    """The exchanges of rounds and of what was released between them.

    Args:
        rounds: in order.
        between: in order.
        kinds: the order in which questions of one round are asked.
    """

    rounds: Sequence[RoundRecord]
    between: Sequence[RoundRecord]
    kinds: Sequence[str]

    def __reversed__(self) -> Iterator[RoundRecord]:
        both = heapq.merge(
            reversed(self.rounds), reversed(self.between), key=self._place, reverse=True
        )
        for record in both:
            yield from reversed(record.exchanges)

    def _place(self, record: RoundRecord) -> tuple[int, int]:
        return record.round, self.kinds.index(record.kind)


@dataclass(frozen=True)
class Later:
    """Exchanges, and others after them."""

    before: Exchanges
    after: tuple[RoundRecord, ...]

    def __reversed__(self) -> Iterator[RoundRecord]:
        yield from reversed(self.after)
        yield from reversed(self.before)


def _encoded(record: RoundRecord) -> str:
    content = record.model_dump(mode="json")
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
