"""The arms of the study on one cohort: together, alone, with and without noise; baselines."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from client.agent.statistics import released_statistics
from server.evaluation.decision_rule import aggregated_offsets, with_offsets
from shared_model.plan import FederationPlan
from shared_model.privacy.plan_cost import calibrate_plan_noise
from shared_model.protocol.arrays import Arrays, decode_arrays, encode_arrays
from simulations.arms.arm import ArmResult, predict_everywhere
from simulations.arms.baseline_arms import baseline_arms
from simulations.arms.neural_arms import alone_arm
from simulations.arms.train_rounds import train_rounds
from simulations.demo.settings import SPARE_ROUNDS, demo_plan
from simulations.evaluation.predictions import Predictions, by_model
from simulations.experiments.seed_cohort import SeedCohort
from simulations.privacy_study.predicted import Predicted, Run, keep, kept
from simulations.privacy_study.settings import StudySettings

ArmKey = Literal["federated", "prior_free", "alone", "prior", "demographics", "volumes"]

# The share of a step's privacy, as 1/z^2 of the whole plan, that the decision rule's release takes:
# its noise is four times that of all training together, which makes the training noise 3 % larger.
_RULE_NOISE = 4.0


@dataclass(frozen=True, eq=False)
class StudyRun:
    """One arm on one cohort with one draw of the noise; no epsilon: without privacy."""

    seed: int
    arm: ArmKey
    epsilon: float | None
    repeat: int
    run: Run


def private_plan(settings: StudySettings, cohort: SeedCohort, epsilon: float) -> FederationPlan:
    """The demonstration's plan with the prior-free rule; all its releases together cost epsilon."""
    base = demo_plan(settings.demo(cohort.settings.seed, epsilon), cohort.members, "local")
    data = base.model_dump(mode="json")
    whole = base.privacy.noise_multiplier / math.sqrt(base.total_steps)
    data["calibration"] = {
        "rule": "prior_free",
        "noise_multiplier": round(_RULE_NOISE * whole, 4),
    }
    noise = calibrate_plan_noise(FederationPlan.parse(data), spare_rounds=SPARE_ROUNDS)
    data["privacy"]["noise_multiplier"] = round(noise, 4)
    return FederationPlan.parse(data)


def study_runs(
    settings: StudySettings, cohort: SeedCohort, folder: Path, done: Callable[[], None]
) -> Iterator[StudyRun]:
    """Every run on one cohort; those that ``folder`` holds from before are not repeated."""
    seed = cohort.settings.seed
    for baseline in baseline_arms(cohort.hospitals, cohort.truth, cohort.plan.task.labels):
        yield StudyRun(seed, _baseline_key(baseline), None, 0, _joined(cohort, baseline))
    plans: list[tuple[float | None, FederationPlan, int]] = [(None, cohort.plan, 1)]
    plans += [(e, private_plan(settings, cohort, e), settings.repeats) for e in settings.epsilons]
    for epsilon, plan, repeats in plans:
        for repeat in range(repeats):
            for arms, train in ((_together(plan), _federated), ((_ALONE,), train_alone)):
                paths = [folder / f"{plan.digest[:16]}-{arm}-{repeat}.npz" for arm in arms]
                found = [kept(path) for path in paths]
                if not all(found):
                    trained = train(cohort, plan)
                    found = [trained[arm] for arm in arms]
                    for path, arm in zip(paths, arms, strict=True):
                        keep(path, trained[arm])
                for arm, run in zip(arms, found, strict=True):
                    assert run is not None
                    yield StudyRun(seed, arm, epsilon, repeat, run)
                done()


_ALONE: ArmKey = "alone"


def _together(plan: FederationPlan) -> tuple[ArmKey, ...]:
    return ("federated", "prior_free") if plan.privacy.mode != "none" else ("federated",)


def count_runs(settings: StudySettings) -> int:
    """How many trained runs one cohort takes."""
    return 2 * (1 + len(settings.epsilons) * settings.repeats)


def _federated(cohort: SeedCohort, plan: FederationPlan) -> dict[ArmKey, Run]:
    """All hospitals together; in a private plan also with the prior-free decision rule."""
    model = cohort.model
    sites = {h.name: h.train for h in cohort.hospitals if not h.held_out}
    shared = train_rounds(model, dict(cohort.initial), sites, plan)
    out: dict[ArmKey, Run] = {"federated": _everywhere(cohort, shared)}
    if plan.privacy.mode != "none":
        model.load_shared(shared)
        model.reset_site()
        released = {
            name: released_statistics(model, patients, plan, "calibrate")
            for name, patients in sites.items()
        }
        offsets = aggregated_offsets(released, plan).values
        corrected = decode_arrays(with_offsets(encode_arrays(shared), offsets, plan))
        out["prior_free"] = _everywhere(cohort, corrected)
    return out


def _everywhere(cohort: SeedCohort, shared: Arrays) -> Run:
    found = predict_everywhere(cohort.model, shared, cohort.hospitals)
    seen = Predictions.join([found[h.name] for h in cohort.hospitals if not h.held_out])
    unseen = Predictions.join([found[h.name] for h in cohort.hospitals if h.held_out])
    return {"seen": Predicted.of([seen]), "unseen": Predicted.of([unseen])}


def train_alone(cohort: SeedCohort, plan: FederationPlan) -> dict[ArmKey, Run]:
    """Each hospital by itself under the same plan, hence the same epsilon; tested at home.

    The unseen hospital asks every one of these models: utility there is their mean.
    """
    arm = alone_arm(cohort.model, cohort.initial, cohort.hospitals, plan)
    own = [arm.predictions[h.name] for h in cohort.hospitals if not h.held_out]
    held_out = [arm.predictions[h.name] for h in cohort.hospitals if h.held_out]
    # At each unseen hospital the predictions of all the models follow one another.
    abroad = [
        Predictions.join([models[k] for models in map(by_model, held_out)]) for k in range(len(own))
    ]
    home = Predicted.of([Predictions.join(own)])
    return {"alone": {"seen": home, "unseen": Predicted.of(abroad)}}


def _joined(cohort: SeedCohort, arm: ArmResult) -> Run:
    parts: dict[bool, list[Predictions]] = {False: [], True: []}
    for hospital in cohort.hospitals:
        parts[hospital.held_out].append(arm.predictions[hospital.name])
    seen, unseen = (Predictions.join(parts[held_out]) for held_out in (False, True))
    return {"seen": Predicted.of([seen]), "unseen": Predicted.of([unseen])}


def _baseline_key(arm: ArmResult) -> ArmKey:
    keys: dict[str, ArmKey] = {
        "prior": "prior", "demographics": "demographics", "volumes": "volumes",
    }  # fmt: skip
    return keys[arm.key]
