"""What a site charges for its answers: reserved before a patient is touched, then sealed."""

from __future__ import annotations

from collections.abc import Sequence

from client.agent.replies import Question
from client.privacy.ledger import Ledger
from client.training.examples import PatientExamples
from shared_model.plan import FederationPlan
from shared_model.privacy.plan_cost import release_use
from shared_model.protocol.messages import is_about_masks
from shared_model.protocol.sealed import Sealed


class Charges:
    """The entries of one plan in the hospital's ledger; in mode ``none`` there are none."""

    def __init__(self, ledger: Ledger, plan: FederationPlan) -> None:
        self._ledger = ledger
        self._plan = plan
        self._reserved: tuple[Question, int] | None = None

    def reserve(self, question: Question, patients: Sequence[PatientExamples]) -> None:
        """Charge the release; again only when an earlier attempt may have got further than here.

        Raises the ledger's SMR-E302 when it would overspend.
        """
        kind = question.kind
        if self._plan.privacy.mode == "none" or kind == "finalise" or is_about_masks(kind):
            return
        if self._reserved is None or self._reserved[0] != question:
            # A training that failed in this process released nothing: its charge is used again.
            # What an attempt of a killed process did is unknown: it stays charged beside this one.
            reservation = self._ledger.reserve(
                question.run_id,
                question.round,
                self._plan,
                release_use(self._plan, kind),
                purpose=kind,
                patients=[patient.id for patient in patients],
            )
            self._reserved = question, reservation

    def commit(self) -> None:
        """Note that the reserved work was done."""
        if self._reserved is not None:
            reservation, self._reserved = self._reserved[1], None
            self._ledger.commit(reservation)

    def seal(self, question: Question, reply: Sealed) -> None:
        """Note in the ledger that the stored reply may leave; also after a crash in between."""
        kind = question.kind
        if kind == "finalise" or is_about_masks(kind) or self._plan.privacy.mode == "none":
            return
        # The last reservation of a round is the one that the stored reply came from.
        mine = self._ledger.newest(question.run_id, question.round, kind)
        if mine is not None and mine.state == "commit":
            self._ledger.seal(mine.id, reply.digest.hex())
