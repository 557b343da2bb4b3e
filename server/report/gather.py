"""Everything that the coordinator knows of a run, as one record."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import groupby

from pydantic import BaseModel, ConfigDict, Field

from server.checkpoints.run_directory import RunDirectory
from server.enrolment.additions import current_plan
from server.evaluation.counts import NoisedCounts, pooled
from server.evaluation.early_stop import early_end
from server.evaluation.figures import Figures
from server.evaluation.intervals import Estimate as Noised
from server.evaluation.records import ReleaseRecord, ReleaseStore
from server.evaluation.summary import summarise
from server.plan_view import release_costs, worst_patient
from server.receipts.book import ReceiptBook
from server.rounds.participation import Participation, participation_of, share_in_words
from server.rounds.records import RoundRecord
from server.rounds.releases import released_body
from shared_model.errors import SmrfedError
from shared_model.evaluation.provenance import privacy_of
from shared_model.evaluation.results import Estimate, Privacy
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import body_digest, decode_arrays

#: The figures of a release, in the order of tables.
FIGURES = ("patients", "balanced_accuracy", "macro_auc", "calibration_error")
CLASS_FIGURES = ("sensitivity", "auc", "calibration_gap")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SiteRounds(_Record):
    """How one hospital took part: rounds that counted, and why others did not."""

    site: str
    accepted: int
    missed: tuple[str, ...] = Field(description="rounds in ranges with their reason")


class NoisedFigures(_Record):
    """Figures of one hospital, or of all together; intervals hold patients and noise."""

    figures: dict[str, Estimate]
    per_class: dict[str, tuple[Estimate, ...]]
    confusion: tuple[tuple[float, ...], ...] = Field(description="noised patients, as released")
    confusion_sd: float = Field(description="standard deviation of the noise on every number")


class Evaluation(_Record):
    """One release of all hospitals about their test patients."""

    after_round: int
    calibrated: bool
    sites: dict[str, NoisedFigures]
    together: NoisedFigures | None
    worst_balanced_accuracy: Estimate | None
    worst_macro_auc: Estimate | None
    missing: dict[str, str]
    answered: str = Field(description="how many hospitals, with which share of the patients")


class ReleaseCost(_Record):
    """What one kind of release costs a patient, alone."""

    purpose: str
    what: str
    patients: str
    count: int
    steps: int
    noise_multiplier: float
    epsilon: float | None


class Receipts(_Record):
    """The coordinator's own receipts of every reply."""

    lines: int
    authentic: int
    bytes: int
    verified: bool = Field(description="whether the hash chain is unbroken")
    problem: str | None = None


class RunReport(_Record):
    """A finished or running run; ``unknown`` says what nobody here can tell."""

    created: str
    smrfed: str
    run_id: str
    plan_name: str
    plan_digest: str
    plan_text: str = Field(description="canonical JSON")
    model: str
    labels: tuple[str, ...]
    rounds_completed: int
    rounds: int
    state: str
    shared_parameters: int
    model_sha256: str
    minutes: float = Field(description="of all completed rounds")
    participation: tuple[SiteRounds, ...]
    shares: Participation = Field(description="whose patients are in the model, and who fell out")
    privacy: Privacy
    epsilon_budget: float | None
    releases: tuple[ReleaseCost, ...]
    evaluations: tuple[Evaluation, ...]
    offsets: dict[str, float] | None = Field(description="what calibration added to the biases")
    receipts: Receipts
    unknown: tuple[str, ...]

    @property
    def last(self) -> Evaluation | None:
        """The newest evaluation."""
        return self.evaluations[-1] if self.evaluations else None


def gather(run: RunDirectory) -> RunReport:
    """Read a run directory; nothing is asked of a hospital, and nothing is changed.

    Raises SMR-E532 and E572 for files that are damaged.
    """
    plan, members, state = run.plan, current_plan(run), run.latest()
    history = tuple(state.history)
    records = ReleaseStore(run.path).all()
    body = released_body(run) if state.round else state.body
    shared = decode_arrays(body)
    evaluations = tuple(_evaluation(r, members) for r in records if r.asked.kind == "evaluate")
    calibrations = [r for r in records if r.asked.kind == "calibrate" and r.offsets is not None]
    offsets = None
    if calibrations:
        offsets = dict(zip(plan.task.labels, calibrations[-1].offsets or (), strict=False))
    private = plan.privacy.mode != "none"
    return RunReport(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        smrfed=version("smrfed"),
        run_id=run.run_id,
        plan_name=plan.name,
        plan_digest=plan.digest,
        plan_text=plan.canonical_json.decode(),
        model=plan.model.name,
        labels=plan.task.labels,
        rounds_completed=state.round,
        rounds=plan.training.rounds,
        state=_state(run, state.round),
        shared_parameters=sum(value.size for value in shared.values()),
        model_sha256=body_digest(body),
        minutes=sum(record.seconds for record in history) / 60,
        participation=tuple(_site(name, history) for name in members.weights),
        shares=participation_of(members, history),
        privacy=privacy_of(
            plan,
            worst_patient(plan),
            "the plan's accounting for its worst patient; what was spent stands in the hospitals' "
            "ledgers",
        ),
        epsilon_budget=plan.privacy.epsilon if private else None,
        releases=tuple(
            ReleaseCost(**{name: cost[name] for name in ReleaseCost.model_fields})
            for cost in release_costs(plan)
        ),
        evaluations=evaluations,
        offsets=offsets,
        receipts=_receipts(run),
        unknown=tuple(_unknown(plan, evaluations)),
    )


def _state(run: RunDirectory, completed: int) -> str:
    finalised, stopped = run.finalised(), run.stopped()
    if finalised is not None:
        early = early_end(run.plan, completed)
        told = f"finished; {len(finalised.accepted)} of {len(finalised.sites)} hospitals have the "
        told += "final model"
        return told + (f", {early}" if early else "")
    if stopped is not None:
        return f"stopped in round {stopped.round}: the quorum was missed"
    return "running" if completed else "no round completed yet"


def _site(name: str, history: tuple[RoundRecord, ...]) -> SiteRounds:
    missed = [
        (record.round, record.set_aside[name]) for record in history if name in record.set_aside
    ]
    lines = []
    runs = groupby(enumerate(missed), key=lambda pair: (pair[1][0] - pair[0], pair[1][1]))
    for (_, reason), members in runs:
        rounds = [number for _, (number, _) in members]
        span = f"round {rounds[0]}" if len(rounds) == 1 else f"rounds {rounds[0]} to {rounds[-1]}"
        lines.append(f"{span}: {reason}")
    accepted = sum(name in record.accepted for record in history)
    return SiteRounds(site=name, accepted=accepted, missed=tuple(lines))


def _evaluation(record: ReleaseRecord, plan: FederationPlan) -> Evaluation:
    summary = summarise(record, plan)
    counts = {site: NoisedCounts.of(a, plan) for site, a in sorted(record.arrays.items())}
    together = None
    if summary.together is not None:
        together = _figures(summary.together, pooled(list(counts.values())))
    at_the_end = record.asked.round == plan.training.rounds
    return Evaluation(
        after_round=record.after_round,
        calibrated=at_the_end and plan.calibration.rule == "prior_free",
        sites={site: _figures(found, counts[site]) for site, found in summary.sites.items()},
        together=together,
        worst_balanced_accuracy=_estimate(summary.worst_balanced_accuracy),
        worst_macro_auc=_estimate(summary.worst_macro_auc),
        missing=record.asked.set_aside,
        answered=share_in_words(record.asked.accepted, plan),
    )


def _figures(found: Figures, counts: NoisedCounts) -> NoisedFigures:
    return NoisedFigures(
        figures={name: _known(getattr(found, name)) for name in FIGURES},
        per_class={
            name: tuple(_known(one) for one in getattr(found, name)) for name in CLASS_FIGURES
        },
        confusion=tuple(tuple(float(x) for x in row) for row in counts.confusion),
        confusion_sd=float(counts.confusion_sd),
    )


def _known(found: Noised) -> Estimate:
    return Estimate(value=found.value, low=found.low, high=found.high)


def _estimate(found: Noised | None) -> Estimate | None:
    return None if found is None else _known(found)


def _receipts(run: RunDirectory) -> Receipts:
    try:
        lines = ReceiptBook(run.path).read()
    except SmrfedError as error:
        problem = f"{error.code} {error.what}"
        return Receipts(lines=0, authentic=0, bytes=0, verified=False, problem=problem)
    return Receipts(
        lines=len(lines),
        authentic=sum(line.authentic for line in lines),
        bytes=sum(line.bytes for line in lines),
        verified=True,
    )


def _unknown(plan: FederationPlan, evaluations: tuple[Evaluation, ...]) -> Iterator[str]:
    if not evaluations:
        yield (
            "How well the model does: this plan releases nothing about test patients, or nothing "
            "yet (evaluation.release_every)."
            if plan.evaluation.release_every
            else "How well the model does: this plan releases nothing about test patients."
        )
    else:
        yield (
            "Exact figures. What was released is a confusion matrix and coarse score histograms "
            "with noise; every interval holds sampling and noise. The AUC is from scores shared "
            "between a few nodes, slightly nearer to 0.5 than that of exact scores."
        )
    yield (
        "Reliability diagrams, ECE, calibration slope, Brier score, log-likelihood, AUPRC, ROC and "
        "coverage-risk curves: exact scores are not released."
    )
    yield "Subgroups by sex, age or scanner, ages and sexes of patients, and the course of MCI."
    yield (
        "How the hospitals' personal models do, and what each would reach alone: neither leaves; "
        "smrfed-site evaluate tells each hospital."
    )
    yield "Paired comparisons and their p values: they need predictions per patient."
    yield "How the model does at a hospital that took no part."
    yield (
        "Whether a patient was trained on at one hospital and tested at another: each hospital "
        "checks its own patients only."
    )
    if plan.privacy.mode != "none":
        yield "What each hospital's ledger says over all plans: smrfed-site ledger tells there."
