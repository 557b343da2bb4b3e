"""One instruction to every site, one reply at a time, until each is decided or time is up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from server.rounds.checks import Question, authenticate
from server.rounds.records import SiteOutcome
from server.rounds.settings import DriverSettings
from server.rounds.transport import LATER, Failure, Transport
from shared_model.errors import SmrfedError
from shared_model.protocol.acknowledgement import Received
from shared_model.protocol.messages import RoundReply
from shared_model.protocol.sealed import Sealed

SiteEvent = Literal["site_retried", "site_accepted", "site_set_aside"]
Notify = Callable[[SiteEvent, str, str | None], None]
Accept = Callable[[RoundReply, bytes], dict[str, float]]
# What arrived, in which question's place, and whether it is authentic.
Note = Callable[[Received, Sealed, Question, bool], None]

_log = logging.getLogger(__name__)


@dataclass
class _Talk:
    """Where the conversation with one site stands within one round."""

    question: Question
    handles: list[str] = field(default_factory=list)
    next_push: float = 0.0
    pushes: int = 0
    failures: int = 0
    connected: bool = True
    problem: tuple[str, str] | None = None
    outcome: SiteOutcome | None = None


class Exchange:
    """Asks every site the same thing and hands each authentic reply to ``accept``.

    Re-pushes are the same bytes, which agents answer from disk. ``accept`` may raise SmrfedError to
    refuse a reply. Nothing a site sends, and nothing that happens on the way to it, raises out of
    here: the site is set aside with a number and a reason.

    Args:
        questions: site -> what it is asked.
        accept: called with header and body of one authentic reply at a time; returns its metrics.
        note: called for every sealed message that arrives; what it raises ends the run.
        absent_before: sites that were not connected in the round before; never waited for.
    """

    def __init__(
        self,
        transport: Transport,
        questions: Mapping[str, Question],
        accept: Accept,
        settings: DriverSettings,
        *,
        note: Note = lambda *_: None,
        absent_before: Collection[str] = (),
        notify: Notify,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._transport = transport
        self._accept = accept
        self._settings = settings
        self._note = note
        self._absent_before = absent_before
        self._notify = notify
        self._clock = clock
        self._sleep = sleep
        self._talks = {site: _Talk(question) for site, question in questions.items()}

    def run(self, deadline_s: float, quorum: int) -> bool:
        """Ask all sites that were not accepted yet; true when ``quorum`` replies were accepted.

        Sites accepted by an earlier call stay accepted; the others start afresh, so that a second
        call is a second attempt at the same round.
        """
        start = self._clock()
        for site, talk in self._talks.items():
            if talk.outcome is None or not talk.outcome.accepted:
                self._talks[site] = _Talk(talk.question, next_push=start, pushes=talk.pushes)
        while True:
            # All pushes go out before the first poll, so that sites work at the same time. A sweep
            # polls every site once even when the deadline has passed meanwhile: where polling
            # trains the site (in-process), no site is dropped for its place in the order.
            for talk in self._undecided():
                self._push_when_due(talk, start + deadline_s)
            for talk in self._undecided():
                self._poll(talk)
            if not self._undecided() or self._clock() >= start + deadline_s:
                break
            if self.accepted >= quorum and self._only_absent(self._clock() - start):
                break
            self._sleep(self._settings.poll_interval_s)
        for talk in self._undecided():
            self._set_aside(talk, *_last_word(talk, deadline_s))
        return self.accepted >= quorum

    @property
    def outcomes(self) -> dict[str, SiteOutcome]:
        """Site -> outcome, for every site that was decided."""
        return {site: talk.outcome for site, talk in self._talks.items() if talk.outcome}

    @property
    def waiting_for(self) -> int:
        """How many sites were set aside because they may answer only later."""
        return sum(outcome.code in LATER for outcome in self.outcomes.values())

    @property
    def accepted(self) -> int:
        """How many replies were accepted."""
        return sum(outcome.accepted for outcome in self.outcomes.values())

    def _undecided(self) -> list[_Talk]:
        return [talk for talk in self._talks.values() if talk.outcome is None]

    def _only_absent(self, elapsed: float) -> bool:
        waited = elapsed >= self._settings.absent_grace_s
        return all(
            not talk.connected and (waited or talk.question.site in self._absent_before)
            for talk in self._undecided()
        )

    def _push_when_due(self, talk: _Talk, deadline: float) -> None:
        now = self._clock()
        if now < talk.next_push:
            return
        site = talk.question.site
        if talk.pushes:
            self._notify("site_retried", site, talk.problem[1] if talk.problem else "silence")
        try:
            handle = self._transport.push(site, talk.question.sealed, max(deadline - now, 1.0))
        except Exception as error:
            talk.problem = _explain(error, site)
            talk.connected = talk.problem[0] != "SMR-E501"
            talk.next_push = now + self._settings.retry_interval_s
            return
        talk.handles.append(handle)
        talk.pushes += 1
        talk.connected = True
        talk.next_push = now + self._settings.silence_s

    def _poll(self, talk: _Talk) -> None:
        for handle in tuple(talk.handles):
            if talk.outcome is None:
                self._poll_handle(talk, handle)

    def _poll_handle(self, talk: _Talk, handle: str) -> None:
        # One call, one reply: its bytes are gone when this function returns.
        site = talk.question.site
        try:
            answer = self._transport.poll(handle)
        except Exception as error:
            answer = Failure(" ".join(_explain(error, site)))
        if answer is None:
            return
        if isinstance(answer, Failure) and answer.later:
            # The site is well and its door is closed: absent, asked again, never a failure.
            talk.handles.remove(handle)
            talk.problem = (str(answer.code), _plain(answer.reason))
            talk.connected = False
            talk.next_push = self._clock() + self._settings.later_interval_s
            return
        if isinstance(answer, Failure):
            self._failed(talk, handle, "SMR-E504", _plain(answer.reason))
            return
        try:
            header = authenticate(answer, talk.question)
        except Exception as error:
            code, reason = _explain(error, site)
            self._note(_received(talk, answer, code), answer, talk.question, False)
            self._failed(talk, handle, code, reason)
            return
        self._judge(talk, header, answer)

    def _judge(self, talk: _Talk, header: RoundReply, answer: Sealed) -> None:
        try:
            metrics = self._accept(header, answer.body)
        except Exception as error:
            code, reason = _explain(error, talk.question.site)
            self._note(_received(talk, answer, code), answer, talk.question, True)
            self._set_aside(talk, code, reason, answer.digest.hex())
            return
        self._note(_received(talk, answer), answer, talk.question, True)
        talk.outcome = SiteOutcome(
            accepted=True, pushes=talk.pushes, metrics=metrics, reply_sha256=answer.digest.hex()
        )
        self._notify("site_accepted", talk.question.site, None)

    def _failed(self, talk: _Talk, handle: str, code: str, reason: str) -> None:
        talk.handles.remove(handle)
        talk.failures += 1
        talk.problem = (code, reason)
        if talk.failures >= self._settings.failures_per_round:
            self._set_aside(talk, code, reason)
        elif not talk.handles:
            pause = self._settings.retry_interval_s * 2 ** (talk.failures - 1)
            talk.next_push = self._clock() + pause

    def _set_aside(
        self, talk: _Talk, code: str, reason: str, reply_sha256: str | None = None
    ) -> None:
        talk.outcome = SiteOutcome(
            accepted=False,
            pushes=talk.pushes,
            code=code,
            reason=reason,
            reply_sha256=reply_sha256,
        )
        self._notify("site_set_aside", talk.question.site, f"{code} {reason}")


def _last_word(talk: _Talk, deadline_s: float) -> tuple[str, str]:
    """Why a site that is still undecided is set aside now."""
    if talk.problem is not None and not (talk.handles and talk.connected):
        return talk.problem
    before = f"; before that: {' '.join(talk.problem)}" if talk.problem else ""
    return "SMR-E503", f"no answer within {deadline_s:g} s{before}"


def _received(talk: _Talk, answer: Sealed, code: str | None = None) -> Received:
    asked = talk.question.instruction
    return Received(
        run_id=asked.run_id,
        round=asked.round,
        kind=asked.kind,
        site=asked.site,
        reply_sha256=answer.digest.hex(),
        accepted=code is None,
        code=code,
    )


def _explain(error: Exception, site: str) -> tuple[str, str]:
    """Number and one sentence for whatever went wrong with one site."""
    if isinstance(error, SmrfedError):
        found = "" if error.found is None else f" (found: {str(error.found)[:200]})"
        return error.code, _plain(error.what + found)
    # A defect of ours or of the transport must cost one site one round, not everybody the run.
    _log.exception("unexpected error with site %s", site, exc_info=error)
    return "SMR-E519", _plain(f"unexpected {type(error).__name__}: {error}")


def _plain(text: str) -> str:
    """Words that may be a stranger's, fit for a terminal and a JSON file: printable, bounded."""
    return "".join(c if c.isprintable() else " " for c in text)[:500]
