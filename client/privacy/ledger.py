"""The hospital's privacy ledger: what every release has cost its patients, for ever."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from client.privacy.ledger_entries import Charged, Gathered, LastOfRound, LedgerEntry, State
from client.privacy.ledger_file import Book, LedgerFile
from client.privacy.per_patient import Charge, Exposure, exposures, worst_epsilon
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.privacy.accounting import MechanismUse
from shared_model.privacy.plan_cost import Purpose


class Ledger:
    """Append-only, hash-chained SQLite (WAL, synchronous FULL); safe under concurrent processes.

    Guarantee: for every patient, the composition of the entries whose cohort holds the patient,
    over all runs and plans, bounds what any observer of everything that ever left this hospital
    learns about this patient (add-or-remove-one, all scans and visits). Why the other entries count
    nothing for the patient, and the limits: :mod:`client.privacy.per_patient`. Assumes that every
    release was reserved first with everybody it may touch, that identifiers stay the same, that the
    same patient is not at another hospital, and that the file was not replaced by an older copy:
    ``<path>.head`` names an event that the chain must contain, so replacing the ledger alone is
    noticed (SMR-E303).

    A crash after :meth:`reserve` leaves the entry charged: the ledger can only count too much.

    Args:
        path: the SQLite file; made on first use, with ``.head`` (anchor), ``.key`` (of the keyed
            hashes, mode 0600) and ``.lock`` beside it.
        max_epsilon: the hospital's cap over everything in this ledger, for every patient, at the
            delta of the plan that asks (the site policy bounds that delta).

    Raises SMR-E303, SMR-E309, SMR-E350 and SMR-E351 as :class:`client.privacy.ledger_file`.
    """

    def __init__(self, path: Path, max_epsilon: float = math.inf) -> None:
        self._file = LedgerFile(path)
        self._max_epsilon = max_epsilon

    def reserve(
        self,
        run_id: str,
        round_number: int,
        plan: FederationPlan,
        use: MechanismUse,
        *,
        purpose: Purpose = "train",
        patients: Collection[str],
    ) -> int:
        """Charge a release before it touches its patients, and return the reservation's id.

        ``patients`` are the archive's identifiers of everybody who may be drawn, not only of those
        who are. A release that was reserved and never sealed is charged again: what a crashed
        attempt released cannot be known here. Raises SMR-E302 when the plan's epsilon or the
        hospital's cap would be exceeded for any of the patients, SMR-E303 when the ledger was
        altered, and SMR-E306 when the release is sealed: its stored reply is to be sent again, at
        no cost.
        """
        cohort = self._cohort(patients)
        charged, asked = Charged(), LastOfRound(run_id, round_number, purpose)
        with self._file.append(charged.take, asked.take) as (book, appender):
            if asked.sealed:
                raise SmrfedError(
                    "SMR-E306",
                    f"round {round_number} ({purpose}) of run {run_id!r} was already answered",
                    remedy="send the stored reply again; to train anew, start another run",
                )
            refusal = self._refusal(charged, book, plan, [use], cohort)
            if refusal is not None:
                raise refusal
            return appender.event(
                state="reserve",
                # A reservation is known by the event that made it.
                reservation=appender.last_seq + 1,
                run=run_id,
                round=round_number,
                purpose=purpose,
                plan=plan.digest,
                noise_multiplier=float(use.noise_multiplier),
                sampling_rate=float(use.sampling_rate),
                steps=use.steps,
                cohort=appender.cohort(cohort),
                patients=len(cohort),
                reply_sha256="",
            )

    def commit(self, reservation: int) -> None:
        """Record that a reservation's work has ended; raises SMR-E307 out of order."""
        self._advance(reservation, "reserve", "commit", "")

    def seal(self, reservation: int, reply_sha256: str) -> None:
        """Record the reply that may leave for a reservation; raises SMR-E307 out of order.

        To be called once the reply is stored, and before it is sent.
        """
        self._advance(reservation, "commit", "seal", reply_sha256)

    def refusal(
        self, plan: FederationPlan, uses: Iterable[MechanismUse], patients: Collection[str]
    ) -> SmrfedError | None:
        """The SMR-E302 that reserving all these uses for these patients would meet; no effects."""
        charged = Charged()
        book = self._file.read(charged.take)
        return self._refusal(charged, book, plan, list(uses), self._cohort(patients))

    def spent(
        self,
        delta: float,
        plan_digest: str | None = None,
        patients: Collection[str] | None = None,
        until: int | None = None,
    ) -> float:
        """The largest epsilon of any patient at ``delta``: of all entries, or those of one plan.

        With ``patients``, of these only; with ``until``, as it was after that reservation.
        """
        return worst_epsilon(self.exposures(plan_digest, patients, until), delta)

    def exposures(
        self,
        plan_digest: str | None = None,
        patients: Collection[str] | None = None,
        until: int | None = None,
    ) -> Mapping[Exposure, int]:
        """How many patients were exposed to which mechanisms; as :meth:`spent`."""
        charged = Charged(until)
        book = self._file.read(charged.take)
        members = None if patients is None else self._file.key.hashed(patients)
        return exposures(charged.charges(plan_digest), book.cohorts, members)

    def entries(self) -> tuple[LedgerEntry, ...]:
        """All reservations in order, each with its latest state."""
        gathered = Gathered()
        self._file.read(gathered.take)
        return tuple(gathered.entries.values())

    def newest(self, run_id: str, round_number: int, purpose: str) -> LedgerEntry | None:
        """The last reservation of a release, with its latest state; none if there is none."""
        asked = LastOfRound(run_id, round_number, purpose)
        self._file.read(asked.take)
        return asked.entry

    def head(self) -> tuple[int, str]:
        """Number and digest of the newest event."""
        book = self._file.read()
        return book.number, book.digest

    def contains(self, number: int, digest: str) -> bool:
        """Whether the chain holds this event: whether what was known then is still known."""
        return self._file.contains(number, digest)

    def verify(self) -> int:
        """Recompute the hash chain and return its length; raises SMR-E303 where it is broken."""
        return self._file.read().number

    def _cohort(self, patients: Collection[str]) -> frozenset[bytes]:
        if isinstance(patients, str) or not patients:
            raise ValueError("a release is charged to the patients it may touch: name them")
        return self._file.key.hashed(patients)

    def _refusal(
        self,
        charged: Charged,
        book: Book,
        plan: FederationPlan,
        uses: list[MechanismUse],
        cohort: frozenset[bytes],
    ) -> SmrfedError | None:
        delta = plan.privacy.delta
        for whose, digest, cap in (
            ("the plan", plan.digest, plan.privacy.epsilon),
            ("the hospital", None, self._max_epsilon),
        ):
            if cap == math.inf:
                continue
            charges = charged.charges(digest)
            planned = [Charge("planned", use) for use in uses]
            cohorts = {**book.cohorts, "planned": cohort}
            after = worst_epsilon(exposures([*charges, *planned], cohorts, cohort), delta)
            if after > cap:
                before = worst_epsilon(exposures(charges, book.cohorts, cohort), delta)
                return SmrfedError(
                    "SMR-E302",
                    f"this round would exceed the privacy budget of {whose} by {after - cap:.4g}",
                    expected=f"epsilon <= {cap:.6g} at delta {delta:g} for every patient",
                    found=f"{before:.6g} spent, {after:.6g} after this round, by the patient who "
                    "has spent most",
                    remedy="end the run with the last released model; a larger budget is a "
                    "decision of the hospital, made in its policy and in a new plan",
                )
        return None

    def _advance(self, reservation: int, before: State, after: State, reply_sha256: str) -> None:
        last: Mapping[str, Any] | None = None

        def look(event: Mapping[str, Any]) -> None:
            nonlocal last
            if event["reservation"] == reservation:
                last = event

        with self._file.append(look) as (_, appender):
            if last is None or last["state"] != before:
                raise SmrfedError(
                    "SMR-E307",
                    f"reservation {reservation} cannot go to state '{after}'",
                    expected=f"state '{before}'",
                    found=f"state '{last['state']}'" if last else "no such reservation",
                    remedy="reserve the round again; the earlier reservation stays charged",
                )
            appender.event(**{**last, "state": after, "reply_sha256": reply_sha256})
