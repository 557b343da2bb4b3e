"""Arms that train on all people in one place, without privacy: what the architecture can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from client.training.site_model import SiteModel
from simulations.arms.train_rounds import Arrays, train_rounds
from simulations.connectomes.measures import MASK, mask_figures, model_figures
from simulations.connectomes.people import ConnectomeCohort, Person
from simulations.connectomes.plans import StudyPlans
from simulations.connectomes.tensors import examples_of, split

#: All that trains but the mask, and the site's own parameters, which do not train in rounds.
_REST = (
    "backbones.*",
    "unified.*",
    "attend.*",
    "norms.*",
    "mixers.*",
    "heads.*",
    "site.gamma",
    "site.beta",
)
#: Parameter patterns that rest in each phase of IBGNN+.
PHASES = (
    ("network.mask.*",),
    tuple(f"network.{part}" for part in _REST),
    ("network.mask.*",),
)


@dataclass(frozen=True)
class People:
    """Everybody of a cohort, sites one after another."""

    cohort: ConnectomeCohort
    train: tuple[Person, ...]
    test: tuple[Person, ...]

    @classmethod
    def of(cls, cohort: ConnectomeCohort) -> People:
        """By the study's own split."""
        parts = [split(people) for people in cohort.sites.values()]
        return cls(
            cohort,
            tuple(person for train, _ in parts for person in train),
            tuple(person for _, test in parts for person in test),
        )


def trained(
    plans: StudyPlans,
    people: Sequence[Person],
    options: Mapping[str, Any] | None = None,
    rounds: int = 60,
) -> SiteModel:
    """ConneX on these people."""
    plan = plans.plan({"pooled": len(people)}, rounds=rounds, options=options)
    model = plans.model(plan)
    examples = examples_of(model, people)
    model.load_shared(train_rounds(model, model.shared_arrays(), {"pooled": examples}, plan))
    return model


def trained_in_phases(plans: StudyPlans, people: Sequence[Person], rounds: int) -> list[SiteModel]:
    """IBGNN+'s order as three plans: backbones, then the mask alone, then backbones under it.

    Each plan starts from what the one before released; returns the model after each phase.
    """
    out: list[SiteModel] = []
    known: Arrays = {}
    for frozen in PHASES:
        plan = plans.plan({"pooled": len(people)}, rounds=rounds, frozen=frozen)
        model = plans.model(plan)
        for name, value in known.items():
            _set(model, name, value)
        examples = examples_of(model, people)
        model.load_shared(train_rounds(model, model.shared_arrays(), {"pooled": examples}, plan))
        known |= model.shared_arrays()
        out.append(model)
    return out


def _set(model: SiteModel, name: str, value: Any) -> None:
    with torch.no_grad():
        for parameter in model.parameters([name]):
            parameter.copy_(torch.from_numpy(value))


def figures(
    model: SiteModel, people: People, test: Sequence[Person] | None = None
) -> dict[str, float]:
    """How a model predicts, and what its mask finds where it has one."""
    out = model_figures(model, examples_of(model, people.test if test is None else test))
    if MASK in dict(model.model.named_parameters()):
        out |= mask_figures(model, people.cohort.anatomy)
    return out


def without(people: Sequence[Person], modality: str) -> list[Person]:
    """The same people, whose matrices of one modality are missing."""
    if modality == "structural":
        return [replace(person, structural=None) for person in people]
    return [replace(person, functional=None) for person in people]
