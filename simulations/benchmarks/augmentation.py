"""Does augmentation help at a scanner that nobody trained on? Pooled training with and without.

Two synthetic hospitals train together, without privacy and with the public frozen encoder; a third
with another scanner is only tested. Both arms have the same patients, steps and initial weights;
one sees ``multiplicity`` augmented views of each scan, the other the scans as they are. Each seed
is another cohort.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import Progress

from client.agent.evaluation import probabilities
from client.archive.patients import Patient, Scan
from client.prepared.brain_mask import find_brain
from client.prepared.intensity import standardise
from client.prepared.resample import to_grid
from client.training.augmentation.views import PlannedViews
from client.training.examples import PatientExamples, patient_examples
from client.training.site_model import SiteModel
from shared_model.atlas.select import load_atlas
from shared_model.augmentation import AugmentationSection
from shared_model.grid import ModelGrid
from shared_model.metrics import (
    Floats,
    Ints,
    balanced_accuracy,
    balanced_accuracy_over,
    paired_difference,
    stratified_draws,
)
from shared_model.plan import FederationPlan
from simulations.arms.centralised import centralised_plan, train_centralised
from simulations.cohort.design import UNSEEN_SITE, default_cohort
from simulations.cohort.generate import acquire
from simulations.cohort.spec import CohortSpec
from simulations.cohort.subject import draw_subject
from simulations.demo.settings import DemoSettings, demo_plan

_SEEN = ("site-a", "site-b")
_DRAWS = 2000


class Acquired:
    """Synthetic scans in memory, prepared as a hospital prepares them; a source of volumes."""

    def __init__(self, spec: CohortSpec, grid: ModelGrid) -> None:
        self._spec = spec
        self._grid = grid
        self._volumes: dict[Path, npt.NDArray[np.float32]] = {}

    def volume(self, scan: Scan) -> npt.NDArray[np.float32]:
        """``(D, H, W)`` as it was prepared."""
        return self._volumes[scan.path]

    def patient(self, site: str, index: int, labels: tuple[str, ...]) -> Patient:
        """Scan the first visit of one synthetic patient and prepare it."""
        subject = draw_subject(self._spec, self._spec.site(site), index)
        scan = acquire(subject, subject.visits[0])
        greys = to_grid(scan.image, scan.affine, self._grid)
        volume = standardise(greys, find_brain(greys, self._grid).mask)
        path = Path(site) / subject.participant
        self._volumes[path] = volume.astype(np.float16).astype(np.float32)  # as the store keeps it
        label = labels.index(subject.diagnosis)
        return Patient(str(path), subject.sex, (Scan("01", path, label, subject.visits[0].age),))


@dataclass(frozen=True)
class SeedResult:
    """Balanced accuracy of one cohort, and what it cost; ``augment_ms`` per view, CPU."""

    seed: int
    seen_plain: float
    seen_augmented: float
    unseen_plain: float
    unseen_augmented: float
    augment_ms: float
    train_plain_s: float
    train_augmented_s: float


@dataclass(frozen=True)
class Predicted:
    """Labels of some test patients, and what both arms predicted."""

    label: Ints
    plain: Floats
    augmented: Floats

    def scores(self) -> tuple[float, float]:
        """Balanced accuracy without and with augmentation."""
        return (
            balanced_accuracy(self.label, self.plain),
            balanced_accuracy(self.label, self.augmented),
        )


def one_seed(
    seed: int, section: AugmentationSection, train: int, test: int, unseen: int, progress: Progress
) -> tuple[SeedResult, Predicted, Predicted]:
    """Both arms on one cohort: ``train`` and ``test`` patients at each seen site."""
    spec = default_cohort(train + test, seed=seed, unseen_patients=unseen)
    plan = demo_plan(DemoSettings(seed=seed), dict.fromkeys(_SEEN, train + test), "none")
    plan = plan.model_copy(update={"seed": seed})
    source = Acquired(spec, plan.input.grid)
    task = progress.add_task(f"seed {seed}: scans", total=2 * (train + test) + unseen)

    def patients(site: str, first: int, count: int) -> list[Patient]:
        out = []
        for index in range(first, first + count):
            out.append(source.patient(site, index, plan.task.labels))
            progress.advance(task)
        return out

    members = [patient for site in _SEEN for patient in patients(site, 0, train)]
    seen = [patient for site in _SEEN for patient in patients(site, train, test)]
    others = patients(UNSEEN_SITE, 0, unseen)
    pooled = centralised_plan(plan, "pooled", len(members))
    augmented = pooled.model_copy(update={"augmentation": section})
    model = SiteModel.build(augmented, load_atlas(plan.atlas, plan.input.grid))
    task = progress.add_task(f"seed {seed}: tokens", total=len(members) + len(seen) + len(others))

    def examples(group: list[Patient], training: bool = False) -> list[PatientExamples]:
        out = []
        for example in patient_examples(model, group, source, training=training):
            out.append(example)
            progress.advance(task)
        return out

    trained_on = examples(members, training=True)
    tested = examples(seen), examples(others)
    initial = model.shared_arrays()
    seconds, predicted = [], []
    for chosen in (pooled, augmented):
        start = time.perf_counter()
        model.load_shared(train_centralised(model, initial, trained_on, chosen))
        seconds.append(time.perf_counter() - start)
        model.reset_site()
        predicted.append([probabilities(model, group) for group in tested])
    (plain_seen, plain_unseen), (new_seen, new_unseen) = predicted
    at_seen = Predicted(plain_seen[0], plain_seen[1], new_seen[1])
    at_unseen = Predicted(plain_unseen[0], plain_unseen[1], new_unseen[1])
    result = SeedResult(
        seed,
        *at_seen.scores(),
        *at_unseen.scores(),
        _augment_ms(augmented, source, members[0]),
        *seconds,
    )
    return result, at_seen, at_unseen


def _augment_ms(
    plan: FederationPlan, source: Acquired, patient: Patient, repeats: int = 40
) -> float:
    """Mean CPU milliseconds of a view: another user of the machine hardly changes them."""
    views = PlannedViews.of(plan)
    assert views is not None
    volume = torch.from_numpy(source.volume(patient.scans[0]))[None, None]
    views.kept(volume, "warm up", 0, 0)
    start = time.process_time()
    for number in range(repeats):
        views.kept(volume, patient.id, 0, number)
    return 1000 * (time.process_time() - start) / repeats


def _summary(where: str, parts: list[Predicted], console: Console) -> dict[str, float | str]:
    joined = Predicted(
        np.concatenate([part.label for part in parts]),
        np.concatenate([part.plain for part in parts]),
        np.concatenate([part.augmented for part in parts]),
    )
    draws = stratified_draws(joined.label, _DRAWS, 0)
    difference = paired_difference(
        balanced_accuracy_over, joined.label, joined.augmented, joined.plain, draws
    )
    plain, augmented = joined.scores()
    console.print(
        f"{where} ({len(joined.label)} patients): none {plain:.3f}, augmented {augmented:.3f}, "
        f"difference {difference.estimate:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"
    )
    return {
        "where": where,
        "plain": plain,
        "augmented": augmented,
        "difference": difference.estimate,
        "low": difference.low,
        "high": difference.high,
    }


def main() -> None:
    """The command line of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="cohorts")
    parser.add_argument("--train", type=int, default=40, help="training patients per seen site")
    parser.add_argument("--test", type=int, default=20, help="test patients per seen site")
    parser.add_argument("--unseen", type=int, default=40, help="patients of the unseen site")
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--multiplicity", type=int, default=4)
    parser.add_argument("--probability", type=float, default=0.5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    section = AugmentationSection(
        enabled=True,
        views=options.views,
        multiplicity=options.multiplicity,
        probability=options.probability,
    )
    console = Console(stderr=True)
    results: list[SeedResult] = []
    seen: list[Predicted] = []
    unseen: list[Predicted] = []
    with Progress(console=console, transient=True) as progress:
        for seed in range(options.seeds):
            result, at_seen, at_unseen = one_seed(
                seed, section, options.train, options.test, options.unseen, progress
            )
            results.append(result)
            seen.append(at_seen)
            unseen.append(at_unseen)
            console.print(json.dumps({k: round(v, 3) for k, v in asdict(result).items()}))
    summaries = [
        _summary("seen sites", seen, console), _summary("unseen site", unseen, console)
    ]  # fmt: skip
    print(json.dumps({"seeds": [asdict(result) for result in results], "all": summaries}))


if __name__ == "__main__":
    main()
