"""The receipts of a run, followed: bytes, times and last signs of life of every site."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from server.receipts.book import FILE, ReceivedLine
from server.rounds.records import RoundRecord
from shared_model.chain.following import ChainFollower


@dataclass
class SiteReceipts:
    """What came in from one site; times by kind and round are those of the last reply."""

    replies: int = 0
    bytes: int = 0
    last_seen: str | None = None
    times: dict[tuple[str, int], str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reconciled:
    """Whether history and receipts agree; ``problem`` is what is wrong with the chain itself."""

    lines: int
    bytes: int
    not_authentic: int
    replies: int
    without_receipt: tuple[str, ...]
    problem: str | None


class RunReceipts:
    """Follows ``RUN_DIR/receipts.jsonl``."""

    def __init__(self, run_dir: Path) -> None:
        self._lock = threading.Lock()
        self._begin()
        self._follower = ChainFollower(run_dir / FILE, ReceivedLine, self._begin, self._take)

    def look(self, records: Iterable[RoundRecord]) -> tuple[Reconciled, dict[str, SiteReceipts]]:
        """Read what is new; hold the replies that history names against the receipts."""
        with self._lock:
            problem = self._follower.follow()
            replies, without = 0, []
            for record in records:
                for site, outcome in record.sites.items():
                    if outcome.reply_sha256 is not None:
                        replies += 1
                        if outcome.reply_sha256 not in self._digests:
                            without.append(f"{site}, {record.kind} {record.round}")
            found = Reconciled(
                lines=self._lines,
                bytes=self._bytes,
                not_authentic=self._strangers,
                replies=replies,
                without_receipt=tuple(without),
                problem=problem,
            )
            return found, {
                name: SiteReceipts(s.replies, s.bytes, s.last_seen, dict(s.times))
                for name, s in self._sites.items()
            }

    def _begin(self) -> None:
        self._lines = self._bytes = self._strangers = 0
        self._digests: set[str] = set()
        self._sites: dict[str, SiteReceipts] = {}

    def _take(self, line: ReceivedLine) -> None:
        self._lines += 1
        self._bytes += line.bytes
        if not line.authentic:
            self._strangers += 1
            return
        said = line.received
        self._digests.add(said.reply_sha256)
        site = self._sites.setdefault(said.site, SiteReceipts())
        site.replies += 1
        site.bytes += line.bytes
        site.last_seen = line.time
        site.times[said.kind, said.round] = line.time


def seconds_of(record: RoundRecord, receipts: SiteReceipts) -> float | None:
    """From the start of a round to the site's reply; None where it did not answer."""
    time = receipts.times.get((record.kind, record.round))
    if time is None:
        return None
    seconds = (
        datetime.fromisoformat(time) - datetime.fromisoformat(record.started_at)
    ).total_seconds()
    return max(seconds, 0.0)
