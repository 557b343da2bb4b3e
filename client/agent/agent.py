"""The site agent: the only process that sees patients, spends budget, and decides what leaves."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Mapping

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from client.agent.acceptance import AcceptedPlans
from client.agent.final_model import keep_final_model
from client.agent.refusals import site_failed
from client.agent.replies import Question, ReplyStore
from client.agent.site_data import Progress, SiteData, training_device
from client.agent.site_rounds import restore_site, store_site
from client.agent.state import StateFolder
from client.agent.state_lock import StateLock
from client.agent.status import Activity, AgentStatus
from client.config import SiteConfig
from client.egress.gate import EgressGate
from client.egress.policy import SitePolicy
from client.egress.receipts import Receipts
from client.privacy.composition import round_use, site_trains_in_rounds
from client.privacy.ledger import Ledger
from client.training.rounds import train_round
from client.training.self_test import sensitivity_self_test, synthetic_inputs
from client.training.site_model import SiteModel
from shared_model.atlas.atlas import Atlas
from shared_model.atlas.select import load_atlas
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import Arrays, body_digest, decode_arrays, encode_arrays
from shared_model.protocol.keys import fingerprint, load_or_create_signing_key, load_public_key
from shared_model.protocol.messages import RoundInstruction, RoundReply, decode_header
from shared_model.protocol.sealed import Sealed, seal

_log = logging.getLogger(__name__)

# The names, dtypes and offsets that safetensors writes before the numbers, generously.
_HEADER_BYTES_PER_ARRAY = 512


class SiteAgent:
    """One hospital's side of one accepted plan; answers one instruction at a time.

    The guarantee that leaves with a ``train`` reply in mode ``local`` is the one of
    :func:`client.training.rounds.train_round`, charged to the ledger before it starts. An
    instruction is answered once: repeated, it gives the stored bytes and spends nothing. A crash
    at any moment leaves the stored answer or a charged reservation, never an uncharged release.

    Args:
        config: the site's configuration; ``config.state_dir`` belongs to this object until
            :meth:`close` (SMR-E408 when another agent has it).
        plan: who constructs the agent accepts this plan on behalf of the hospital: it is held
            against the policy and pinned on disk. ``smrfed-site run`` passes only plans that a
            person accepted before.
        atlas: the atlas on the plan's grid; none: the one that the plan names.

    Raises SMR-E104 (the plan does not name this site), SMR-E304 and SMR-E31x (the policy does not
    admit it), SMR-E415 (it would send other arrays than shown at acceptance), SMR-E118 (keys),
    SMR-E421 (device) and the errors of the model, the atlas, the ledger and the receipts.
    """

    def __init__(
        self, config: SiteConfig, plan: FederationPlan, *, atlas: Atlas | None = None
    ) -> None:
        plan.site(config.name)
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
        self._coordinator = load_public_key(self._config.coordinator_key)
        self._key = load_or_create_signing_key(state.key)
        self._ledger = Ledger(state.ledger, self._policy.max_epsilon)
        self._receipts = Receipts(state.receipts)
        self._receipts.verify()
        self._gate = EgressGate(self._policy, self._receipts)
        self._replies = ReplyStore(state.replies)
        self._replies.remove_leftovers()
        self._reserved: tuple[Question, int] | None = None
        self._model = SiteModel.build(
            plan,
            atlas if atlas is not None else load_atlas(plan.atlas, plan.input.grid),
            self._config.weights_folders,
            training_device(self._config.device),
        )
        self._shapes = self._model.shared_shapes
        self._policy.admit_plan(plan, self._shapes)
        AcceptedPlans(state.plans).accept(plan, self._shapes)
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
        """Largest body, in bytes, that an instruction of the plan can have."""
        numbers = sum(math.prod(shape) for shape in self._shapes.values())
        return 4 * numbers + _HEADER_BYTES_PER_ARRAY * (1 + len(self._shapes))

    def status(self) -> AgentStatus:
        """What the agent is doing; nothing in it depends on patients."""
        runs = self._replies.runs()
        run_id = next(reversed(runs), "")
        number, kind = runs.get(run_id, (0, ""))
        return AgentStatus(
            site=self.name,
            plan_name=self._plan.name,
            plan_digest=self._plan.digest,
            key_fingerprint=fingerprint(self.public_key),
            activity=self._activity,
            run_id=run_id,
            round=number,
            kind=kind,
            started_at_s=self._started_at_s,
        )

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
        """Answer a sealed instruction with a sealed reply.

        Nothing is read, written or spent for a message that the coordinator did not sign or that is
        not for this site and plan. Raises SMR-E113, SMR-E116 and SMR-E117 (message), SMR-E401
        (other plan), SMR-E402 (other site), SMR-E416 (no such round in the plan), SMR-E405
        (arrays), SMR-E403 and SMR-E404 (asked before in other words, or too late), the numbered
        errors of archive, ledger and egress gate, and SMR-E410 for anything unforeseen.
        """
        instruction.verify(self._coordinator, "coordinator")
        header = decode_header(RoundInstruction, instruction)
        self._admit(header)
        question = Question(header.run_id, header.round, header.kind, instruction.digest.hex())
        with self._working:
            if not self._lock.held:
                raise RuntimeError("the agent was closed")
            try:
                return self._answer(question, header, instruction)
            except SmrfedError:
                raise
            except Exception as error:
                _log.exception("round %d of run %s failed", header.round, header.run_id)
                raise site_failed(error) from error
            finally:
                self._activity = "idle"

    def _admit(self, header: RoundInstruction) -> None:
        """Whether the message is for this site and plan, at a round that the plan has."""
        for code, what, expected, found in (
            ("SMR-E401", "plan", self._plan.digest, header.plan_digest),
            ("SMR-E402", "site", self.name, header.site),
        ):
            if expected != found:
                raise SmrfedError(
                    code,
                    f"the instruction is for another {what}",
                    expected=expected,
                    found=found,
                    remedy="the coordinator must use the plan and the name that this site accepted",
                )
        if header.round > self._plan.training.rounds:
            raise SmrfedError(
                "SMR-E416",
                f"plan {self._plan.name!r} has no round {header.round}",
                expected=f"1 to {self._plan.training.rounds}",
                found=header.round,
                remedy="more rounds need a new plan, which every site accepts anew",
            )

    def _answer(self, question: Question, header: RoundInstruction, instruction: Sealed) -> Sealed:
        reply = self._replies.find(question)
        if reply is None:
            shared = self._shared(instruction)
            if header.kind == "train":
                reply = self._train(question, header, shared)
            else:
                reply = self._finalise(question, header, shared)
        self._seal_reservation(question, reply)
        return reply

    def _train(self, question: Question, header: RoundInstruction, shared: Arrays) -> Sealed:
        self._prepare(None)
        self._activity = "training"
        self._replies.claim(question)
        reservation = self._reserve(question)
        folder = self._state.model(question.run_id)
        self._model.load_shared(shared)
        if site_trains_in_rounds(self._plan):
            restore_site(folder, self._model, question.round)
        trained = train_round(
            self._model, self._data.train, self._plan, self.name, question.round, question.run_id
        )
        if site_trains_in_rounds(self._plan):
            store_site(folder, self._model, question.round)
        if reservation is not None:
            self._reserved = None
            self._ledger.commit(reservation)
        return self._release(question, header, trained.delta, trained.metrics)

    def _finalise(self, question: Question, header: RoundInstruction, shared: Arrays) -> Sealed:
        self._activity = "finalising"
        self._replies.claim(question)
        folder = self._state.model(question.run_id)
        keep_final_model(folder, self._plan, self._model, self._data, shared, question.round)
        return self._release(question, header, {}, {})

    def _release(
        self,
        question: Question,
        header: RoundInstruction,
        arrays: Arrays,
        metrics: Mapping[str, float],
    ) -> Sealed:
        """Gate, seal, store: the only way in which arrays get out of this object."""
        body = encode_arrays(arrays)
        asked = header.model_dump(exclude={"body_sha256"})
        reply = RoundReply(
            **asked,
            body_sha256=body_digest(body),
            instruction_sha256=question.instruction_sha256,
            metrics=self._metrics(metrics),
        )
        spent = None
        if self._plan.privacy.mode != "none":
            spent = self._ledger.spent(self._plan.privacy.delta)
        self._gate.release(reply, arrays, self._plan, self._shapes, epsilon_after=spent)
        sealed = seal(reply.canonical_json, body, self._key)
        self._replies.save(question, sealed)
        _log.info("answered round %d (%s) of run %s", header.round, header.kind, header.run_id)
        return sealed

    def _metrics(self, metrics: Mapping[str, float]) -> dict[str, float]:
        if self._plan.privacy.mode != "none" or not self._policy.allow_metrics:
            return {}
        return {name: value for name, value in metrics.items() if math.isfinite(value)}

    def _reserve(self, question: Question) -> int | None:
        """Charge the round; again only when an earlier attempt may have got further than here."""
        if self._plan.privacy.mode == "none":
            return None
        if self._reserved is None or self._reserved[0] != question:
            # A training that failed in this process released nothing: its charge is used again.
            # What an attempt of a killed process did is unknown: it stays charged beside this one.
            use = round_use(self._plan)
            reservation = self._ledger.reserve(question.run_id, question.round, self._plan, use)
            self._reserved = question, reservation
        return self._reserved[1]

    def _seal_reservation(self, question: Question, reply: Sealed) -> None:
        """Note in the ledger that the stored reply may leave; also after a crash in between."""
        if question.kind != "train" or self._plan.privacy.mode == "none":
            return
        mine = [
            entry
            for entry in self._ledger.entries()
            if (entry.run_id, entry.round) == (question.run_id, question.round)
        ]
        # The last reservation of a round is the one that the stored reply came from.
        if mine and mine[-1].state == "commit":
            self._ledger.seal(mine[-1].id, reply.digest.hex())

    def _shared(self, instruction: Sealed) -> Arrays:
        """The shared parameters of an instruction; raises SMR-E115 or SMR-E405."""
        arrays = decode_arrays(instruction.body)
        found = {name: value.shape for name, value in arrays.items()}
        if found != self._shapes:
            differing = sorted(set(found.items()) ^ set(self._shapes.items()))
            problem = "; ".join(f"{name} {shape}" for name, shape in differing[:6])
        else:
            wrong = [name for name, value in arrays.items() if not np.isfinite(value).all()]
            problem = f"NaN or infinity in {', '.join(wrong[:6])}" if wrong else ""
        if problem:
            raise SmrfedError(
                "SMR-E405",
                "the instruction's arrays are not the shared parameters of the plan",
                expected=f"{len(self._shapes)} finite arrays by name and shape",
                found=problem,
                remedy="check that coordinator and site run the same smrfed version and atlas",
            )
        return arrays

    def _prepare(self, progress: Progress | None) -> None:
        self._activity = "preparing"
        try:
            if not self._tested:
                sensitivity_self_test(self._model, synthetic_inputs(self._model))
                self._tested = True
            self._data.prepare(progress)
        finally:
            self._activity = "idle"
