"""The round driver: asks sites, adds their replies exactly, checkpoints, and never loses a run.

The same driver serves simulations and Flower deployments; only the :class:`Transport` differs.
Weights are the plan's public integers and participation is public, so nothing that the driver
decides depends on patients other than through the updates themselves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from server.aggregation.fixed_point import Shapes
from server.aggregation.next_state import RoundUpdates, asked_body, next_state
from server.checkpoints.run_directory import RunDirectory
from server.checkpoints.state import RunState
from server.evaluation.records import ReleaseRecord
from server.receipts.book import ReceiptBook
from server.receipts.last_received import last_received
from server.rounds.checks import Question, check_metrics, check_update
from server.rounds.events import Event, EventKind, Observer
from server.rounds.exchange import Accept, Exchange
from server.rounds.records import RoundRecord
from server.rounds.releases import ReleaseRounds
from server.rounds.settings import DriverSettings
from server.rounds.transport import Transport
from shared_model.adaptation.wire import with_moments
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.protocol.acknowledgement import Received, countersign
from shared_model.protocol.arrays import body_digest, decode_arrays, encode_arrays
from shared_model.protocol.messages import Kind, RoundInstruction, RoundReply
from shared_model.protocol.sealed import Sealed, seal
from shared_model.releases.statistics import Statistics


@dataclass(frozen=True)
class RunResult:
    """A finished run: its released shared parameters, and what happened in every round.

    ``releases``: evaluations and calibration, in their order; ``history`` may be shorter than the
    plan's rounds where these ended them early.
    """

    run_id: str
    body: bytes
    history: tuple[RoundRecord, ...]
    finalised: RoundRecord
    releases: tuple[ReleaseRecord, ...] = ()

    @property
    def arrays(self) -> dict[str, npt.NDArray[np.float32]]:
        """The final shared parameters by name, decoded anew at each access."""
        return decode_arrays(self.body)

    @property
    def sha256(self) -> str:
        """Digest of the final shared parameters."""
        return body_digest(self.body)


class RoundDriver:
    """Runs a plan in a run directory, from wherever its last checkpoint left it.

    Args:
        plan: must be the plan that the run directory was made for (SMR-E535 otherwise).
        site_keys: the registered public key of every site of the plan (SMR-E502 otherwise).
        observer: called with each :class:`Event`; what it raises ends the run.
        settings: the coordinator's patience; see :class:`DriverSettings`.
        clock, sleep: seconds, monotonic; tests replace them.
    """

    def __init__(
        self,
        plan: FederationPlan,
        run_dir: RunDirectory,
        transport: Transport,
        coordinator_key: Ed25519PrivateKey,
        site_keys: Mapping[str, Ed25519PublicKey],
        observer: Observer | None = None,
        *,
        settings: DriverSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        run_dir.require_plan(plan)
        missing = sorted(plan.weights.keys() - site_keys.keys())
        if missing:
            raise SmrfedError(
                "SMR-E502",
                "sites of the plan have no registered key",
                expected="one public key per site",
                found=f"none for {', '.join(missing)}",
                remedy="register the keys of these sites before starting the run",
            )
        self._plan = plan
        self._run_dir = run_dir
        self._transport = transport
        self._key = coordinator_key
        self._site_keys = site_keys
        self._receipts = ReceiptBook(run_dir.path)
        self._releases = ReleaseRounds(
            run_dir, self._look, lambda kind, number: self._notify("release_saved", number, kind)
        )
        self._observer = observer
        self._settings = settings or DriverSettings()
        self._clock = clock
        self._sleep = sleep

    def run(self) -> RunResult:
        """Run the rounds that are left, then tell all sites the final parameters.

        Every finished round is on disk before the next one starts: after a crash or an error, run
        again and the result has the same bits. What the plan releases beside updates is asked for
        in between (:mod:`server.rounds.releases`). Raises SMR-E520 when a round misses its quorum
        in all attempts, SMR-E521 when the new parameters are not finite, SMR-E532 when no
        checkpoint can be read, SMR-E533 when another process drives this directory, SMR-E534 when
        a checkpoint cannot be written, SMR-E570 (no biases for the decision rule) and SMR-E572 (a
        stored release is damaged).
        """
        with self._run_dir.lock():
            state = self._run_dir.latest()
            start = decode_arrays(state.body)
            shapes = {name: value.shape for name, value in start.items()}
            self._releases.require_usable(start)
            del start
            while not self._releases.over(state):
                record, updates = self._train_round(state, shapes)
                updated, memory = next_state(self._plan, state, updates)
                del updates
                history = (*state.history, record)
                state = RunState(record.round, encode_arrays(updated), history, memory)
                del updated
                self._run_dir.save(state)
                self._notify("round_saved", state.round, "train")
            body, asked = self._releases.close(state)
            finalised = self._finalise(body, asked)
            self._notify("run_finished", self._plan.training.rounds, "finalise")
            releases = self._releases.all()
            return RunResult(self._run_dir.run_id, body, state.history, finalised, releases)

    def _train_round(self, state: RunState, shapes: Shapes) -> tuple[RoundRecord, RoundUpdates]:
        number = state.round + 1
        updates = RoundUpdates(self._plan, shapes)
        bound = self._plan.aggregation.norm_bound

        def accept(header: RoundReply, body: bytes) -> dict[str, float]:
            metrics = check_metrics(header, self._plan.privacy.mode)
            updates.add(header.site, check_update(body, shapes, bound))
            return metrics

        absent = state.history[-1].absent if state.history else ()
        history = self._releases.history(state)
        sites = tuple(self._plan.weights)
        asked = self._questions("train", number, asked_body(state), sites, history)
        record = self._ask("train", number, asked, accept, absent)
        self._require_quorum(record)
        return record.model_copy(update={"weight": updates.weight}), updates

    def _look(
        self,
        kind: Statistics,
        number: int,
        body: bytes,
        accept: Accept,
        history: tuple[RoundRecord, ...],
    ) -> RoundRecord:
        """Ask for sums over patients; no quorum: who does not answer in time is missing."""
        asked = self._questions(kind, number, body, tuple(self._plan.weights), history)
        return self._ask(kind, number, asked, accept, history[-1].absent if history else ())

    def _finalise(self, body: bytes, history: tuple[RoundRecord, ...]) -> RoundRecord:
        """Tell the sites that do not know yet; those that cannot be reached do not fail the run.

        Whatever ended the rounds, this carries the number of the plan's last one.
        """
        before = self._run_dir.finalised()
        told = {} if before is None else {s: before.sites[s] for s in before.accepted}
        left = tuple(site for site in self._plan.weights if site not in told)
        if before is not None and not left:
            return before

        def accept(header: RoundReply, body: bytes) -> dict[str, float]:
            check_update(body, {}, None)
            return check_metrics(header, self._plan.privacy.mode)

        absent = before.absent if before else history[-1].absent
        number = self._plan.training.rounds
        asked = self._questions("finalise", number, body, left, history)
        record = self._ask("finalise", number, asked, accept, absent)
        record = record.model_copy(update={"sites": {**told, **record.sites}})
        self._run_dir.save_finalised(record)
        return record

    def _ask(
        self,
        kind: Kind,
        number: int,
        questions: Mapping[str, Question],
        accept: Accept,
        absent: tuple[str, ...],
    ) -> RoundRecord:
        """Ask all sites, and again the missing ones, up to the limit, while quorum is missed.

        An attempt does not count while sites that said "later" would make the quorum.
        """
        started_at, start = datetime.now(UTC), self._clock()
        quorum = self._plan.federation.min_sites if kind == "train" else 0
        limit = self._settings.round_attempts if kind == "train" else 1
        self._notify("round_started", number, kind)
        exchange = Exchange(
            self._transport,
            questions,
            accept,
            self._settings,
            note=self._note,
            absent_before=absent,
            notify=lambda event, site, reason: self._notify(event, number, kind, site, reason),
            clock=self._clock,
            sleep=self._sleep,
        )
        attempt = counted = 0
        while counted < limit:
            if attempt:
                self._sleep(self._settings.attempt_pause_s)
            attempt += 1
            if exchange.run(self._plan.federation.round_deadline_s, quorum):
                break
            patient = self._clock() - start < self._settings.later_patience_s
            later = patient and exchange.accepted + exchange.waiting_for >= quorum
            counted += not later
            reason = f"attempt {counted} of {limit}"
            reason = "sites answer later" if later else reason
            self._notify("quorum_missed", number, kind, reason=reason)
        return RoundRecord(
            round=number,
            kind=kind,
            sites=exchange.outcomes,
            attempts=attempt,
            weight=0,
            started_at=started_at.isoformat(timespec="seconds"),
            seconds=round(max(self._clock() - start, 0.0), 3),
        )

    def _note(self, received: Received, reply: Sealed, asked: Question, authentic: bool) -> None:
        size = len(reply.header) + len(reply.body)
        self._receipts.note(received, size, asked.sealed.digest.hex(), authentic=authentic)

    def _questions(
        self,
        kind: Kind,
        number: int,
        body: bytes,
        sites: tuple[str, ...],
        history: tuple[RoundRecord, ...],
    ) -> dict[str, Question]:
        """One signed instruction per site, which acknowledges the site's last reply in history.

        Beside the shared parameters it carries the newest released moments of all sites, if any.
        """
        carried = self._releases.carried(kind, number)
        if carried is not None:
            body = encode_arrays(with_moments(decode_arrays(body), carried))
        digest = body_digest(body)
        questions = {}
        for site in sites:
            received = last_received(history, self._run_dir.run_id, site)
            instruction = RoundInstruction(
                run_id=self._run_dir.run_id,
                round=number,
                kind=kind,
                site=site,
                plan_digest=self._plan.digest,
                body_sha256=digest,
                acknowledged=None if received is None else countersign(received, self._key),
            )
            # Ed25519 is deterministic: after a restart these are the same bytes again.
            sealed = seal(instruction.canonical_json, body, self._key)
            questions[site] = Question(instruction, sealed, self._site_keys[site])
        return questions

    def _require_quorum(self, record: RoundRecord) -> None:
        needed = self._plan.federation.min_sites
        if len(record.accepted) >= needed:
            return
        self._run_dir.save_stopped(record)
        raise SmrfedError(
            "SMR-E520",
            f"round {record.round} missed its quorum in {record.attempts} attempts",
            expected=f"{needed} accepted sites",
            found="; ".join(
                [f"{len(record.accepted)} accepted"]
                + [f"{site}: {why}" for site, why in record.set_aside.items()]
            ),
            remedy="settle the reasons with the sites, then resume: all earlier rounds are saved, "
            "and sites that answered this round will give the same answer again",
        )

    def _notify(
        self,
        kind: EventKind,
        number: int,
        phase: Kind,
        site: str | None = None,
        reason: str | None = None,
    ) -> None:
        if self._observer is not None:
            rounds = self._plan.training.rounds
            self._observer(Event(kind, number, rounds, phase, site, reason))
