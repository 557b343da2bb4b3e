"""What a run may tell an experiment tracker: rounds, participation, released figures, the plan.

Nothing is asked of a hospital. Figures about patients are those that the plan releases, with noise
and interval, and what mode ``none`` lets out; whoever can read the tracker reads no more than
``smrfed-coordinator report`` shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version

from server.checkpoints.run_directory import RunDirectory
from server.evaluation.intervals import Estimate
from server.evaluation.records import ReleaseRecord, ReleaseStore
from server.evaluation.summary import summarise
from server.plan_view import worst_patient
from server.rounds.records import RoundRecord
from shared_model.plan import FederationPlan

_FIGURES = ("balanced_accuracy", "macro_auc", "calibration_error", "patients")
_CLASS_FIGURES = ("sensitivity", "auc", "calibration_gap")


@dataclass(frozen=True)
class Point:
    """One figure at one step; ``time_s`` in seconds since 1970."""

    name: str
    step: int
    value: float
    time_s: float


@dataclass(frozen=True)
class Story:
    """Everything that a tracker shows of one run.

    ``points`` are in the order of the run: those of a longer story begin with those of a shorter.
    """

    experiment: str
    run: str
    facts: Mapping[str, str]
    texts: Mapping[str, str] = field(default_factory=dict)
    points: tuple[Point, ...] = ()
    finished: bool = False


def story_of(run: RunDirectory) -> Story:
    """Read a run directory, finished or not; raises SMR-E532 and SMR-E572 for damaged files."""
    plan, state = run.plan, run.latest()
    records = [r for r in ReleaseStore(run.path).all() if r.after_round <= state.round]
    told: list[tuple[int, int, Iterable[Point]]] = [
        (record.round, 0, _round(record)) for record in state.history
    ]
    told += [
        # The last one may be of an earlier round's model, and still comes last.
        (min(record.asked.round, state.round), 1 + place, _evaluation(record, plan))
        for place, record in enumerate(records)
        if record.asked.kind == "evaluate"
    ]
    ordered = sorted(told, key=lambda entry: entry[:2])
    spent = worst_patient(plan)
    facts = {
        "run_id": run.run_id,
        "plan": plan.name,
        "plan_digest": plan.digest,
        "model": plan.model.name,
        "sites": ", ".join(plan.weights),
        "min_sites": str(plan.federation.min_sites),
        "rounds": str(plan.training.rounds),
        "local_steps": str(plan.training.local_steps),
        "learning_rate": f"{plan.training.learning_rate:g}",
        "privacy_mode": plan.privacy.mode,
        "smrfed": version("smrfed"),
    }
    if spent is not None:
        facts |= {"epsilon": f"{spent:.6g}", "delta": f"{plan.privacy.delta:g}"}
    finalised = run.finalised()
    return Story(
        experiment=plan.name,
        run=run.run_id,
        facts=facts,
        texts={"plan.json": plan.canonical_json.decode()},
        points=tuple(point for _, _, points in ordered for point in points),
        finished=finalised is not None,
    )


def _round(record: RoundRecord) -> Iterator[Point]:
    step, at = record.round, _seconds(record) + record.seconds
    figures = {
        "round/seconds": record.seconds,
        "round/attempts": float(record.attempts),
        "round/weight": float(record.weight),
        "participation/accepted": float(len(record.accepted)),
        "participation/share": len(record.accepted) / max(len(record.sites), 1),
    }
    for name, site in sorted(record.sites.items()):
        figures[f"participation/site/{name}"] = float(site.accepted)
        # Filled in mode none only: for public and synthetic data.
        figures |= {f"train/{name}/{metric}": v for metric, v in sorted(site.metrics.items())}
    for name, value in figures.items():
        yield Point(name, step, value, at)


def _evaluation(record: ReleaseRecord, plan: FederationPlan) -> Iterator[Point]:
    step, at = record.after_round, _seconds(record.asked)
    # The released model is looked at last: another decision rule, or an earlier round's model.
    chosen = plan.calibration.rule == "prior_free" or plan.evaluation.early_stop_release == "best"
    final = record.asked.round == plan.training.rounds and chosen
    kind = "released" if final else "evaluation"
    summary = summarise(record, plan)
    parts = dict(summary.sites) | ({"together": summary.together} if summary.together else {})
    for part, found in parts.items():
        where = f"{kind}/{part}" if part == "together" else f"{kind}/site/{part}"
        for figure in _FIGURES:
            yield from _estimate(f"{where}/{figure}", getattr(found, figure), step, at)
        for figure in _CLASS_FIGURES:
            for label, value in zip(plan.task.labels, getattr(found, figure), strict=True):
                yield from _estimate(f"{where}/{figure}/{label}", value, step, at)
    for figure, worst in (
        ("balanced_accuracy", summary.worst_balanced_accuracy),
        ("macro_auc", summary.worst_macro_auc),
    ):
        if worst is not None:
            yield from _estimate(f"{kind}/worst_site/{figure}", worst, step, at)


def _estimate(name: str, found: Estimate, step: int, at: float) -> Iterator[Point]:
    """The interval always; the value where the noise leaves one."""
    if found.value is not None:
        yield Point(name, step, found.value, at)
    yield Point(f"{name}/low", step, found.low, at)
    yield Point(f"{name}/high", step, found.high, at)


def _seconds(record: RoundRecord) -> float:
    return datetime.fromisoformat(record.started_at).timestamp()
