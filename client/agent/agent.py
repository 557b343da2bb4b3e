"""The site agent: the only process that sees patients, spends budget, and decides what leaves."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from client.agent.acceptance import AcceptedPlans
from client.agent.aggregation_rounds import restore_terms
from client.agent.charges import Charges
from client.agent.coordinator_keys import CoordinatorKeys
from client.agent.final_model import keep_final_model
from client.agent.instructions import (
    admit_instruction,
    carried_arrays,
    largest_instruction,
    require_served,
)
from client.agent.mask_leftovers import remove_quiet_runs
from client.agent.masked_rounds import out_of_place, summed_only
from client.agent.refusal_record import note_refusal
from client.agent.refusals import site_failed
from client.agent.replies import Question, ReplyStore
from client.agent.room import require_room
from client.agent.sent_archive import SentArchive
from client.agent.site_data import Progress, SiteData, training_device
from client.agent.site_rounds import place_site
from client.agent.state import StateFolder
from client.agent.state_lock import StateLock
from client.agent.statistics import released_statistics
from client.agent.status import Activity, AgentStatus, status_of
from client.agent.trained_round import masked_sum, trained_update
from client.config import SiteConfig
from client.egress.acknowledgements import Acknowledgements
from client.egress.door import CLOSED
from client.egress.gate import OF_THE_CONTENT, EgressGate, ReplyArrays
from client.egress.metrics import leaving_metrics
from client.egress.policy import Shapes, SitePolicy
from client.egress.receipts import Receipts
from client.egress.refusals import Refusals
from client.privacy.ledger import Ledger
from client.privacy.witness import require_charged
from client.training.examples import PatientExamples
from client.training.self_test import sensitivity_self_test, synthetic_inputs
from client.training.site_model import SiteModel
from shared_model.adaptation.wire import Carried
from shared_model.aggregation.control_wire import CommonControl
from shared_model.atlas.atlas import Atlas
from shared_model.atlas.select import load_atlas
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import Arrays, encode_any
from shared_model.protocol.keys import fingerprint, load_or_create_signing_key
from shared_model.protocol.messages import Kind, RoundInstruction, decode_header, is_about_masks
from shared_model.protocol.sealed import Sealed, seal
from shared_model.releases.statistics import Statistics, shapes

_log = logging.getLogger(__name__)


class SiteAgent:
    """One hospital's side of one accepted plan; answers one instruction at a time.

    The guarantee that leaves with a ``train`` reply in mode ``local`` is the one of
    :func:`client.training.rounds.train_round`, in a secure sum the one of
    :func:`client.training.shared_sum.shared_sum` under masks; charged to the ledger before it
    starts. An instruction is answered once: repeated, it gives the stored bytes and spends nothing.
    A crash leaves the stored answer or a charged reservation, never an uncharged release.

    Args:
        config: the site's configuration; ``config.state_dir`` belongs to this object until
            :meth:`close` (SMR-E408 when another agent has it).
        plan: who constructs the agent accepts it on behalf of the hospital: it is held against the
            policy and pinned. ``smrfed-site run`` passes only plans that a person accepted before.
        atlas: the atlas on the plan's grid; none: the one that the plan names.
        go_over: called with the digest of another plan that this hospital accepted, when it is
            asked under it; that is then answered with SMR-E454, to be asked again.

    Raises SMR-E104 (the plan does not name this site), SMR-E304 and SMR-E31x (the policy does not
    admit it), SMR-E415 (it would send other arrays than shown at acceptance), SMR-E118 (keys),
    SMR-E421 (device), SMR-E353 (a release that was never charged) and the errors of the model, the
    atlas, the ledger and the receipts.
    """

    def __init__(
        self,
        config: SiteConfig,
        plan: FederationPlan,
        *,
        atlas: Atlas | None = None,
        go_over: Callable[[str], None] | None = None,
    ) -> None:
        plan.site(config.name)
        self._go_over = go_over
        self._config = config
        self._plan = plan
        self._state = StateFolder(config.state_dir)
        self._started_at_s = time.time()
        self._activity: Activity = "idle"
        self._working = threading.Lock()
        self._lock = StateLock(config.state_dir)
        try:
            self._open(atlas)
        except BaseException:
            self._lock.release()
            raise

    def _open(self, atlas: Atlas | None) -> None:
        plan, state = self._plan, self._state
        self._policy = SitePolicy.load(self._config.policy)
        self._policy.admit_plan(plan)
        self._coordinators = CoordinatorKeys(self._config, self._policy)
        self._coordinator = self._coordinators.current
        self._key = load_or_create_signing_key(state.key)
        self._ledger = Ledger(state.ledger, self._policy.max_epsilon)
        self._receipts = Receipts(state.receipts)
        require_charged(self._ledger, self._receipts.read())
        self._gate = EgressGate(self._policy, self._receipts)
        self._refusals = Refusals(state.refusals)
        self._acknowledgements = Acknowledgements(
            state.acknowledgements, self._coordinator, self._receipts
        )
        archive = SentArchive(state.sent, self._policy.max_sent_archive_bytes)
        self._replies = ReplyStore(state.replies, archive=archive)
        self._replies.remove_leftovers()
        self._masked = summed_only(plan, state.masks, self.name, self._key)
        self._charges = Charges(self._ledger, plan)
        self._model = SiteModel.build(
            plan,
            atlas if atlas is not None else load_atlas(plan.atlas, plan.input.grid),
            self._config.weights_folders,
            training_device(self._config.device),
        )
        self._shapes = self._model.shared_shapes
        self._policy.admit_plan(plan, self._shapes)
        self._accepted = AcceptedPlans(state.plans)
        self._accepted.accept(plan, self._shapes)
        self._data = SiteData(self._config, plan, self._model)
        self._tested = plan.privacy.mode == "none"
        _log.info("site %s serves plan %r, digest %s", self.name, plan.name, plan.digest)

    @property
    def name(self) -> str:
        """The site's name in the plan."""
        return self._config.name

    @property
    def public_key(self) -> Ed25519PublicKey:
        """The key that the coordinator registers for this site."""
        return self._key.public_key()

    @property
    def max_body_bytes(self) -> int:
        """Largest body, in bytes, that an instruction can have: of the plan, or one to go over to.

        Plans whose arrays could not be shown at acceptance do not count.
        """
        served: list[tuple[FederationPlan, Shapes]] = [(self._plan, self._shapes)]
        if self._go_over is not None:
            served += [(a.plan, a.outgoing) for a in self._accepted.all() if a.outgoing is not None]
        return max(largest_instruction(plan, own) for plan, own in served)

    def status(self) -> AgentStatus:
        """What the agent is doing; nothing in it depends on patients."""
        known = fingerprint(self.public_key), self._activity, self._replies.runs()
        return status_of(self.name, self._plan, *known, self._started_at_s)

    def prepare(self, progress: Progress | None = None) -> None:
        """Check the privacy engine on public inputs and make the examples of all patients.

        Optional: the first ``train`` does it otherwise. Raises SMR-E308 when the model couples
        patients, and the archive's SMR-E2xx.
        """
        with self._working:
            self._prepare(progress)

    def close(self) -> None:
        """Wait for the instruction in work, then give the state folder free."""
        with self._working:
            self._lock.release()

    def handle(self, instruction: Sealed) -> Sealed:
        """Answer a sealed instruction with a sealed reply; a refusal is noted in a receipt.

        No patient is read and nothing spent for a message that the coordinator did not sign or that
        is not for this site and plan. Raises SMR-E113, SMR-E116 and SMR-E117 (message), SMR-E401
        (other plan), SMR-E402 (other site), SMR-E416 (no such round in the plan), SMR-E370 (the
        plan announces no such release), SMR-E405, SMR-E382 and SMR-E345 (arrays), SMR-E346 (control
        variate), SMR-E403 and SMR-E404 (asked before in other words, or too late), the numbered
        errors of archive, ledger and egress gate, SMR-E453 (no room for the answer), SMR-E366 (an
        acknowledgement of what never left), those of :mod:`client.agent.masked_rounds`, and
        SMR-E410 for anything unforeseen.
        """
        try:
            return self._handle(instruction)
        except SmrfedError as error:
            if error.code != "SMR-E454":
                self.refused(error, instruction)
            raise

    def refused(self, error: SmrfedError, instruction: Sealed | None = None) -> None:
        """Note that an instruction, or what should have been one, was refused."""
        note_refusal(self._refusals, self._coordinator, error, instruction)

    def _handle(self, instruction: Sealed) -> Sealed:
        signer = self._coordinators.signer(instruction)
        header = decode_header(RoundInstruction, instruction)
        if self._go_over is not None:
            require_served(header, self._plan, self.name, self._accepted, self._go_over)
        admit_instruction(header, self._plan, self.name)
        question = Question(header.run_id, header.round, header.kind, instruction.digest.hex())
        with self._working:
            if not self._lock.held:
                raise RuntimeError("the agent was closed")
            try:
                if header.acknowledged is not None:
                    self._acknowledgements.record(header.acknowledged, self.name, signer)
                return self._answer(question, header, instruction)
            except SmrfedError:
                raise
            except Exception as error:
                _log.exception("round %d of run %s failed", header.round, header.run_id)
                raise site_failed(error) from error
            finally:
                self._activity = "idle"

    def _answer(self, question: Question, header: RoundInstruction, instruction: Sealed) -> Sealed:
        remove_quiet_runs(self._state.masks, question.run_id)
        reply = self._replies.find(question)
        if reply is not None:
            self._charges.seal(question, reply)
            self._gate.hand_over(reply)
        elif is_about_masks(header.kind):
            reply = self._exchange(question, header, instruction.body)
        else:
            shared, carried, control = carried_arrays(instruction, header, self._plan, self._shapes)
            if header.kind != "finalise":
                width = 8 if header.masking is not None else 4
                self._gate.require_open(self._leaving(header.kind), width)
            if header.kind == "train":
                reply = self._train(question, header, shared, carried, control)
            elif header.kind != "finalise":
                reply = self._look(question, header, shared, carried, header.kind)
            else:
                reply = self._finalise(question, header, shared, carried)
            self._charges.seal(question, reply)
        return reply

    def _train(
        self,
        question: Question,
        header: RoundInstruction,
        shared: Arrays,
        carried: Carried | None,
        control: CommonControl | None,
    ) -> Sealed:
        folder = self._state.model(question.run_id)
        terms = restore_terms(folder, self._plan, self.name, question.round, control)
        if header.masking is not None and self._masked is not None:
            self._masked.take_order(header.run_id, header.round, header.masking)
        self._prepare(None)
        self._activity = "training"
        self._begin(question)
        self._model.load_shared(shared)
        place_site(folder, self._model, self.name, question.round, carried, trains=True)
        if header.masking is not None and self._masked is not None:
            integers = masked_sum(self._model, self.name, self._data.train, question, carried)
            masked = self._masked.mask(header.run_id, header.round, header.masking, integers)
            self._charges.commit()
            return self._release(question, header, masked, {})
        made = trained_update(
            folder, self._model, self.name, self._data.train, question, carried, terms
        )
        self._charges.commit()
        return self._release(question, header, made.arrays, made.metrics, made.drawn)

    def _exchange(self, question: Question, header: RoundInstruction, body: bytes) -> Sealed:
        """Answer about masks; what is refused leaves no claim, since nothing was computed of it."""
        if self._masked is None:
            raise out_of_place(f"{header.kind!r}", "a secure sum", self._plan.privacy.mode)
        if header.kind == "keys":
            self._replies.claim(question)
        arrays = self._masked.answer(header, body)
        self._replies.claim(question)
        reply = self._release(question, header, arrays, {})
        self._masked.end_round(header)
        return reply

    def _look(
        self,
        question: Question,
        header: RoundInstruction,
        shared: Arrays,
        carried: Carried | None,
        kind: Statistics,
    ) -> Sealed:
        """Answer with sums over test patients (``evaluate``) or training patients."""
        self._prepare(None)
        self._activity = "calibrating" if kind == "calibrate" else "evaluating"
        examples = self._side(kind)
        self._begin(question)
        self._model.load_shared(shared)
        folder = self._state.model(question.run_id)
        place_site(folder, self._model, self.name, question.round, carried, trains=False)
        arrays = released_statistics(self._model, examples, self._plan, kind)
        self._charges.commit()
        return self._release(question, header, arrays, {}, len(examples))

    def _side(self, kind: Kind) -> tuple[PatientExamples, ...]:
        """The patients that a release of this kind looks at."""
        return self._data.test if kind == "evaluate" else self._data.train

    def _leaving(self, kind: Kind) -> Shapes:
        """Names and shapes of a reply of this kind."""
        if kind == "finalise" or is_about_masks(kind):
            return {}
        return self._shapes if kind == "train" else shapes(self._plan, kind)

    def _finalise(
        self, question: Question, header: RoundInstruction, shared: Arrays, carried: Carried | None
    ) -> Sealed:
        self._activity = "finalising"
        self._replies.claim(question)
        if self._masked is not None:
            self._masked.forget(question.run_id)
        folder = self._state.model(question.run_id)
        keep_final_model(
            folder, self._plan, self._model, self._data, shared, question.round, carried
        )
        return self._release(question, header, {}, {})

    def _release(
        self,
        question: Question,
        header: RoundInstruction,
        arrays: ReplyArrays,
        metrics: Mapping[str, float],
        patients: int = 0,
    ) -> Sealed:
        """Gate, seal, store: the only way in which arrays get out of this object.

        ``patients`` is over how many patients metrics or counts were taken, for mode ``none``. What
        the gate holds for a later hour is stored as well: it is neither lost nor computed again.
        """
        body = encode_any(arrays)
        mode = self._plan.privacy.mode
        leaving = leaving_metrics(metrics, patients, mode, self._policy)
        reply = header.reply(body, question.instruction_sha256, leaving)
        spent = None
        if mode != "none":
            spent = self._ledger.spent(self._plan.privacy.delta)
        held = None
        try:
            self._gate.release(
                reply,
                arrays,
                self._plan,
                self._leaving(header.kind),
                epsilon_after=spent,
                patients=patients,
                order=header.unmasking,
            )
        except SmrfedError as error:
            if error.code not in CLOSED:
                if error.code in OF_THE_CONTENT and spent is not None:
                    self._replies.refuse(question, error.code)
                raise
            held = error
        sealed = seal(reply.canonical_json, body, self._key)
        self._replies.save(question, sealed)
        if held is not None:
            raise held
        _log.info("answered round %d (%s) of run %s", header.round, header.kind, header.run_id)
        return sealed

    def _begin(self, question: Question) -> None:
        """Claim and charge; what cannot be paid leaves nothing on the disk, however often asked."""
        width = 8 if self._masked is not None else 4
        require_room(self._config.state_dir, self._leaving(question.kind), width)
        new = self._replies.claim(question)
        try:
            self._charges.reserve(question, self._side(question.kind))
        except SmrfedError:
            if new:
                self._replies.withdraw(question)
            raise

    def _prepare(self, progress: Progress | None) -> None:
        self._activity = "preparing"
        try:
            if not self._tested:
                sensitivity_self_test(self._model, synthetic_inputs(self._model))
                self._tested = True
            self._data.prepare(progress)
        finally:
            self._activity = "idle"
