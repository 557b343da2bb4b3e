"""Patients of one disease-like cohort as tokens of the packaged public encoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from client.prepared.intensity import standardise
from client.training.examples import PatientExamples
from client.training.site_model import SiteModel
from client.training.token_cache import TokenCache
from shared_model.atlas.select import load_atlas
from shared_model.plan import FederationPlan
from simulations.cohort.cohort import all_subjects, generate_anatomy
from simulations.cohort.scanner import apply_scanner, random_scanner
from simulations.cohort.spec import CohortSpec
from simulations.demo.settings import DemoSettings, demo_plan
from simulations.lesions.kinds import LesionKind
from simulations.lesions.planting import plant_lesions

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_SMALLEST_ML = 0.02


@dataclass(frozen=True, eq=False)
class People:
    """N patients of one cohort, one scan each, in the order of their numbers.

    Attributes:
        examples: tokens and label of each.
        label: ``(N,)`` class indices.
        scans: N standardised scans ``(D, H, W)`` float16 at 2 mm, for a network without tokens.
        volumes: ``(N, R)`` log of true region volume over intracranial volume.
        person: ``(N, 2)`` age in years, and sex as -1 or 1.
    """

    examples: tuple[PatientExamples, ...]
    label: Ints
    scans: tuple[npt.NDArray[np.float16], ...]
    volumes: Floats
    person: Floats

    def __len__(self) -> int:
        return len(self.examples)

    def rows(self, chosen: Ints) -> list[PatientExamples]:
        """Examples by position."""
        return [self.examples[int(row)] for row in chosen]


def study_plan(labels: tuple[str, ...], seed: int) -> FederationPlan:
    """The demonstration's plan without privacy, for these labels: nothing else depends on them."""
    data = demo_plan(DemoSettings(seed=seed), {"clinic": 100}, "none").model_dump(mode="json")
    data["task"]["labels"] = list(labels)
    return FederationPlan.parse(data)


def study_model(plan: FederationPlan) -> SiteModel:
    """The plan's model with the packaged public encoder, on the CPU."""
    return SiteModel.build(plan, load_atlas(plan.atlas, plan.input.grid))


def load_people(
    spec: CohortSpec,
    folder: Path,
    model: SiteModel,
    workers: int,
    lesions: LesionKind | None = None,
) -> People:
    """Generate the people of a cohort, or find them in ``folder``, seen by random scanners.

    ``lesions`` are planted into everybody but the controls, who are the first diagnosis. Tokens do
    not depend on the model's head, so cohorts with other labels share them.
    """
    folders = generate_anatomy(spec, folder, workers)
    cache = TokenCache(folder / "tokens", model)
    examples, scans, volumes, person = [], [], [], []
    for subject in all_subjects(spec):
        with np.load(folders.volumes / f"{subject.participant}.npz") as data:
            clean = data["volume"].astype(np.float32)
            region_ml, icv_ml = data["region_ml"], float(data["icv_ml"])
        label = spec.effect.diagnoses.index(subject.diagnosis)
        if lesions is not None and label > 0:
            drawn = subject.rng("few-labels-lesions")
            clean, _ = plant_lesions(clean, clean > 0, model.plan.input.grid.affine, lesions, drawn)
        rng = subject.rng("few-labels-scan")
        scan = standardise(apply_scanner(clean, random_scanner(rng), rng))
        tokens = cache.tokens(torch.from_numpy(scan)[None, None])
        examples.append(PatientExamples(subject.participant, tokens, torch.tensor([label])))
        scans.append(scan.astype(np.float16))
        volumes.append(np.log(np.maximum(region_ml, _SMALLEST_ML) / icv_ml))
        person.append((subject.visits[0].age, 1.0 if subject.sex == "M" else -1.0))
    return People(
        tuple(examples),
        np.array([int(e.labels[0]) for e in examples], dtype=np.int64),
        tuple(scans),
        np.stack(volumes),
        np.asarray(person),
    )


def labelled(label: Ints, count: int, rng: np.random.Generator) -> Ints:
    """``count`` positions drawn with every class as evenly as possible, sorted."""
    orders = [rng.permutation(np.flatnonzero(label == c)) for c in np.unique(label)]
    longest = max(map(len, orders))
    turns = [order[i] for i in range(longest) for order in orders if i < len(order)]
    return np.sort(np.asarray(turns[:count], dtype=np.int64))
