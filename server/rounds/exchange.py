"""One instruction to every site, one reply at a time, until each is decided or time is up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

from server.rounds.checks import Question, authenticate
from server.rounds.outstanding import Earlier, Outstanding
from server.rounds.patience import Patience
from server.rounds.quorum import Quorum
from server.rounds.records import SiteOutcome
from server.rounds.settings import DriverSettings
from server.rounds.talk import Talk, explain, plain, received
from server.rounds.transport import LATER, Failure, RunOverError, Transport
from shared_model.protocol.acknowledgement import Received
from shared_model.protocol.messages import RoundReply
from shared_model.protocol.sealed import Sealed

SiteEvent = Literal["site_retried", "site_accepted", "site_set_aside", "site_returned"]
Notify = Callable[[SiteEvent, str, str | None], None]
Accept = Callable[[RoundReply, bytes], dict[str, float]]
# The same, of a reply that is relayed with its signature.
AcceptSealed = Callable[[RoundReply, Sealed], dict[str, float]]
# What arrived, in which question's place, and whether it is authentic.
Note = Callable[[Received, Sealed, Question, bool], None]

# A failing site is tried at doubling intervals up to 2^6 times the first.
_MOST_DOUBLINGS = 6


class Exchange:
    """Asks every site the same thing and hands each authentic reply to ``accept``.

    Re-pushes are the same bytes, which agents answer from disk. ``accept`` may raise SmrfedError to
    refuse a reply. Nothing a site sends, and nothing that happens on the way to it, raises out of
    here: the site is set aside with a number and a reason. Only the transport can end the run
    (:class:`server.rounds.transport.RunOverError`).

    Args:
        questions: site -> what it is asked.
        times: site -> how long it is waited for.
        accept: called with one authentic reply at a time; returns its metrics.
        outstanding: what sites may still answer to earlier questions; never counted.
        note: called for every sealed message that arrives; what it raises ends the run.
    """

    def __init__(
        self,
        transport: Transport,
        questions: Mapping[str, Question],
        times: Mapping[str, Patience],
        accept: AcceptSealed,
        settings: DriverSettings,
        *,
        outstanding: Outstanding,
        note: Note = lambda *_: None,
        notify: Notify,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._transport = transport
        self._accept = accept
        self._settings = settings
        self._outstanding = outstanding
        self._note = note
        self._notify = notify
        self._clock = clock
        self._sleep = sleep
        now = clock()
        self._talks = {
            site: Talk(question, times[site], now, earlier=outstanding.take(site, now))
            for site, question in questions.items()
        }

    def run(self, quorum: Quorum) -> bool:
        """Ask all sites that were not accepted yet; true when ``quorum`` was reached.

        Sites accepted by an earlier call stay accepted; the others start afresh, so that a second
        call is a second attempt at the same round.
        """
        start = self._clock()
        for site, talk in self._talks.items():
            if talk.outcome is None or not talk.outcome.accepted:
                self._talks[site] = Talk(
                    talk.question,
                    # Whoever is asked again is needed: the whole deadline, at every site.
                    talk.times if talk.outcome is None else _in_full(talk.times),
                    start,
                    earlier=talk.earlier,
                    next_push=start,
                    pushes=talk.pushes,
                )
        while True:
            # All pushes go out before the first poll, so that sites work at the same time. A sweep
            # polls every site once even when the deadline has passed meanwhile: where polling
            # trains the site (in-process), no site is dropped for its place in the order.
            for talk in self._undecided():
                self._push_when_due(talk)
            for talk in self._undecided():
                self._poll(talk)
            for talk in self._undecided():
                if self._clock() >= talk.deadline:
                    self._set_aside(talk, *talk.last_word())
            left = self._undecided()
            if all(talk.spent for talk in left):
                break
            if quorum.met(self.accepted) and not any(self._worth_waiting(t) for t in left):
                break
            self._sleep(self._settings.poll_interval_s)
        for talk in self._undecided():
            self._set_aside(talk, *talk.last_word())
        return quorum.met(self.accepted)

    def close(self) -> None:
        """Remember what sites have not answered; call once, when no attempt follows."""
        for site, talk in self._talks.items():
            if talk.outcome is not None and talk.outcome.reply_sha256 is not None:
                continue
            now = [Earlier(talk.question, h, talk.pushed, talk.deadline) for h in talk.handles]
            self._outstanding.keep(site, [*talk.earlier, *now])

    @property
    def outcomes(self) -> dict[str, SiteOutcome]:
        """Site -> outcome, for every site that was decided."""
        return {site: talk.outcome for site, talk in self._talks.items() if talk.outcome}

    @property
    def accepted(self) -> tuple[str, ...]:
        """Sites whose reply was accepted."""
        return tuple(site for site, outcome in self.outcomes.items() if outcome.accepted)

    @property
    def waiting_for(self) -> tuple[str, ...]:
        """Sites that were set aside because they may answer only later."""
        return tuple(site for site, outcome in self.outcomes.items() if outcome.code in LATER)

    def _undecided(self) -> list[Talk]:
        return [talk for talk in self._talks.values() if talk.outcome is None]

    def _worth_waiting(self, talk: Talk) -> bool:
        if talk.spent:
            return False
        now = self._clock()
        if not talk.connected:
            waited = now - talk.started >= self._settings.absent_grace_s
            return not (waited or talk.times.absent_before)
        return now < talk.patient_until()

    def _push_when_due(self, talk: Talk) -> None:
        now = self._clock()
        if now < talk.next_push or self._busy(talk, now):
            return
        site = talk.site
        if talk.pushes:
            self._notify("site_retried", site, talk.problem[1] if talk.problem else "silence")
        try:
            left = max(talk.deadline - now, 1.0)
            handle = self._transport.push(site, talk.question.sealed, left)
        except RunOverError:
            raise
        except Exception as error:
            talk.problem = explain(error, site)
            talk.connected = talk.problem[0] != "SMR-E501"
            talk.next_push = now + self._settings.retry_interval_s
            return
        talk.handles.append(handle)
        talk.pushes += 1
        talk.pushed = now
        talk.asked = now if talk.asked is None else talk.asked
        talk.connected = True
        talk.next_push = now + self._settings.silence_s

    def _busy(self, talk: Talk, now: float) -> bool:
        """Whether the site may still work on an earlier instruction."""
        talk.earlier = [one for one in talk.earlier if one.expires > now]
        latest = max((one.pushed for one in talk.earlier), default=None)
        return latest is not None and now < latest + self._settings.silence_s

    def _poll(self, talk: Talk) -> None:
        for one in tuple(talk.earlier):
            self._poll_earlier(talk, one)
        for handle in tuple(talk.handles):
            if talk.outcome is None:
                self._poll_handle(talk, handle)

    def _poll_earlier(self, talk: Talk, one: Earlier) -> None:
        answer = self._look(one.handle, talk.site)
        if answer is None:
            return
        talk.earlier.remove(one)
        if isinstance(answer, Failure):
            return
        try:
            authenticate(answer, one.question)
        except Exception as error:
            code, _ = explain(error, talk.site)
            self._note(received(one.question, answer, code), answer, one.question, False)
            return
        # Too late to count, and the best news of a site that was given up: it is there.
        self._note(received(one.question, answer, "SMR-E503"), answer, one.question, True)
        talk.waited_for = True
        asked = one.question.instruction
        what = "" if asked.kind == "train" else f" ({asked.kind})"
        reason = f"its answer to round {asked.round}{what} came too late to count"
        self._notify("site_returned", talk.site, reason)

    def _look(self, handle: str, site: str) -> Sealed | Failure | None:
        try:
            return self._transport.poll(handle)
        except RunOverError:
            raise
        except Exception as error:
            return Failure(" ".join(explain(error, site)))

    def _poll_handle(self, talk: Talk, handle: str) -> None:
        # One call, one reply: its bytes are gone when this function returns.
        answer = self._look(handle, talk.site)
        if answer is None:
            return
        if isinstance(answer, Failure) and answer.later:
            # The site is well and its door is closed: absent, asked again, never a failure.
            talk.handles.remove(handle)
            talk.problem = (str(answer.code), plain(answer.reason))
            talk.connected = False
            talk.next_push = self._clock() + self._settings.later_interval_s
            return
        if isinstance(answer, Failure):
            self._failed(talk, handle, "SMR-E504", plain(answer.reason))
            return
        try:
            header = authenticate(answer, talk.question)
        except Exception as error:
            code, reason = explain(error, talk.site)
            self._note(received(talk.question, answer, code), answer, talk.question, False)
            self._failed(talk, handle, code, reason)
            return
        self._judge(talk, header, answer)

    def _judge(self, talk: Talk, header: RoundReply, answer: Sealed) -> None:
        try:
            metrics = self._accept(header, answer)
        except Exception as error:
            code, reason = explain(error, talk.site)
            self._note(received(talk.question, answer, code), answer, talk.question, True)
            self._set_aside(talk, code, reason, answer.digest.hex())
            return
        self._note(received(talk.question, answer), answer, talk.question, True)
        talk.outcome = SiteOutcome(
            accepted=True,
            pushes=talk.pushes,
            metrics=metrics,
            reply_sha256=answer.digest.hex(),
            seconds=round(max(self._clock() - talk.started, 0.0), 3),
        )
        self._notify("site_accepted", talk.site, None)

    def _failed(self, talk: Talk, handle: str, code: str, reason: str) -> None:
        talk.handles.remove(handle)
        talk.failures += 1
        talk.problem = (code, reason)
        talk.spent = talk.failures >= self._settings.failures_per_round
        if not talk.handles:
            doublings = min(talk.failures - 1, _MOST_DOUBLINGS)
            talk.next_push = self._clock() + self._settings.retry_interval_s * 2**doublings

    def _set_aside(
        self, talk: Talk, code: str, reason: str, reply_sha256: str | None = None
    ) -> None:
        talk.outcome = SiteOutcome(
            accepted=False,
            pushes=talk.pushes,
            code=code,
            reason=reason,
            reply_sha256=reply_sha256,
        )
        self._notify("site_set_aside", talk.site, f"{code} {reason}")


def _in_full(times: Patience) -> Patience:
    return replace(times, patience_s=times.deadline_s)
