"""A hospital's agent without torch: real service, protocol, ledger, gate and disk; toy training.

Run as ``python -P stand_in.py SITE_TOML``; ``smrfed-site up`` starts it through
:mod:`simulations.deployed.hasty_supervisor`. Everything between the unix socket and the trainer is
done in the order of :class:`client.agent.agent.SiteAgent`; only the trainer is a line of
arithmetic. Beside ``site.toml`` lie ``plan.json``, ``switches.json`` (how to behave, read anew for
every instruction) and ``notes.txt``, one line for everything that the agent did.
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

from client.agent.replies import Question, ReplyStore
from client.agent.room import require_room
from client.agent.sent_archive import SentArchive
from client.agent.service import serve
from client.agent.state import StateFolder
from client.agent.state_lock import StateLock
from client.agent.status import AgentStatus
from client.config import SiteConfig
from client.egress.acknowledgements import Acknowledgements
from client.egress.gate import EgressGate
from client.egress.policy import SitePolicy
from client.egress.receipts import Receipts
from client.privacy.ledger import Ledger
from client.privacy.witness import require_charged
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.privacy.plan_cost import release_use
from shared_model.protocol.arrays import Arrays, body_digest, decode_arrays, encode_arrays
from shared_model.protocol.keys import load_or_create_signing_key, load_public_key
from shared_model.protocol.messages import RoundInstruction, RoundReply, decode_header
from shared_model.protocol.sealed import Sealed, seal

_PATIENTS = tuple(f"patient-{number}" for number in range(10))


def toy_update(site: str, body: bytes) -> Arrays:
    """Move every parameter a little towards a target that only this site knows."""
    target, pace = np.float32(0.5 + site.encode()[-1] / 500), np.float32(0.02)
    arrays = decode_arrays(body)
    return {name: ((target - v) * pace).astype(np.float32) for name, v in arrays.items()}


class StandIn:
    """Answers an instruction once, from disk when asked again; what it spends is in its ledger."""

    max_body_bytes = 1 << 20

    def __init__(self, config: Path) -> None:
        self.folder = config.parent
        self.site = SiteConfig.load(config)
        self.plan = FederationPlan.parse(json.loads((self.folder / "plan.json").read_text()))
        state = StateFolder(self.site.state_dir)
        self._lock = StateLock(self.site.state_dir)
        policy = SitePolicy.load(self.site.policy)
        self.key = load_or_create_signing_key(state.key)
        self._coordinator = load_public_key(self.site.coordinator_key)
        self._ledger = Ledger(state.ledger, policy.max_epsilon)
        receipts = Receipts(state.receipts)
        require_charged(self._ledger, receipts.read())
        self._gate = EgressGate(policy, receipts)
        self._acknowledgements = Acknowledgements(
            state.acknowledgements, self._coordinator, receipts
        )
        archive = SentArchive(state.sent, policy.max_sent_archive_bytes)
        self._replies = ReplyStore(state.replies, archive=archive)
        self._replies.remove_leftovers()
        self._working = threading.Lock()

    def handle(self, instruction: Sealed) -> Sealed:
        """As the agent's: verify, look on the disk, charge, train, pass the gate, store, seal."""
        instruction.verify(self._coordinator, "coordinator")
        header = decode_header(RoundInstruction, instruction)
        question = Question(header.run_id, header.round, header.kind, instruction.digest.hex())
        with self._working:
            self.acknowledge(header)
            reply = self._replies.find(question)
            if reply is None:
                reply = self._compute(question, header, instruction)
            else:
                self._seal_charge(question, reply)
                self._gate.hand_over(reply)
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
        if header.kind == "train":
            shapes = {name: v.shape for name, v in decode_arrays(instruction.body).items()}
            require_room(self.site.state_dir, shapes)
        self._replies.claim(question)
        reservation = None
        if header.kind == "train":
            reservation = self._ledger.reserve(
                question.run_id,
                question.round,
                self.plan,
                release_use(self.plan, "train"),
                purpose="train",
                patients=_PATIENTS,
            )
        self.note("computing", header)
        time.sleep(float(self.switch("work_s", 0.0)))
        arrays = self.trained(header, instruction) if header.kind == "train" else {}
        if reservation is not None:
            self._ledger.commit(reservation)
        body = encode_arrays(arrays)
        reply = RoundReply(
            **header.model_dump(exclude={"body_sha256", "acknowledged"}),
            body_sha256=body_digest(body),
            instruction_sha256=question.instruction_sha256,
            metrics={},
        )
        shapes = {name: value.shape for name, value in arrays.items()}
        spent = self._ledger.spent(self.plan.privacy.delta)
        self._gate.release(reply, arrays, self.plan, shapes, epsilon_after=spent)
        sealed = seal(reply.canonical_json, body, self.key)
        self._replies.save(question, sealed)
        self._seal_charge(question, sealed)
        return sealed

    def _seal_charge(self, question: Question, reply: Sealed) -> None:
        place = (question.run_id, question.round, question.kind)
        mine = [e for e in self._ledger.entries() if (e.run_id, e.round, e.purpose) == place]
        if mine and mine[-1].state == "commit":
            self._ledger.seal(mine[-1].id, reply.digest.hex())


def serve_forever(agent: StandIn) -> None:
    """Serve until killed; SIGTERM ends at once."""
    logging.basicConfig(level=logging.INFO)
    print(f"stand-in {agent.site.name}, process {os.getpid()}", flush=True)
    serve(agent, agent.site.socket).wait()


if __name__ == "__main__":
    serve_forever(StandIn(Path(sys.argv[1])))
