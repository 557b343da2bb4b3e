"""How long each site is waited for, from the run's public history alone.

Two times per site. The *deadline* ends the round for a site: what the operator set for it, else
the plan's. *Patience* ends earlier, and only once the quorum is in without the site: nobody waits a
whole deadline for a site that usually answers within minutes, and nobody waits again for one that
was silent before. Such a site is asked in every round all the same, and its first answer, even a
late one, takes it back.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from server.rounds.history import Exchanges
from server.rounds.records import ABSENT, SiteOutcome
from server.rounds.settings import DriverSettings
from shared_model.plan import FederationPlan
from shared_model.protocol.messages import Kind

#: Answers of a kind before the coordinator takes a site's pace as known, and how many it looks at.
_KNOWN, _LOOKED_AT = 3, 5

_SILENT = "SMR-E503"


@dataclass(frozen=True)
class Patience:
    """Seconds from the start of an attempt; ``patience_s`` counts once the quorum is in.

    ``absent_before``: was not connected in the exchange before, so that nobody waits for it.
    """

    deadline_s: float
    patience_s: float
    absent_before: bool = False


def patience(
    plan: FederationPlan,
    settings: DriverSettings,
    kind: Kind,
    sites: Iterable[str],
    history: Exchanges,
) -> dict[str, Patience]:
    """The times of every site that is asked; ``history`` holds all exchanges so far, in order.

    Where no site would be waited for, all are: an outage at the coordinator silences everybody.
    """
    names = tuple(sites)
    out = {site: _of(plan, settings, kind, site, history) for site in names}
    if all(_lags(kind, site, history) for site in names):
        return {s: Patience(p.deadline_s, p.deadline_s, p.absent_before) for s, p in out.items()}
    return out


def _of(
    plan: FederationPlan,
    settings: DriverSettings,
    kind: Kind,
    site: str,
    history: Exchanges,
) -> Patience:
    set_for_it = settings.site_deadline_s.get(site)
    deadline = plan.federation.round_deadline_s if set_for_it is None else set_for_it
    asked = (record.sites[site] for record in reversed(history) if site in record.sites)
    absent = _absent(next(asked, None))
    last = _last_word(site, history)
    if last is not None and last.code == _SILENT:
        return Patience(deadline, 0.0, absent)
    if _failed_before(kind, site, history):
        left = max(deadline - _cost_s(site, history, deadline), 0.0)
        return Patience(deadline, min(settings.returning_grace_s, left), absent)
    if set_for_it is not None or not settings.patience_factor:
        return Patience(deadline, deadline, absent)
    answered = (
        outcome.seconds
        for record in reversed(history)
        if record.kind == kind and (outcome := record.sites.get(site)) is not None
        if outcome.accepted and outcome.seconds is not None
    )
    took = list(itertools.islice(answered, _LOOKED_AT))
    if len(took) < _KNOWN:
        return Patience(deadline, deadline, absent)
    usual = max(took)
    learned = max(settings.least_patience_s, settings.patience_factor * usual)
    return Patience(deadline, min(learned, deadline), absent)


def _lags(kind: Kind, site: str, history: Exchanges) -> bool:
    last = _last_word(site, history)
    silent = last is not None and last.code == _SILENT
    return silent or _failed_before(kind, site, history)


def _last_word(site: str, history: Exchanges) -> SiteOutcome | None:
    """The newest outcome of a site in which it was there at all, whatever it was asked."""
    for record in reversed(history):
        outcome = record.sites.get(site)
        if outcome is not None and not _absent(outcome):
            return outcome
    return None


def _failed_before(kind: Kind, site: str, history: Exchanges) -> bool:
    """Whether nothing usable came from a site when it was last asked the same kind of question.

    Not of another kind: a site may decline evaluations and train well. An authentic answer that was
    refused is an answer: the site is there.
    """
    for record in reversed(history):
        outcome = record.sites.get(site)
        if record.kind == kind and outcome is not None and not _absent(outcome):
            return not outcome.accepted and outcome.reply_sha256 is None
    return False


def _cost_s(site: str, history: Exchanges, enough: float) -> float:
    """Seconds that the others waited for a site since it last answered; counted up to ``enough``.

    A site may fail slowly: a hung agent takes its courier's call and says nothing. All its failures
    together are waited for no longer than one silence, its deadline.
    """
    cost = 0.0
    for record in reversed(history):
        outcome = record.sites.get(site)
        if outcome is None:
            continue
        if outcome.reply_sha256 is not None or cost >= enough:
            break
        # With a second attempt it was the quorum that was waited for.
        if record.attempts == 1:
            took = (other.seconds or 0.0 for other in record.sites.values() if other.accepted)
            cost += max(record.seconds - max(took, default=0.0), 0.0)
    return cost


def _absent(outcome: SiteOutcome | None) -> bool:
    return outcome is not None and outcome.code in ABSENT
