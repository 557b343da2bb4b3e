"""The run that the cohort's defaults were frozen after: three seeds, over 400 subjects each.

``smrfed-sim recorded-run`` makes ``docs/recorded_run.json``; every figure of docs/recorded_run.md
is in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression

from shared_model.atlas.cache import write_atomically
from shared_model.metrics import balanced_accuracy, macro_auc
from simulations.arms.arm import ArmResult
from simulations.arms.baseline_arms import baseline_arms
from simulations.arms.hospital import Hospital
from simulations.arms.neural_arms import alone_arm, pooled_arm, shuffled_arm
from simulations.cohort.design import UNSEEN_SITE
from simulations.cohort.truth import TruthTable
from simulations.demo.settings import DemoSettings
from simulations.evaluation.explanations import explain, strongly_affected
from simulations.evaluation.predictions import Predictions
from simulations.experiments.seed_cohort import load_seed_cohort
from simulations.report.results import Ratio
from simulations.smrnet_access import first_scan, smrnet_of

PATIENTS, UNSEEN = 96, 64
SEEDS = (1, 2, 3)


class Figure(BaseModel):
    """One arm in one seed: balanced accuracy and macro AUC, at seen sites and at the unseen one."""

    model_config = ConfigDict(frozen=True)

    seen: float
    seen_auc: float
    unseen: float
    unseen_auc: float


class SeedResult(BaseModel):
    """One cohort: its arms, and what share of attention lay on strongly affected regions."""

    model_config = ConfigDict(frozen=True)

    seed: int
    subjects: int
    scans: int
    arms: dict[str, Figure]
    slice_mass_over_chance: float
    slice_mass_over_chance_untrained: float
    region_mass_over_chance: float


def record_seed(
    seed: int, folder: Path, workers: int, progress: Callable[[str], None]
) -> SeedResult:
    """All arms on the cohort of one seed, trained as in the demonstration."""
    settings = DemoSettings(
        patients_per_site=PATIENTS, unseen_patients=UNSEEN, seed=seed, workers=workers
    )
    cohort = load_seed_cohort(settings, folder, progress)
    model, initial, hospitals = cohort.model, cohort.initial, cohort.hospitals
    plan, atlas, truth = cohort.plan, cohort.atlas, cohort.truth
    progress(f"seed {seed}: arms")
    arms = baseline_arms(hospitals, truth, plan.task.labels)
    arms.append(_oracle(hospitals, truth, plan.task.labels))
    arms.append(alone_arm(model, initial, hospitals, plan))
    arms.append(shuffled_arm(model, initial, hospitals, plan))
    tokens = [first_scan(p.inputs) for h in hospitals if not h.held_out for p in h.test]
    affected = strongly_affected(atlas.names, cohort.spec.effect)
    model.load_shared(initial)
    untrained = explain(smrnet_of(model), tokens, atlas, plan.input.grid, affected, seed)
    pooled = pooled_arm(model, initial, hospitals, plan)
    arms.append(pooled)
    assert pooled.shared is not None
    model.load_shared(dict(pooled.shared))
    trained = explain(smrnet_of(model), tokens, atlas, plan.input.grid, affected, seed)
    return SeedResult(
        seed=seed,
        subjects=sum(len(h.patients) for h in hospitals),
        scans=sum(len(p.scans) for h in hospitals for p in h.patients),
        arms={arm.key: _figure(arm, tuple(cohort.members)) for arm in arms},
        slice_mass_over_chance=_value(trained.slice_mass_ratio),
        slice_mass_over_chance_untrained=_value(untrained.slice_mass_ratio),
        region_mass_over_chance=_value(trained.region_mass_ratio),
    )


def _value(ratio: Ratio | None) -> float:
    return float("nan") if ratio is None else ratio.value


def _oracle(hospitals: Sequence[Hospital], truth: TruthTable, labels: tuple[str, ...]) -> ArmResult:
    """Logistic regression on the latent stage that made the images: the ceiling of any method."""
    row: dict[tuple[str, str], int] = {}
    for index, (site, patient) in enumerate(zip(truth.site, truth.participant, strict=True)):
        row.setdefault((str(site), str(patient)), index)
    latent = np.stack([truth.coarse, truth.fine], axis=1)

    def table(hospital: Hospital, ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        rows = [row[hospital.name, patient] for patient in ids]
        label = np.asarray([labels.index(str(d)) for d in truth.diagnosis[rows]], dtype=np.int64)
        return latent[rows], label

    parts = [table(h, [p.id for p in h.train_patients]) for h in hospitals if h.train_patients]
    fitted = LogisticRegression(class_weight="balanced", max_iter=1000).fit(
        np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])
    )
    predictions = {}
    for hospital in hospitals:
        ids = [p.id for p in hospital.test_patients]
        x, y = table(hospital, ids)
        predictions[hospital.name] = Predictions(
            tuple(f"{hospital.name}/{i}" for i in ids), y, fitted.predict_proba(x)
        )
    return ArmResult("oracle", "Oracle", "The latent stage itself.", "region_volumes", predictions)


def _figure(arm: ArmResult, members: tuple[str, ...]) -> Figure:
    seen = Predictions.join([arm.predictions[name] for name in members])
    unseen = arm.predictions[UNSEEN_SITE]
    return Figure(
        seen=balanced_accuracy(seen.label, seen.probability),
        seen_auc=macro_auc(seen.label, seen.probability),
        unseen=balanced_accuracy(unseen.label, unseen.probability),
        unseen_auc=macro_auc(unseen.label, unseen.probability),
    )


def run_and_record(out: Path, record: Path, workers: int, console: Console) -> None:
    """All seeds; writes the figures to ``record`` and prints their mean and range."""
    results: list[SeedResult] = []
    with console.status("") as status:
        results += [record_seed(seed, out, workers, status.update) for seed in SEEDS]
    write_atomically(
        record, (json.dumps([r.model_dump() for r in results], indent=1) + "\n").encode()
    )
    console.print(summary_table(results))


def summary_table(results: Sequence[SeedResult]) -> Table:
    """Mean and range over the seeds of every arm and of the attention ratios."""
    table = Table(title=f"{len(results)} seeds, {results[0].subjects} subjects each")
    for column in ("arm", "seen", "seen AUC", "unseen", "unseen AUC"):
        table.add_column(column, justify="left" if column == "arm" else "right")

    def cell(values: Sequence[float]) -> str:
        return f"{np.mean(values):.3f} ({min(values):.3f}-{max(values):.3f})"

    for key in results[0].arms:
        figures = [result.arms[key] for result in results]
        table.add_row(
            key,
            cell([f.seen for f in figures]),
            cell([f.seen_auc for f in figures]),
            cell([f.unseen for f in figures]),
            cell([f.unseen_auc for f in figures]),
        )
    for name in (
        "slice_mass_over_chance",
        "slice_mass_over_chance_untrained",
        "region_mass_over_chance",
    ):
        table.add_row(name, cell([getattr(result, name) for result in results]))
    return table
