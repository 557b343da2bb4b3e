"""A hospital's agent without torch: real service, protocol, ledger, gate and disk; toy training.

Run as ``python -P stand_in.py SITE_TOML``; ``smrfed-site up`` starts it through
:mod:`simulations.deployed.hasty_supervisor`. Everything between the unix socket and the trainer is
done in the order of :class:`client.agent.agent.SiteAgent`, the masks of a secure sum included; only
the trainer is a line of arithmetic, without noise. Beside ``site.toml`` lie ``plan.json``,
``switches.json`` (how to behave, read anew for every instruction) and ``notes.txt``, one line for
everything that the agent did. ``{"dies_at": "unmask 2"}`` ends the process at that question, and
again whenever it is asked.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from client.agent.instructions import admit_instruction
from client.agent.masked_rounds import summed_only
from client.agent.replies import Question, ReplyStore
from client.agent.room import require_room
from client.agent.sent_archive import SentArchive
from client.agent.service import serve
from client.agent.state import StateFolder
from client.agent.state_lock import StateLock
from client.agent.status import AgentStatus
from client.config import SiteConfig
from client.egress.acknowledgements import Acknowledgements
from client.egress.gate import EgressGate, ReplyArrays
from client.egress.policy import SitePolicy
from client.egress.receipts import Receipts
from client.privacy.ledger import Ledger
from client.privacy.witness import require_charged
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.privacy.plan_cost import release_use
from shared_model.privacy.summed_noise import section_of
from shared_model.protocol.arrays import Arrays, decode_arrays, encode_any
from shared_model.protocol.keys import load_or_create_signing_key, load_public_key
from shared_model.protocol.messages import RoundInstruction, decode_header, is_about_masks
from shared_model.protocol.sealed import Sealed, seal

_PATIENTS = tuple(f"patient-{number}" for number in range(10))


def toy_update(site: str, body: bytes) -> Arrays:
    """Move every parameter a little towards a target that only this site knows."""
    target, pace = np.float32(0.5 + site.encode()[-1] / 500), np.float32(0.02)
    arrays = decode_arrays(body)
    return {name: ((target - v) * pace).astype(np.float32) for name, v in arrays.items()}


def toy_sum(site: str, body: bytes, plan: FederationPlan) -> dict[str, npt.NDArray[np.int64]]:
    """What a site's patients would add to a secure sum: integers, without noise."""
    target, scale = 0.5 + site.encode()[-1] / 500, 2.0 ** section_of(plan).fraction_bits
    declared = plan.site(site).declared_patients
    return {
        name: np.rint((v.astype(np.float64) - target) * 0.02 * declared * scale).astype(np.int64)
        for name, v in decode_arrays(body).items()
    }


class StandIn:
    """Answers an instruction once, from disk when asked again; what it spends is in its ledger."""

    max_body_bytes = 1 << 20

    def __init__(self, config: Path) -> None:
        self.folder = config.parent
        self.site = SiteConfig.load(config)
        self.plan = FederationPlan.parse(json.loads((self.folder / "plan.json").read_text()))
        state = StateFolder(self.site.state_dir)
        self.lock = StateLock(self.site.state_dir)
        policy = SitePolicy.load(self.site.policy)
        self.key = load_or_create_signing_key(state.key)
        self._coordinator = load_public_key(self.site.coordinator_key)
        self.ledger = Ledger(state.ledger, policy.max_epsilon)
        self.receipts = Receipts(state.receipts)
        require_charged(self.ledger, self.receipts.read())
        self.gate = EgressGate(policy, self.receipts)
        self._acknowledgements = Acknowledgements(
            state.acknowledgements, self._coordinator, self.receipts
        )
        archive = SentArchive(state.sent, policy.max_sent_archive_bytes)
        self._replies = ReplyStore(state.replies, archive=archive)
        self._replies.remove_leftovers()
        self._masked = summed_only(self.plan, state.masks, self.site.name, self.key)
        self._working = threading.Lock()

    def handle(self, instruction: Sealed) -> Sealed:
        """As the agent's: verify, look on the disk, charge, train, pass the gate, store, seal."""
        instruction.verify(self._coordinator, "coordinator")
        header = decode_header(RoundInstruction, instruction)
        admit_instruction(header, self.plan, self.site.name)
        question = Question(header.run_id, header.round, header.kind, instruction.digest.hex())
        with self._working:
            self.acknowledge(header)
            reply = self._replies.find(question)
            if reply is None:
                reply = self._compute(question, header, instruction)
            else:
                self._seal_charge(question, reply)
                self.gate.hand_over(reply)
            self.note("answered", header)
        return self.sent(header, reply)

    def acknowledge(self, header: RoundInstruction) -> None:
        """Note what the coordinator signed for; SMR-E366 for what never left."""
        if header.acknowledged is not None:
            self._acknowledgements.record(header.acknowledged, self.site.name, self._coordinator)

    def sent(self, header: RoundInstruction, reply: Sealed) -> Sealed:
        """What leaves instead of the honest reply; an honest agent sends that."""
        return reply

    def trained(self, header: RoundInstruction, instruction: Sealed) -> Arrays:
        """The update that this site trains."""
        return toy_update(self.site.name, instruction.body)

    def masked(self, header: RoundInstruction, instruction: Sealed) -> ReplyArrays:
        """What this site adds to a secure sum, under its masks."""
        assert self._masked is not None
        assert header.masking is not None
        integers = toy_sum(self.site.name, instruction.body, self.plan)
        return self._masked.mask(header.run_id, header.round, header.masking, integers)

    def about_masks(self, header: RoundInstruction, instruction: Sealed) -> ReplyArrays:
        """Keys, shares, or what helps to open a sum."""
        assert self._masked is not None
        return self._masked.answer(header, instruction.body)

    def switch(self, name: str, default: Any = None) -> Any:
        """How to behave, as ``switches.json`` says at this moment."""
        try:
            return json.loads((self.folder / "switches.json").read_text()).get(name, default)
        except (OSError, ValueError):
            return default

    def note(self, what: str, header: RoundInstruction) -> None:
        """One line, in one write."""
        line = f"{what} {header.run_id} {header.kind} {header.round}\n"
        with (self.folder / "notes.txt").open("ab", buffering=0) as file:
            file.write(line.encode())

    def refused(self, error: SmrfedError) -> None:
        """An instruction that could not be read."""
        logging.error("refused: %s", error)

    def status(self) -> AgentStatus:
        """For ``smrfed-site status``."""
        return AgentStatus(self.site.name, self.plan.name, "", "", "idle", "", 0, "", 0.0)

    def _compute(self, question: Question, header: RoundInstruction, instruction: Sealed) -> Sealed:
        shapes: dict[str, tuple[int, ...]] = {}
        if header.kind == "train":
            shapes = {name: v.shape for name, v in decode_arrays(instruction.body).items()}
            require_room(self.site.state_dir, shapes, 8 if header.masking else 4)
            if header.masking is not None and self._masked is not None:
                self._masked.take_order(header.run_id, header.round, header.masking)
        arrays: ReplyArrays = {}
        if is_about_masks(header.kind):
            self._work(header)
            arrays = self.about_masks(header, instruction)
        self._replies.claim(question)
        reservation = None
        if header.kind == "train":
            reservation = self.ledger.reserve(
                question.run_id,
                question.round,
                self.plan,
                release_use(self.plan, "train"),
                purpose="train",
                patients=_PATIENTS,
            )
        if not is_about_masks(header.kind):
            self._work(header)
        if reservation is not None:
            trains = self.trained if header.masking is None else self.masked
            arrays = trains(header, instruction)
            self.ledger.commit(reservation)
        if header.kind == "finalise" and self._masked is not None:
            self._masked.forget(header.run_id)
        body = encode_any(arrays)
        reply = header.reply(body, question.instruction_sha256, {})
        spent = self.ledger.spent(self.plan.privacy.delta)
        self.gate.release(
            reply, arrays, self.plan, shapes, epsilon_after=spent, order=header.unmasking
        )
        sealed = seal(reply.canonical_json, body, self.key)
        self._replies.save(question, sealed)
        self._seal_charge(question, sealed)
        if is_about_masks(header.kind) and self._masked is not None:
            self._masked.end_round(header)
        return sealed

    def _work(self, header: RoundInstruction) -> None:
        self.note("computing", header)
        if self.switch("dies_at") == f"{header.kind} {header.round}":
            os._exit(137)
        time.sleep(float(self.switch("work_s", 0.0)))

    def _seal_charge(self, question: Question, reply: Sealed) -> None:
        mine = self.ledger.newest(question.run_id, question.round, question.kind)
        if mine is not None and mine.state == "commit":
            self.ledger.seal(mine.id, reply.digest.hex())


def serve_forever(agent: StandIn) -> None:
    """Serve until killed; SIGTERM ends at once."""
    logging.basicConfig(level=logging.INFO)
    print(f"stand-in {agent.site.name}, process {os.getpid()}", flush=True)
    serve(agent, agent.site.socket).wait()


if __name__ == "__main__":
    serve_forever(StandIn(Path(sys.argv[1])))
