"""ConneX through the real protocol: archives on disk, agents, ledgers, gates, signed replies."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import tomli_w

from client.training.examples import PatientExamples
from server.checkpoints.run_directory import RunDirectory
from shared_model.plan import FederationPlan
from shared_model.privacy.plan_cost import plan_epsilon
from shared_model.protocol.arrays import decode_arrays
from simulations.arms.hospital import Hospital, load_hospital
from simulations.arms.train_rounds import train_rounds
from simulations.connectomes.archive import write_archives
from simulations.connectomes.measures import (
    logistic_figures,
    mask_figures,
    model_figures,
)
from simulations.connectomes.people import Person, make_cohort
from simulations.connectomes.plans import StudyPlans, no_atlas
from simulations.connectomes.questions import ROUNDS, Setting
from simulations.connectomes.results import Arm
from simulations.connectomes.spec import LABELS
from simulations.federation.run import open_run, run_in_process
from simulations.federation.workspace import Workspace, create_workspace

EPSILON = 8.0


def federated(setting: Setting) -> Iterator[Arm]:
    """The same people and steps: pooled, each site alone, federated, and federated with privacy."""
    cohort = make_cohort(setting.spec)
    folder, plans = setting.folder / f"seed{setting.spec.seed}", setting.plans
    workspace = hospitals_of(write_archives(cohort, folder / "archives"), folder, plans.weights)
    counts = {name: round(0.75 * len(people)) for name, people in cohort.sites.items()}
    arms: dict[str, FederationPlan] = {
        "federated": plans.plan(counts, rounds=ROUNDS),
        f"federated, epsilon {EPSILON:g}": plans.plan(counts, rounds=ROUNDS, epsilon=EPSILON),
    }
    first = next(iter(arms.values()))
    model = plans.model(first)
    sites = [load_hospital(workspace.site_config(name), first, model) for name in counts]
    test = [example for site in sites for example in site.test]
    for name, plan in arms.items():
        private = plan.privacy.mode != "none"
        run = open_run(
            folder / ("private" if private else "open"),
            plan,
            plans.model(plan).shared_arrays(),
            f"connex-{plan.privacy.mode}",
        )
        run_in_process(plan, workspace, run, no_atlas())
        found = _released(plans, plan, run, setting, test)
        found["epsilon"] = plan_epsilon(plan) if private else float("nan")
        yield setting.arm("federated", name, {k: v for k, v in found.items() if v == v})
    yield from _beside(setting, plans, sites, test)
    known = {person.id: person for people in cohort.sites.values() for person in people}
    train = [known[p.id.removeprefix("sub-")] for site in sites for p in site.train_patients]
    held = [known[p.id.removeprefix("sub-")] for site in sites for p in site.test_patients]
    yield setting.arm("federated", "logistic regression, pooled", _logistic(train, held, setting))


def _logistic(train: list[Person], test: list[Person], setting: Setting) -> dict[str, float]:
    return logistic_figures(train, test, make_cohort(setting.spec).anatomy)


def _released(
    plans: StudyPlans,
    plan: FederationPlan,
    run: RunDirectory,
    setting: Setting,
    test: list[PatientExamples],
) -> dict[str, float]:
    model = plans.model(plan)
    model.load_shared(decode_arrays(run.latest().release_body))
    return model_figures(model, test) | mask_figures(model, make_cohort(setting.spec).anatomy)


def _beside(
    setting: Setting, plans: StudyPlans, sites: list[Hospital], test: list[PatientExamples]
) -> Iterator[Arm]:
    """Pooled, and the mean over sites that train alone; all are tested on everybody's patients."""
    everybody = [example for site in sites for example in site.train]
    alone = []
    for name, examples in {"pooled": everybody, **{s.name: list(s.train) for s in sites}}.items():
        plan = plans.plan({name: len(examples)}, rounds=ROUNDS)
        model = plans.model(plan)
        model.load_shared(train_rounds(model, model.shared_arrays(), {name: examples}, plan))
        found = model_figures(model, test)
        if name == "pooled":
            found |= mask_figures(model, make_cohort(setting.spec).anatomy)
            yield setting.arm("federated", "pooled", found)
        else:
            alone.append(found)
    mean = {key: sum(found[key] for found in alone) / len(alone) for key in alone[0]}
    yield setting.arm("federated", "each site alone (mean)", mean)


def hospitals_of(archives: dict[str, Path], folder: Path, weights: Path) -> Workspace:
    """Hospitals whose agents find the public reference, and whose policy allows both modes."""
    workspace = create_workspace(
        folder / "hospitals", archives, LABELS, modes=("none", "local"), max_epsilon=EPSILON + 1
    )
    for name in archives:
        path = workspace.site_config(name)
        data = tomllib.loads(path.read_text())
        path.write_text(tomli_w.dumps({**data, "weights": str(weights.resolve())}))
    return workspace
