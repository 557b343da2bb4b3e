"""The trained models whose explanations are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from client.training.site_model import SiteModel
from shared_model.metrics import balanced_accuracy
from shared_model.plan import FederationPlan
from shared_model.smrnet.model import SMRNet
from simulations.arms.arm import Arrays, predict_everywhere
from simulations.arms.centralised import centralised_plan, shuffled, train_centralised
from simulations.arms.train_rounds import train_rounds
from simulations.demo.settings import demo_plan
from simulations.evaluation.predictions import Predictions
from simulations.explanation_study.subjects import StudyCohort
from simulations.smrnet_access import smrnet_of

# Another start: far from every seed of a cohort.
_OTHER_START = 1_000
#: The other architecture: no graph, scales mixed equally. It reads the same tokens.
OTHER_ARCHITECTURE = {"graph_blocks": 0, "fusion": "mean"}


@dataclass(frozen=True, eq=False)
class TrainedModels:
    """Shared parameters of one cohort's models, and the network that is not the cohort's own.

    Attributes:
        trained: pooled, without privacy.
        random_labels: the same with labels shuffled over all patients.
        other_start: the same from other initial weights.
        private: federated over the four hospitals, at the study's epsilon, several times: the
            noise is drawn anew in every training, whatever the seed.
        other_network: of another architecture, trained like the first.
        accuracy, accuracy_private: balanced accuracies on the seen hospitals' test patients; the
            private models' mean.
    """

    trained: Arrays
    random_labels: Arrays
    other_start: Arrays
    private: tuple[Arrays, ...]
    other_network: SMRNet
    accuracy: float
    accuracy_private: float


def train_models(
    study: StudyCohort, epsilon: float, private_models: int, progress: Callable[[str], None]
) -> TrainedModels:
    """Train all of them on the cohort's cached tokens; about half a minute each."""
    cohort, seed = study.cohort, study.cohort.plan.seed
    model, plan = cohort.model, cohort.plan
    examples = [patient for hospital in cohort.hospitals for patient in hospital.train]
    alone = centralised_plan(plan, "pooled", len(examples))

    progress(f"seed {seed}: trained model")
    trained = train_centralised(model, dict(cohort.initial), examples, alone)
    progress(f"seed {seed}: random labels")
    other_labels = shuffled(examples, seed)
    random_labels = train_centralised(model, dict(cohort.initial), other_labels, alone)
    progress(f"seed {seed}: other initial weights")
    elsewhere = SiteModel.build(_with_seed(plan, seed + _OTHER_START), cohort.atlas)
    other_start = train_centralised(model, elsewhere.shared_arrays(), examples, alone)
    progress(f"seed {seed}: other architecture")
    other = SiteModel.build(_other_architecture(alone), cohort.atlas)
    found = train_centralised(other, other.shared_arrays(), examples, other.plan)
    other.load_shared(dict(found))
    settings = cohort.settings.model_copy(update={"epsilon": epsilon})
    private_plan = demo_plan(settings, cohort.members, "local")
    sites = {h.name: h.train for h in cohort.hospitals if not h.held_out}
    private_model = SiteModel.build(private_plan, cohort.atlas)
    private = []
    for number in range(private_models):
        progress(f"seed {seed}: epsilon {epsilon:g}, model {number + 1} of {private_models}")
        private.append(train_rounds(private_model, dict(cohort.initial), sites, private_plan))
    return TrainedModels(
        trained,
        random_labels,
        other_start,
        tuple(private),
        smrnet_of(other).eval(),
        _accuracy(study, trained),
        float(np.mean([_accuracy(study, one) for one in private])),
    )


def _accuracy(study: StudyCohort, shared: Arrays) -> float:
    found = predict_everywhere(study.cohort.model, shared, study.cohort.hospitals)
    seen = [found[h.name] for h in study.cohort.hospitals if not h.held_out]
    joined = Predictions.join(seen)
    return float(np.float64(balanced_accuracy(joined.label, joined.probability)))


def _with_seed(plan: FederationPlan, seed: int) -> FederationPlan:
    return FederationPlan.parse(plan.model_dump(mode="json") | {"seed": seed})


def _other_architecture(plan: FederationPlan) -> FederationPlan:
    data = plan.model_dump(mode="json")
    data["model"]["config"] |= OTHER_ARCHITECTURE
    # The public weights hold the whole encoder and standardiser, which stay as they are.
    return FederationPlan.parse(data)
