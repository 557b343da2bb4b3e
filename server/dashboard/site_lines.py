"""One hospital in one run: when it took part, how fast it was, and why it is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from server.dashboard.received import SiteReceipts, seconds_of
from server.dashboard.run_files import RunFiles
from server.dashboard.spent import Asked, spent_epsilon
from server.rounds.records import RoundRecord
from shared_model.local_page.background import Background

_RECENT = 20


@dataclass(frozen=True)
class SiteLine:
    """How a hospital takes part.

    Attributes:
        taken: round by round of training: counted, not counted, or (None) not asked.
        seconds: median from the start of a round to its reply, of the last rounds.
        pushes: instructions sent to it, repetitions included.
        missing: number and reason why its last reply did not count; None where it did.
        epsilon: of what was asked of it; what a crash cost it beside stands in its own ledger.
        metrics: of the last round, mode ``none`` only.
    """

    site: str
    weight: int
    taken: tuple[bool | None, ...]
    accepted: int
    seconds: float | None
    replies: int
    bytes: int
    last_seen: str | None
    pushes: int
    missing: tuple[str, str] | None
    epsilon: float | None
    metrics: Mapping[str, float]


def site_lines(
    files: RunFiles,
    records: tuple[RoundRecord, ...],
    receipts: Mapping[str, SiteReceipts],
    asked: Mapping[str, Asked],
    later: Background,
) -> tuple[SiteLine, ...]:
    """One per site of the plan, in the plan's order; ``records`` are all exchanges."""
    return tuple(
        _line(site, weight, files, records, receipts.get(site, SiteReceipts()), asked[site], later)
        for site, weight in files.weights.items()
    )


def _line(
    site: str,
    weight: int,
    files: RunFiles,
    records: tuple[RoundRecord, ...],
    receipts: SiteReceipts,
    asked: Asked,
    later: Background,
) -> SiteLine:
    taken = tuple(
        site in record.accepted if site in record.sites else None for record in files.history
    )
    newest = files.stopped if files.stopped is not None else (files.history or (None,))[-1]
    last = None if newest is None else newest.sites.get(site)
    missing = None
    if last is not None and not last.accepted:
        missing = last.code or "", last.reason or ""
    times = [_seconds(site, record, receipts) for record in files.history[-_RECENT:]]
    known = [seconds for seconds in times if seconds is not None]
    pushes = sum(record.sites[site].pushes for record in records if site in record.sites)
    show = files.plan.privacy.mode == "none" and last is not None
    return SiteLine(
        site=site,
        weight=weight,
        taken=taken,
        accepted=sum(one is True for one in taken),
        seconds=median(known) if known else None,
        replies=receipts.replies,
        bytes=receipts.bytes,
        last_seen=receipts.last_seen,
        pushes=pushes,
        missing=missing,
        epsilon=spent_epsilon(files.plan, asked, later),
        # Only mode none lets a site send metrics; whatever else a file may hold is not shown.
        metrics=dict(last.metrics) if show and last is not None else {},
    )


def _seconds(site: str, record: RoundRecord, receipts: SiteReceipts) -> float | None:
    outcome = record.sites.get(site)
    if outcome is None or not outcome.accepted:
        return None
    # Records of before the coordinator wrote it down: from the receipt.
    return seconds_of(record, receipts) if outcome.seconds is None else outcome.seconds
