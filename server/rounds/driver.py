"""The round driver: asks sites, adds their replies exactly, checkpoints, and never loses a run.

The same driver serves simulations and Flower deployments; only the :class:`Transport` differs.
Weights are the plan's public integers and participation is public, so nothing that the driver
decides depends on patients other than through the updates themselves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from server.aggregation.fixed_point import Shapes
from server.aggregation.next_state import RoundUpdates, asked_body, next_state
from server.aggregation.summed import SummedUpdate
from server.checkpoints.run_directory import RunDirectory
from server.checkpoints.state import RunState
from server.enrolment.members import Members
from server.evaluation.records import ReleaseRecord
from server.rounds.asking import Asking
from server.rounds.checks import LongestUpdate, check_metrics, check_update
from server.rounds.events import Observer
from server.rounds.exchange import Accept
from server.rounds.history import Exchanges, History, Later
from server.rounds.host import RoundHost, breathing
from server.rounds.masked import MaskedRounds, require_plan_keys
from server.rounds.quorum import Quorum
from server.rounds.records import RoundRecord
from server.rounds.releases import ReleaseRounds
from server.rounds.settings import DriverSettings
from server.rounds.transport import Transport
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.privacy.secure_random import WordStream
from shared_model.protocol.arrays import body_digest, decode_arrays, encode_arrays
from shared_model.protocol.messages import RoundReply
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
        coordinator_key: signs the questions; a function is called before each of them.
        site_keys: the registered public key of every site of the plan (SMR-E502 otherwise).
        observer: called with each :class:`Event`; what it raises ends the run.
        members: who takes part, where that may change while the run runs.
        settings: the coordinator's patience; see :class:`DriverSettings`. SMR-E525 when they name
            a site that the plan does not.
        clock, sleep: seconds, monotonic; tests replace them.
        wall_clock: seconds since 1970, only to notice that it was set.
        random: of the coordinator's noise in mode ``central``; none: the operating system's. Tests.

    In modes ``distributed`` and ``central`` a round is one secure sum
    (:mod:`server.rounds.masked`); raises SMR-E563 when a registered key is not the plan's.
    """

    def __init__(
        self,
        plan: FederationPlan,
        run_dir: RunDirectory,
        transport: Transport,
        coordinator_key: Ed25519PrivateKey | Callable[[], Ed25519PrivateKey],
        site_keys: Mapping[str, Ed25519PublicKey],
        observer: Observer | None = None,
        *,
        members: Members | None = None,
        settings: DriverSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        wall_clock: Callable[[], float] = time.time,
        random: WordStream | None = None,
    ) -> None:
        run_dir.require_plan(plan)
        self._members = members or Members(run_dir, site_keys)
        missing = sorted(set(self._members.sites) - site_keys.keys())
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
        self._settings = settings or DriverSettings()
        self._asking = Asking(
            run_dir,
            transport,
            coordinator_key if callable(coordinator_key) else lambda: coordinator_key,
            self._members,
            observer,
            self._settings,
            clock,
            breathing(run_dir, sleep),
        )
        self._sleep = breathing(run_dir, sleep)
        self._masked = None
        if plan.privacy.summed:
            require_plan_keys(plan, {name: site_keys[name] for name in self._members.sites})
            self._masked = MaskedRounds(
                run_dir, self._asking, self._members, self._settings, random
            )
        self._host = RoundHost(run_dir.path, clock, wall_clock)
        self._releases = ReleaseRounds(
            run_dir,
            self._look,
            lambda kind, number: self._asking.notify("release_saved", number, kind),
        )

    def run(self) -> RunResult:
        """Run the rounds that are left, then tell all sites the final parameters.

        Every finished round is on disk before the next one starts: after a crash or an error, run
        again and the result has the same bits. What the plan releases beside updates is asked for
        in between (:mod:`server.rounds.releases`). Raises SMR-E520 when a round misses its quorum
        in all attempts, SMR-E562 when too many rounds were
        void, SMR-E521 when the new parameters are not finite, SMR-E523 when the disk
        cannot take another round, SMR-E532 when no checkpoint can be read, SMR-E533 when another
        process drives this directory, SMR-E534 when a checkpoint cannot be written, SMR-E570 (no
        biases for the decision rule) and SMR-E572 (a stored release is damaged).
        """
        with self._run_dir.lock():
            state = self._run_dir.latest()
            self._refresh(state.round)
            self._settings.require_sites(self._members.plan.weights.keys())
            start = decode_arrays(state.body)
            shapes = {name: value.shape for name, value in start.items()}
            self._releases.require_usable(start)
            del start
            while not self._releases.over(state):
                record, updates = self._round(state, shapes)
                body, memory = state.body, state.optimiser
                if updates is not None:
                    updated, memory = next_state(self._plan, state, updates)
                    del updates
                    body = encode_arrays(updated)
                    del updated
                history = History.of(state.history).plus(record)
                state = RunState(record.round, body, history, memory)
                self._run_dir.save(state)
                self._asking.notify("round_saved", state.round, "train")
                if self._masked is not None:
                    self._masked.saved(state.round)
                    self._masked.after(record, self._sleep)
            body, asked = self._releases.close(state)
            finalised = self._finalise(body, asked)
            self._asking.notify("run_finished", self._plan.training.rounds, "finalise")
            releases = self._releases.all()
            made = tuple(state.history)
            return RunResult(self._run_dir.run_id, body, made, finalised, releases)

    def _round(
        self, state: RunState, shapes: Shapes
    ) -> tuple[RoundRecord, RoundUpdates | SummedUpdate | None]:
        number = state.round + 1
        self._host.require_space(state, secure=self._masked is not None)
        jump = self._host.clock_jump()
        if jump is not None:
            self._asking.notify("clock_jumped", number, "train", reason=jump)
        self._refresh(number)
        if self._masked is not None:
            carried = self._releases.carried("train", number)
            return self._masked.round(state, self._releases.history(state), carried)
        return self._train_round(state, shapes)

    def _train_round(self, state: RunState, shapes: Shapes) -> tuple[RoundRecord, RoundUpdates]:
        number, plan = state.round + 1, self._members.plan
        updates = RoundUpdates(plan, shapes)
        longest = LongestUpdate(plan, shapes, number)

        def accept(header: RoundReply, body: bytes) -> dict[str, float]:
            self._members.require(header.site)
            metrics = check_metrics(header, plan.privacy.mode)
            update = check_update(body, shapes, plan.aggregation.norm_bound)
            longest.require(header.site, update)
            updates.add(header.site, update)
            return metrics

        history = self._releases.history(state)
        body, carried = asked_body(state), self._releases.carried("train", number)
        sites = self._members.sites
        record = self._asking.ask("train", number, body, sites, history, accept, carried)
        self._require_quorum(record)
        return record.model_copy(update={"weight": updates.weight}), updates

    def _look(
        self,
        kind: Statistics,
        number: int,
        body: bytes,
        accept: Accept,
        history: Exchanges,
    ) -> RoundRecord:
        """Ask for sums over patients; no quorum: who does not answer in time is missing."""

        def unless_revoked(header: RoundReply, content: bytes) -> dict[str, float]:
            self._members.require(header.site)
            return accept(header, content)

        sites, carried = self._members.sites, self._releases.carried(kind, number)
        return self._asking.ask(kind, number, body, sites, history, unless_revoked, carried)

    def _refresh(self, number: int) -> None:
        """Take in hospitals that were added or revoked, from here on."""
        for site in self._members.refresh():
            self._releases.take_plan(self._members.plan)
            self._asking.notify("site_added", number, "train", site)

    def _finalise(self, body: bytes, history: Exchanges) -> RoundRecord:
        """Tell the sites that do not know yet; those that cannot be reached do not fail the run.

        Whatever ended the rounds, this carries the number of the plan's last one.
        """
        before = self._run_dir.finalised()
        told = {} if before is None else {s: before.sites[s] for s in before.accepted}
        left = tuple(site for site in self._members.sites if site not in told)
        if before is not None and not left:
            return before

        def accept(header: RoundReply, body: bytes) -> dict[str, float]:
            check_update(body, {}, None)
            return check_metrics(header, self._plan.privacy.mode)

        number = self._plan.training.rounds
        carried = self._releases.carried("finalise", number)
        known = history if before is None else Later(history, (before,))
        record = self._asking.ask("finalise", number, body, left, known, accept, carried)
        record = record.model_copy(update={"sites": {**told, **record.sites}})
        self._run_dir.save_finalised(record)
        return record

    def _require_quorum(self, record: RoundRecord) -> None:
        quorum, accepted = Quorum.of(self._members.plan), record.accepted
        if quorum.met(accepted):
            return
        self._run_dir.save_stopped(record)
        patients = f" with {quorum.patients_of(accepted)} patients" if quorum.patients else ""
        raise SmrfedError(
            "SMR-E520",
            f"round {record.round} missed its quorum in {record.attempts} attempts",
            expected=quorum,
            found="; ".join(
                [f"{len(accepted)} accepted{patients}"]
                + [f"{site}: {why}" for site, why in record.set_aside.items()]
            ),
            remedy="settle the reasons with the sites, then resume: all earlier rounds are saved, "
            "and sites that answered this round will give the same answer again",
        )
