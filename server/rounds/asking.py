"""A round's question, signed for every site, and asked until the quorum is in or patience ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from server.checkpoints.run_directory import RunDirectory
from server.enrolment.members import Members
from server.receipts.book import ReceiptBook
from server.receipts.last_received import last_received
from server.rounds.checks import Question
from server.rounds.events import Event, EventKind, Observer
from server.rounds.exchange import Accept, AcceptSealed, Exchange
from server.rounds.history import Exchanges
from server.rounds.outstanding import Outstanding
from server.rounds.patience import Patience, patience
from server.rounds.quorum import NO_QUORUM, Quorum
from server.rounds.records import RoundRecord
from server.rounds.settings import DriverSettings
from server.rounds.transport import Transport
from shared_model.adaptation.wire import Carried, with_moments
from shared_model.protocol.acknowledgement import Received, countersign
from shared_model.protocol.arrays import body_digest, decode_arrays, encode_arrays
from shared_model.protocol.messages import Kind, RoundInstruction, RoundReply
from shared_model.protocol.sealed import Sealed, seal
from shared_model.secure_aggregation.messages import MaskingOrder, UnmaskOrder


@dataclass(frozen=True)
class MaskTerms:
    """How an exchange of the secure aggregation is asked: once, within one deadline.

    Args:
        quorum: with which it can go on.
        grace_s: seconds that others are waited for once the quorum is in; none: as the plan's
            training is waited for.
        order: for the header of the question.
        bodies: site -> body of its question, where sites are not all asked the same.
        accept_sealed: takes a whole reply, in place of what takes its body.
    """

    quorum: Quorum
    grace_s: float | None = None
    order: MaskingOrder | UnmaskOrder | None = None
    bodies: Mapping[str, bytes] | None = None
    accept_sealed: AcceptSealed | None = None


class Asking:
    """Asks the sites of one run, kind by kind and round by round; knows no parameter.

    Args:
        coordinator_key: signs the questions; read anew for each, so that a change of it
            (``smrfed-coordinator rotate --finish``) holds from the next question on.
        members: who takes part, under which key and digest of the plan.
        observer: told of everything that happens; what it raises ends the run.
        clock, sleep: seconds, monotonic.
    """

    def __init__(
        self,
        run_dir: RunDirectory,
        transport: Transport,
        coordinator_key: Callable[[], Ed25519PrivateKey],
        members: Members,
        observer: Observer | None,
        settings: DriverSettings,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._run_dir = run_dir
        self._transport = transport
        self._coordinator_key = coordinator_key
        self._members = members
        self._observer = observer
        self._settings = settings
        self._clock = clock
        self._sleep = sleep
        self._receipts = ReceiptBook(run_dir.path)
        self._outstanding = Outstanding()

    def ask(
        self,
        kind: Kind,
        number: int,
        body: bytes,
        sites: Sequence[str],
        history: Exchanges,
        accept: Accept,
        carried: Carried | None = None,
        terms: MaskTerms | None = None,
    ) -> RoundRecord:
        """Ask all sites, and again the missing ones, up to the limit, while quorum is missed.

        Only training has a quorum and more than one attempt. An attempt does not count while sites
        that said "later" would make the quorum. ``history`` is all that came before, in order; of
        it is made what is acknowledged to a site and how long it is waited for. Beside the shared
        parameters in ``body`` the question carries ``carried``, if any. ``terms``: of a secure sum.
        """
        started_at, start = datetime.now(UTC), self._clock()
        plan, training = self._members.plan, kind == "train"
        quorum = Quorum.of(plan) if training else NO_QUORUM
        limit = self._settings.round_attempts if training else 1
        if terms is not None:
            quorum, limit = terms.quorum, 1
        self.notify("round_started", number, kind)
        exchange = Exchange(
            self._transport,
            self._questions(kind, number, body, sites, history, carried, terms),
            self._times(kind, sites, history, terms),
            _taking(accept, terms),
            self._settings,
            outstanding=self._outstanding,
            note=self._note,
            notify=lambda event, site, reason: self.notify(event, number, kind, site, reason),
            clock=self._clock,
            sleep=self._sleep,
        )
        attempt = counted = 0
        while counted < limit:
            if attempt:
                self._sleep(self._settings.attempt_pause_s)
            attempt += 1
            if exchange.run(quorum):
                break
            patient = self._clock() - start < self._settings.later_patience_s
            later = patient and quorum.met((*exchange.accepted, *exchange.waiting_for))
            counted += not later
            reason = f"attempt {counted} of {limit}"
            reason = "sites answer later" if later else reason
            self.notify("quorum_missed", number, kind, reason=reason)
        exchange.close()
        return RoundRecord(
            round=number,
            kind=kind,
            sites=exchange.outcomes,
            attempts=attempt,
            weight=0,
            started_at=started_at.isoformat(timespec="seconds"),
            seconds=round(max(self._clock() - start, 0.0), 3),
        )

    def notify(
        self,
        kind: EventKind,
        number: int,
        phase: Kind,
        site: str | None = None,
        reason: str | None = None,
    ) -> None:
        """Tell the observer."""
        if self._observer is not None:
            rounds = self._run_dir.plan.training.rounds
            self._observer(Event(kind, number, rounds, phase, site, reason))

    def _note(self, received: Received, reply: Sealed, asked: Question, authentic: bool) -> None:
        size = len(reply.header) + len(reply.body)
        self._receipts.note(received, size, asked.sealed.digest.hex(), authentic=authentic)

    def _times(
        self,
        kind: Kind,
        sites: Sequence[str],
        history: Exchanges,
        terms: MaskTerms | None,
    ) -> dict[str, Patience]:
        times = patience(self._members.plan, self._settings, kind, sites, history)
        if terms is None or terms.grace_s is None:
            return times
        grace = terms.grace_s
        return {s: Patience(t.deadline_s, min(grace, t.deadline_s)) for s, t in times.items()}

    def _questions(
        self,
        kind: Kind,
        number: int,
        body: bytes,
        sites: Sequence[str],
        history: Exchanges,
        carried: Carried | None,
        terms: MaskTerms | None,
    ) -> dict[str, Question]:
        """One signed instruction per site, which acknowledges the site's last reply in history."""
        if carried is not None:
            body = encode_arrays(with_moments(decode_arrays(body), carried))
        digest, key = body_digest(body), self._coordinator_key()
        bodies = {} if terms is None or terms.bodies is None else terms.bodies
        order = None if terms is None else terms.order
        unmasking = order if isinstance(order, UnmaskOrder) else None
        questions = {}
        for site in sites:
            if site in bodies:
                body, digest = bodies[site], body_digest(bodies[site])
            received = last_received(history, self._run_dir.run_id, site)
            instruction = RoundInstruction(
                run_id=self._run_dir.run_id,
                round=number,
                kind=kind,
                site=site,
                plan_digest=self._members.digest(site),
                body_sha256=digest,
                acknowledged=None if received is None else countersign(received, key),
                masking=order if unmasking is None else None,
                unmasking=unmasking,
            )
            # Ed25519 is deterministic: after a restart these are the same bytes again.
            sealed = seal(instruction.canonical_json, body, key)
            questions[site] = Question(instruction, sealed, self._members.key(site))
        return questions


def _taking(accept: Accept, terms: MaskTerms | None) -> AcceptSealed:
    if terms is not None and terms.accept_sealed is not None:
        return terms.accept_sealed

    def take(header: RoundReply, reply: Sealed) -> dict[str, float]:
        return accept(header, reply.body)

    return take
