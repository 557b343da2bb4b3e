"""What a run asks beside training: asked once, kept on disk before anything follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from server.checkpoints.run_directory import RunDirectory
from server.checkpoints.state import RunState
from server.evaluation.counts import check_statistics
from server.evaluation.decision_rule import aggregated_offsets, require_head, with_offsets
from server.evaluation.early_stop import best_evaluation, ends_early
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


@dataclass(frozen=True)
class Model:
    """Shared parameters, and how many rounds of training are behind them."""

    body: bytes
    after_round: int


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
            looked_at = Model(state.body, state.round)
            self._release("moments", state.round, looked_at, self.history(state))
        if evaluation_due(self._plan, state.round):
            looked_at = Model(state.release_body, state.round)
            record = self._release("evaluate", state.round, looked_at, self.history(state))
            if self._plan.evaluation.early_stop_release == "best":
                self._keep_if_best(record, looked_at, state)
        return ends_early(self._made("evaluate", state), self._plan)

    def close(self, state: RunState) -> tuple[bytes, Exchanges]:
        """Moments of the result, calibration, a last look: the released model, all exchanges."""
        model = result_of(state, self._plan, self._store)
        history: Exchanges = self.history(state)
        last = self._plan.training.rounds
        if moments_due(self._plan, last):
            record = self._release("moments", last, model, history)
            history = Later(history, (record.asked,))
        if self._plan.calibration.releases:
            record = self._release("calibrate", last, model, history)
            model = replace(model, body=_calibrated(record, model.body, self._plan))
            history = Later(history, (record.asked,))
        newest = [record.body_sha256 for record in self._made("evaluate", state)][-1:]
        if self._plan.adaptation.moments_set_the_residual:
            newest = []  # the last moments have moved the sites' residuals since
        if evaluation_due(self._plan, last) and body_digest(model.body) not in newest:
            record = self._release("evaluate", last, model, history)
            history = Later(history, (record.asked,))
        return model.body, history

    def all(self) -> tuple[ReleaseRecord, ...]:
        """Every release of the run so far."""
        return self._store.all()

    def _made(self, kind: Statistics, state: RunState) -> list[ReleaseRecord]:
        return _between(kind, state, self._plan, self._store)

    def _keep_if_best(self, record: ReleaseRecord, model: Model, state: RunState) -> None:
        # After a restart the newest record may be there and its parameters not yet: keep them now.
        if best_evaluation(self._made("evaluate", state), self._plan) == record:
            self._store.keep_best(model.body)

    def _release(
        self, kind: Statistics, number: int, model: Model, history: Exchanges
    ) -> ReleaseRecord:
        known = self._store.find(kind, number)
        if known is not None:
            return known
        arrays: dict[str, Arrays] = {}

        def accept(header: RoundReply, content: bytes) -> dict[str, float]:
            check_metrics(header, "local")  # figures are computed here, never taken over
            arrays[header.site] = check_statistics(content, kind, header.site, self._plan)
            return {}

        asked = self._ask(kind, number, model.body, accept, history)
        record = ReleaseRecord(
            asked=asked,
            after_round=model.after_round,
            body_sha256=body_digest(model.body),
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


def result_of(state: RunState, plan: FederationPlan, store: ReleaseStore) -> Model:
    """What a run releases if it ends here: the newest parameters, or the best that were evaluated.

    The best where the rounds ended early and ``evaluation.early_stop_release`` says so. Raises
    SMR-E572 when they are damaged.
    """
    if plan.evaluation.early_stop_release == "best" and state.round < plan.training.rounds:
        evaluations = _between("evaluate", state, plan, store)
        best = best_evaluation(evaluations, plan)
        if best is not None and ends_early(evaluations, plan):
            return Model(store.best(best.body_sha256), best.after_round)
    return Model(state.release_body, state.round)


def _between(
    kind: Statistics, state: RunState, plan: FederationPlan, store: ReleaseStore
) -> list[ReleaseRecord]:
    """Releases of a kind between the rounds, up to a state; the last one belongs to the end."""
    due = _DUE[kind]
    numbers = [n for n in range(1, min(state.round + 1, plan.training.rounds)) if due(plan, n)]
    found = [store.find(kind, number) for number in numbers]
    return [record for record in found if record is not None]


def released(run_dir: RunDirectory) -> tuple[Model, ReleaseRecord | None]:
    """The model of a run as it is released, and its calibration once that is known.

    With the decision rule: it may move the class biases. Raises SMR-E572.
    """
    store = ReleaseStore(run_dir.path)
    model = result_of(run_dir.latest(), run_dir.plan, store)
    record = store.find("calibrate", run_dir.plan.training.rounds)
    if record is None or record.body_sha256 != body_digest(model.body):
        return model, None
    return replace(model, body=_calibrated(record, model.body, run_dir.plan)), record


def released_body(run_dir: RunDirectory) -> bytes:
    """The parameters of :func:`released`."""
    return released(run_dir)[0].body


def _calibrated(record: ReleaseRecord, body: bytes, plan: FederationPlan) -> bytes:
    offsets = record.offsets or ()
    return with_offsets(body, offsets, plan) if any(offsets) else body
