"""What a run asks beside training: asked once, kept on disk before anything follows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from server.checkpoints.run_directory import RunDirectory
from server.checkpoints.state import RunState
from server.evaluation.counts import check_statistics
from server.evaluation.decision_rule import aggregated_offsets, require_head, with_offsets
from server.evaluation.early_stop import ends_early
from server.evaluation.records import ReleaseRecord, ReleaseStore
from server.rounds.checks import check_metrics
from server.rounds.exchange import Accept
from server.rounds.history import Exchanges, Later, Merged
from server.rounds.records import RoundRecord
from shared_model.adaptation.wire import Carried
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import Arrays, body_digest
from shared_model.protocol.messages import Kind, RoundReply
from shared_model.releases.schedule import evaluation_due, moments_due
from shared_model.releases.statistics import Statistics, shapes

#: Asks all sites: kind, number, body, what takes a reply, and the history behind the question.
Ask = Callable[[Statistics, int, bytes, Accept, Exchanges], RoundRecord]

#: Kinds of release that follow a round, in the order in which they are asked.
_BETWEEN: tuple[Statistics, ...] = ("moments", "evaluate")

#: Told that a release is on disk: kind and number.
Saved = Callable[[Statistics, int], None]


_DUE = {"moments": moments_due, "evaluate": evaluation_due}


class ReleaseRounds:
    """What a run asks beside training; a site that does not answer is missing, nothing more.

    A release is a file of the run directory. What follows from it (the end of the rounds, the
    decision rule) follows from the file, so that a run that is killed anywhere goes on to the same
    bits.
    """

    def __init__(self, run_dir: RunDirectory, ask: Ask, saved: Saved = lambda *_: None) -> None:
        self._plan = run_dir.plan
        self._store = ReleaseStore(run_dir.path)
        self._ask = ask
        self._saved = saved

    def take_plan(self, plan: FederationPlan) -> None:
        """Go on with a plan to which hospitals were added; what is released stays the same."""
        self._plan = plan

    def require_usable(self, shared: Arrays) -> None:
        """Raise SMR-E570, before the first round, when the decision rule could not be applied."""
        if self._plan.calibration.rule == "prior_free":
            require_head(self._plan, shared)

    def history(self, state: RunState) -> Exchanges:
        """All exchanges up to a state of the rounds, from the newest back."""
        between = [record.asked for kind in _BETWEEN for record in self._made(kind, state)]
        between.sort(key=lambda record: (record.round, _BETWEEN.index(record.kind)))
        return Merged(state.history, between, ("train", *_BETWEEN))

    def carried(self, kind: Kind, number: int) -> Carried | None:
        """The newest moments when a question is asked: they travel with the shared parameters."""
        last = number - 1 if kind in ("train", "moments") else number
        made = [r for r in self._store.all() if r.asked.kind == "moments" and r.asked.round <= last]
        if not made:
            return None
        return Carried(made[-1].asked.round, _arrays(made[-1], self._plan))

    def over(self, state: RunState) -> bool:
        """Whether the rounds end here; asks for what is due after this round."""
        if state.round >= self._plan.training.rounds:
            return True
        if moments_due(self._plan, state.round):
            # Those of the parameters that the next round starts from.
            self._release("moments", state.round, state, state.body, self.history(state))
        if evaluation_due(self._plan, state.round):
            self._release("evaluate", state.round, state, state.release_body, self.history(state))
        return ends_early(self._made("evaluate", state), self._plan)

    def close(self, state: RunState) -> tuple[bytes, Exchanges]:
        """Moments of the result, calibration, a last look: the released model, all exchanges."""
        body: bytes = state.release_body
        history: Exchanges = self.history(state)
        last = self._plan.training.rounds
        if moments_due(self._plan, last):
            record = self._release("moments", last, state, body, history)
            history = Later(history, (record.asked,))
        if self._plan.calibration.releases:
            record = self._release("calibrate", last, state, body, history)
            body, history = _calibrated(record, body, self._plan), Later(history, (record.asked,))
        known = {record.body_sha256 for record in self._made("evaluate", state)}
        if self._plan.adaptation.moments_set_the_residual:
            known = set()  # the last moments have moved the sites' residuals since
        if evaluation_due(self._plan, last) and body_digest(body) not in known:
            record = self._release("evaluate", last, state, body, history)
            history = Later(history, (record.asked,))
        return body, history

    def all(self) -> tuple[ReleaseRecord, ...]:
        """Every release of the run so far."""
        return self._store.all()

    def _made(self, kind: Statistics, state: RunState) -> list[ReleaseRecord]:
        """Releases of a kind between the rounds, up to a state; the last one belongs to the end."""
        last, due = self._plan.training.rounds, _DUE[kind]
        numbers = [n for n in range(1, min(state.round + 1, last)) if due(self._plan, n)]
        found = [self._store.find(kind, number) for number in numbers]
        return [record for record in found if record is not None]

    def _release(
        self,
        kind: Statistics,
        number: int,
        state: RunState,
        body: bytes,
        history: Exchanges,
    ) -> ReleaseRecord:
        known = self._store.find(kind, number)
        if known is not None:
            return known
        arrays: dict[str, Arrays] = {}

        def accept(header: RoundReply, content: bytes) -> dict[str, float]:
            check_metrics(header, "local")  # figures are computed here, never taken over
            arrays[header.site] = check_statistics(content, kind, header.site, self._plan)
            return {}

        asked = self._ask(kind, number, body, accept, history)
        record = ReleaseRecord(
            asked=asked,
            after_round=state.round,
            body_sha256=body_digest(body),
            arrays={
                site: {name: tuple(value.reshape(-1).tolist()) for name, value in named.items()}
                for site, named in sorted(arrays.items())
            },
            offsets=self._offsets(arrays) if kind == "calibrate" else None,
        )
        self._store.save(record)
        self._saved(kind, number)
        return record

    def _offsets(self, arrays: dict[str, Arrays]) -> tuple[float, ...] | None:
        if self._plan.calibration.rule != "prior_free":
            return None
        return aggregated_offsets(arrays, self._plan).values


def _arrays(record: ReleaseRecord, plan: FederationPlan) -> dict[str, Arrays]:
    """A release as the sites gave it: site -> arrays in their shapes."""
    expected = shapes(plan, "moments")
    return {
        site: {n: np.asarray(v, np.float32).reshape(expected[n]) for n, v in named.items()}
        for site, named in record.arrays.items()
    }


def released_body(run_dir: RunDirectory) -> bytes:
    """The newest model of a run as it is released: with the decision rule once that is known."""
    state = run_dir.latest()
    body = state.release_body
    if run_dir.plan.calibration.rule == "prior_free":
        record = ReleaseStore(run_dir.path).find("calibrate", run_dir.plan.training.rounds)
        if record is not None and record.body_sha256 == body_digest(body):
            return _calibrated(record, body, run_dir.plan)
    return body


def _calibrated(record: ReleaseRecord, body: bytes, plan: FederationPlan) -> bytes:
    offsets = record.offsets or ()
    return with_offsets(body, offsets, plan) if any(offsets) else body
