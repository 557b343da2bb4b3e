"""The arms that train SMR-Net outside a federation: alone, pooled, and on shuffled labels.

In a private plan each of them pays the same epsilon as the federation does. Of modes
``distributed`` and ``central`` one party alone takes mode ``local``: there is nobody to add up
with, and the noise on its sum is the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from client.training.examples import PatientExamples
from client.training.site_model import SiteModel
from shared_model.plan import FederationPlan
from simulations.arms.arm import ArmResult, Arrays, LearningCurve, predict, predict_everywhere
from simulations.arms.centralised import (
    centralised_plan,
    one_site_plan,
    shuffled,
    train_centralised,
)
from simulations.arms.hospital import Hospital
from simulations.evaluation.predictions import Predictions


def alone_arm(
    model: SiteModel, initial: Arrays, hospitals: Sequence[Hospital], plan: FederationPlan
) -> ArmResult:
    """Each hospital trains by itself and tests at home; elsewhere all their models are asked.

    At a hospital that takes no part, the predictions of the K models follow one another: each
    patient counts once per model.
    """
    own: dict[str, Predictions] = {}
    visits: dict[str, list[Predictions]] = {h.name: [] for h in hospitals if h.held_out}
    for hospital in hospitals:
        if hospital.held_out:
            continue
        shared = _train(model, initial, hospital.train, plan, hospital.name)
        model.load_shared(dict(shared))
        own[hospital.name] = predict(model, hospital.test, hospital.name)
        for other in hospitals:
            if other.held_out:
                visits[other.name].append(predict(model, other.test, other.name))
    return ArmResult(
        "alone",
        "Each hospital alone",
        "SMR-Net trained by each hospital on its own patients only.",
        "alone",
        own | {name: Predictions.join(parts) for name, parts in visits.items()},
    )


def pooled_arm(
    model: SiteModel,
    initial: Arrays,
    hospitals: Sequence[Hospital],
    plan: FederationPlan,
    *,
    follow: bool = True,
) -> ArmResult:
    """All training patients in one place: what sharing the images would give."""
    train = [patient for hospital in hospitals for patient in hospital.train]
    curve = LearningCurve(model, hospitals) if follow else None
    shared = _train(model, initial, train, plan, "pooled", curve)
    return ArmResult(
        "pooled",
        "Pooled (images shared)",
        "SMR-Net trained on all hospitals' images in one place, which privacy law rarely allows.",
        "pooled",
        predict_everywhere(model, shared, hospitals),
        shared,
        curves={} if curve is None else curve.curves,
    )


def shuffled_arm(
    model: SiteModel, initial: Arrays, hospitals: Sequence[Hospital], plan: FederationPlan
) -> ArmResult:
    """The pooled arm with labels shuffled over everybody: must stay at chance.

    Shuffled inside each hospital, the labels would still tell the hospitals' prevalences.
    """
    everybody = [patient for hospital in hospitals for patient in hospital.train]
    train = shuffled(everybody, plan.seed)
    shared = _train(model, initial, train, plan, "shuffled")
    return ArmResult(
        "shuffled",
        "Control: shuffled labels",
        "SMR-Net trained pooled on labels that were shuffled between all patients.",
        "shuffled",
        predict_everywhere(model, shared, hospitals),
    )


def _train(
    model: SiteModel,
    initial: Arrays,
    examples: Sequence[PatientExamples],
    plan: FederationPlan,
    name: str,
    curve: LearningCurve | None = None,
) -> Arrays:
    schedule = _schedule(plan, name, len(examples))
    after_round = None if curve is None else curve.add
    return train_centralised(model, dict(initial), examples, schedule, after_round)


def _schedule(plan: FederationPlan, name: str, patients: int) -> FederationPlan:
    if plan.privacy.mode == "none":
        return centralised_plan(plan, name, patients)
    # With privacy the denominator is public: the declared number, not the true one.
    declared = {site.name: site.declared_patients for site in plan.federation.sites}
    return one_site_plan(plan, name, declared.get(name, sum(declared.values())))
