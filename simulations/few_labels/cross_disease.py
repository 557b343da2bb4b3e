"""``smrfed-sim cross-disease``: who is a patient, across diseases; and transfer to few labels.

The matrix asks one question that every label schema can answer: patient or control? A model trained
for one disease scores the people of another by one minus its probability of the first class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from client.agent.evaluation import mean_probabilities
from client.training.examples import PatientExamples
from client.training.site_model import SiteModel
from server.plan_drafting.initial import taken_over
from shared_model.metrics.delong import delong_interval
from simulations.arms.arm import Arrays
from simulations.arms.centralised import centralised_plan, train_centralised
from simulations.cohort.diseases import EFFECTS, disease_cohort
from simulations.few_labels.measures import Estimate, balanced_estimate, difference
from simulations.few_labels.people import People, labelled, load_people, study_model, study_plan
from simulations.lesions.kinds import STROKE_LIKE

#: Disease: people in all, and of those, in training.
SIZES = {"ad": (160, 80), "pd": (120, 40), "ftd": (135, 55), "stroke": (120, 40)}
#: What is planted into the patients of a disease; here each of them has a lesion.
LESIONS = {"stroke": STROKE_LIKE.model_copy(update={"without": 0.0})}
TARGET = "pd"
LABELS = (8, 16, 40)
DRAWS = 3


class Cell(BaseModel):
    """A model trained on one disease tells patients of another from their controls."""

    model_config = ConfigDict(frozen=True)

    train: str
    test: str
    auc: Estimate
    patients: int
    controls: int


class Transfer(BaseModel):
    """Few labels of the target disease, from a public start and from another disease's model."""

    model_config = ConfigDict(frozen=True)

    source: str
    labels: int
    own: Estimate
    taken_over: Estimate
    difference: Estimate


class CrossDisease(BaseModel):
    """The recorded study.

    ``volumes`` are the AUCs, at home, of logistic regression on all true region volumes: what a
    perfect segmentation would allow with the same training patients.
    """

    model_config = ConfigDict(frozen=True)

    seed: int
    trained_on: dict[str, int]
    cells: tuple[Cell, ...]
    volumes: dict[str, Estimate]
    transfer: tuple[Transfer, ...]


def train(
    model: SiteModel, initial: Arrays, examples: Sequence[PatientExamples]
) -> dict[str, npt.NDArray[np.float32]]:
    """The plan's rounds on these patients in one place; returns the shared parameters."""
    plan = centralised_plan(model.plan, "clinic", len(examples))
    return dict(train_centralised(model, dict(initial), examples, plan))


def predicted(
    model: SiteModel, shared: Arrays, examples: Sequence[PatientExamples]
) -> npt.NDArray[np.float64]:
    """``(N, C)`` probabilities."""
    model.load_shared(dict(shared))
    return mean_probabilities(model, examples)[1]


def run_cross_disease(
    folder: Path, seed: int, workers: int, progress: Callable[[str], None]
) -> CrossDisease:
    """All cells and the transfer; people are kept in ``folder``."""
    models = {
        disease: study_model(study_plan(effect.diagnoses, seed))
        for disease, effect in EFFECTS.items()
    }
    people: dict[str, People] = {}
    for disease, (count, _) in SIZES.items():
        progress(f"{disease}: {count} people")
        spec = disease_cohort(disease, count, seed)
        people[disease] = load_people(
            spec, folder / disease, models[disease], workers, LESIONS.get(disease)
        )
    initial = {disease: model.shared_arrays() for disease, model in models.items()}
    trained = {}
    for disease, (_, first) in SIZES.items():
        progress(f"{disease}: training on {first}")
        trained[disease] = train(
            models[disease], initial[disease], people[disease].examples[:first]
        )
    cells = tuple(
        _cell(source, target, models, trained, people) for source in SIZES for target in SIZES
    )
    progress(f"transfer to {TARGET}")
    return CrossDisease(
        seed=seed,
        trained_on={disease: first for disease, (_, first) in SIZES.items()},
        cells=cells,
        volumes={disease: _volumes(people[disease], SIZES[disease][1]) for disease in SIZES},
        transfer=_transfer(models[TARGET], initial[TARGET], trained, people[TARGET], seed),
    )


def _cell(
    source: str,
    target: str,
    models: dict[str, SiteModel],
    trained: dict[str, dict[str, npt.NDArray[np.float32]]],
    people: dict[str, People],
) -> Cell:
    first = SIZES[target][1]
    test = people[target].examples[first:]
    score = 1 - predicted(models[source], trained[source], test)[:, 0]
    patient = people[target].label[first:] > 0
    auc = delong_interval(patient, score)
    return Cell(
        train=source,
        test=target,
        auc=Estimate(value=auc.estimate, low=auc.low, high=auc.high),
        patients=int(patient.sum()),
        controls=int((~patient).sum()),
    )


def _volumes(people: People, first: int) -> Estimate:
    patient = people.label > 0
    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=5000)
    ).fit(people.volumes[:first], patient[:first])
    score = model.predict_proba(people.volumes[first:])[:, 1]
    auc = delong_interval(patient[first:], score)
    return Estimate(value=auc.estimate, low=auc.low, high=auc.high)


def _transfer(
    model: SiteModel,
    initial: Arrays,
    trained: dict[str, dict[str, npt.NDArray[np.float32]]],
    people: People,
    seed: int,
) -> tuple[Transfer, ...]:
    first = SIZES[TARGET][1]
    test, label = people.examples[first:], people.label[first:]
    starts: dict[str, Arrays] = {"own": initial}
    for source, arrays in trained.items():
        if source != TARGET:
            starts[source] = taken_over(model.plan, dict(initial), arrays)
    rows = []
    for count in LABELS:
        guesses: dict[str, list[npt.NDArray[np.int64]]] = {name: [] for name in starts}
        draws = 1 if count >= first else DRAWS
        for draw in range(draws):
            rng = np.random.default_rng([seed, count, draw])
            few = people.rows(labelled(people.label[:first], count, rng))
            for name, start in starts.items():
                probability = predicted(model, train(model, start, few), test)
                guesses[name].append(probability.argmax(1))
        for source in [name for name in starts if name != "own"]:
            row = Transfer(
                source=source,
                labels=count,
                own=balanced_estimate(guesses["own"], label),
                taken_over=balanced_estimate(guesses[source], label),
                difference=difference(guesses[source], guesses["own"], label),
            )
            rows.append(row)
    return tuple(rows)
