"""The cohort of one seed with the test patients whose predictions are explained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from client.config import SiteConfig
from client.explanation.public_brain import public_brain
from client.prepared.scan_source import scan_source
from shared_model.explanation.relevance import Case, Map, Mask
from shared_model.smrnet.model import SMRNet
from shared_model.smrnet.tokens import Tokens
from simulations.arms.arm import Arrays
from simulations.demo.settings import DemoSettings
from simulations.evaluation.explanations import strongly_affected
from simulations.experiments.seed_cohort import SeedCohort, load_seed_cohort
from simulations.smrnet_access import first_scan, smrnet_of

PATIENTS, UNSEEN = 96, 64
AD = "AD"


@dataclass(frozen=True, eq=False)
class Subject:
    """A test patient's first scan."""

    name: str
    label: int
    tokens: Tokens
    held_out: bool
    read: Callable[[], Map]

    @property
    def volume(self) -> Map:
        """``(D, H, W)`` as prepared; read anew each time, because all of them fill a gigabyte."""
        return np.ascontiguousarray(self.read())


@dataclass(frozen=True, eq=False)
class StudyCohort:
    """What the study needs of one seed.

    Attributes:
        cohort: hospitals, plan and model.
        subjects: all test patients, those of the hospital left out among them.
        train: the training patients' first scans, with their classes as labels.
        truth: ``(D, H, W)`` the strongly affected regions.
        brain: ``(D, H, W)`` the atlas.
        baseline: ``(D, H, W)`` the public brain.
    """

    cohort: SeedCohort
    subjects: tuple[Subject, ...]
    train: tuple[Subject, ...]
    affected: tuple[str, ...]
    truth: Mask
    brain: Mask
    baseline: Map

    @property
    def patients_with_ad(self) -> tuple[Subject, ...]:
        """In whom there is atrophy to be found."""
        number = self.cohort.plan.task.labels.index(AD)
        return tuple(subject for subject in self.subjects if subject.label == number)

    def network(self, shared: Arrays) -> SMRNet:
        """The cohort's own network with these shared parameters; one network, not a copy."""
        self.cohort.model.load_shared(dict(shared))
        self.cohort.model.reset_site()
        return smrnet_of(self.cohort.model).eval()

    def case(
        self, model: SMRNet, subject: Subject, target: int | None = None, *, volume: bool = False
    ) -> Case:
        """A subject's case; the target is what the model predicts unless it is given."""
        with torch.no_grad():
            found = int(model.reason(subject.tokens).logits.argmax()) if target is None else target
        inputs: Tensor | Tokens = subject.tokens
        if volume:
            inputs = torch.from_numpy(subject.volume)[None, None]
        return Case(model, inputs, found, self.cohort.atlas.labels, self.baseline)


def load_study_cohort(
    seed: int, folder: Path, workers: int, progress: Callable[[str], None]
) -> StudyCohort:
    """Generate, or find in ``folder``, the cohort of a seed and read its test patients."""
    settings = DemoSettings(
        patients_per_site=PATIENTS, unseen_patients=UNSEEN, seed=seed, workers=workers
    )
    cohort = load_seed_cohort(settings, folder, progress)
    test: list[Subject] = []
    train: list[Subject] = []
    for hospital in cohort.hospitals:
        path = folder / f"parties-{seed}" / "sites" / hospital.name / "site.toml"
        source = scan_source(SiteConfig.load(path), cohort.plan)
        for into, patients, examples in (
            (test, hospital.test_patients, hospital.test),
            (train, hospital.train_patients, hospital.train),
        ):
            into += [
                Subject(
                    f"{hospital.name}/{patient.id}",
                    int(example.labels[0]),
                    first_scan(example.inputs),
                    hospital.held_out,
                    partial(source.volume, patient.scans[0]),
                )
                for patient, example in zip(patients, examples, strict=True)
            ]
    affected = strongly_affected(cohort.atlas.names, cohort.spec.effect)
    numbers = [cohort.atlas.names.index(name) + 1 for name in affected]
    labels = cohort.atlas.labels
    return StudyCohort(
        cohort,
        tuple(test),
        tuple(train),
        affected,
        np.isin(labels, numbers),
        labels > 0,
        public_brain(cohort.plan.input),
    )


def spread_out(subjects: Sequence[Subject], count: int) -> tuple[Subject, ...]:
    """``count`` of them at equal distances, so that every hospital is among them."""
    index = np.linspace(0, len(subjects) - 1, min(count, len(subjects))).round().astype(int)
    return tuple(subjects[i] for i in index)
