"""The questions of the study, each on one seed: arms and their figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from shared_model.connex.coupling import regional_coupling
from simulations.connectomes.measures import logistic_figures
from simulations.connectomes.people import make_cohort
from simulations.connectomes.plans import StudyPlans
from simulations.connectomes.pooled import (
    People,
    figures,
    trained,
    trained_in_phases,
    without,
)
from simulations.connectomes.results import Arm
from simulations.connectomes.spec import ConnectomeSpec

#: Steps of all arms on the main task, and on the harder interaction.
ROUNDS, INTERACTION_ROUNDS = 50, 60
_PHASE_ROUNDS = 40
#: What an interaction is planted with: it is far harder to find than a difference of means.
INTERACTION = {"task": "interaction", "effect": 2.0, "planted": 30}
COUPLINGS = (0.0, 0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Setting:
    """One seed of the study.

    Attributes:
        spec: the main cohort.
        folder: for archives and weights.
    """

    spec: ConnectomeSpec
    folder: Path

    @property
    def plans(self) -> StudyPlans:
        """Plans with the public reference of this anatomy."""
        return StudyPlans.of(self.spec, self.folder / "weights")

    def arm(self, item: str, name: str, found: dict[str, float]) -> Arm:
        """One arm's record."""
        return Arm(item=item, arm=name, seed=self.spec.seed, figures=found)


def mask(setting: Setting) -> Iterator[Arm]:
    """Rows 19, 28, 30, 31: planted edges, base against masked, ablations, single modalities."""
    people, plans = People.of(make_cohort(setting.spec)), setting.plans
    arms: dict[str, dict[str, Any]] = {
        "connex": {},
        "base (no mask)": {"mask": False},
        "no mixer": {"mixer": False},
        "late fusion": {"fusion": "late"},
        "one head (lam = 0)": {"loss_structural": 0.0, "loss_functional": 0.0},
    }
    for name, options in arms.items():
        model = trained(plans, people.train, options, ROUNDS)
        yield setting.arm("main", name, figures(model, people))
    for name, model in zip(
        ("phase 1: base", "phase 2: mask", "phase 3: tuned"),
        trained_in_phases(plans, people.train, _PHASE_ROUNDS),
        strict=True,
    ):
        yield setting.arm("main", name, figures(model, people))
    for kept, gone in (("structural", "functional"), ("functional", "structural")):
        model = trained(plans, without(people.train, gone), {}, ROUNDS)
        test = without(people.test, gone)
        yield setting.arm("main", f"{kept} only", figures(model, people, test))
    yield setting.arm(
        "main",
        "logistic regression",
        logistic_figures(people.train, people.test, people.cohort.anatomy),
    )


def interaction(setting: Setting) -> Iterator[Arm]:
    """Row 29: only both modalities together tell the class."""
    spec = setting.spec.model_copy(update=INTERACTION)
    people, plans = People.of(make_cohort(spec)), setting.plans
    variants: tuple[tuple[str, dict[str, Any]], ...] = (
        ("cross attention", {}),
        ("unified view only", {"fusion": "unified"}),
        ("late fusion", {"fusion": "late"}),
        ("no mixer", {"mixer": False}),
    )
    for name, options in variants:
        model = trained(plans, people.train, options, INTERACTION_ROUNDS)
        yield setting.arm("interaction", name, figures(model, people))
    for kept, gone in (("structural", "functional"), ("functional", "structural")):
        model = trained(plans, without(people.train, gone), {}, INTERACTION_ROUNDS)
        test = without(people.test, gone)
        yield setting.arm("interaction", f"{kept} only", figures(model, people, test))
    found = logistic_figures(people.train, people.test, people.cohort.anatomy)
    yield setting.arm("interaction", "logistic regression", found)


def cohorts(setting: Setting) -> Iterator[Arm]:
    """Row 32: two cohorts with other people and scanners; trained on one, tested on both."""
    second = setting.spec.model_copy(
        update={
            "seed": setting.spec.seed + 500,
            "sites": ("north", "south"),
            "site_effects": 1.5 * setting.spec.site_effects,
        }
    )
    both = {
        "A": People.of(make_cohort(setting.spec)),
        "B": People.of(make_cohort(second)),
    }
    plans = setting.plans
    for first, learnt in both.items():
        model = trained(plans, learnt.train, {}, ROUNDS)
        for other, tested in both.items():
            found = figures(model, tested)
            yield setting.arm("cohorts", f"ConneX {first} on {other}", found)
            found = logistic_figures(learnt.train, tested.test, tested.cohort.anatomy)
            yield setting.arm("cohorts", f"logistic {first} on {other}", found)


def missing(setting: Setting) -> Iterator[Arm]:
    """Row 19: what is left when one modality of test patients is missing."""
    people, plans = People.of(make_cohort(setting.spec)), setting.plans
    for dropout in (0.0, 0.3):
        model = trained(plans, people.train, {"modality_dropout": dropout}, ROUNDS)
        for gone in ("nothing", "structural", "functional"):
            test = list(people.test) if gone == "nothing" else without(people.test, gone)
            found = figures(model, people, test)
            yield setting.arm("missing", f"dropout {dropout:g}, without {gone}", found)
    partly = People.of(make_cohort(setting.spec.model_copy(update={"missing": 0.3})))
    model = trained(plans, partly.train, {}, ROUNDS)
    yield setting.arm("missing", "30 % lack one, trained and tested", figures(model, partly))


def coupling(setting: Setting) -> Iterator[Arm]:
    """Row 20: the coupling of each region is recovered from noisy people."""
    for planted in COUPLINGS:
        spec = setting.spec.model_copy(update={"coupling": planted, "patients": 20})
        cohort = make_cohort(spec)
        people = [person for site in cohort.sites.values() for person in site]
        found = np.nanmean(
            [
                regional_coupling(person.structural, person.functional)
                for person in people
                if person.structural is not None and person.functional is not None
            ],
            axis=0,
        )
        truth = cohort.anatomy.coupling
        out = {"planted": float(truth.mean()), "recovered": float(found.mean())}
        if truth.std() > 0:
            out["rank_correlation"] = float(spearmanr(truth, found).statistic)
        yield setting.arm("coupling", f"{planted:g}", out)


QUESTIONS: dict[str, Callable[[Setting], Iterator[Arm]]] = {
    "main": mask,
    "interaction": interaction,
    "cohorts": cohorts,
    "missing": missing,
    "coupling": coupling,
}
