"""One round of local training: from the round's global parameters to the update that may leave."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from client.privacy.composition import refuse_unsound, site_moves_in_rounds
from client.training.adaptive_clip import AdaptiveClip
from client.training.augmentation.patients import AugmentedPatients
from client.training.augmentation.views import PlannedViews
from client.training.data_free import NO_TERMS, DataFreeGradient, SiteTerms, updated_own_control
from client.training.deterministic import deterministic, secret_draws
from client.training.examples import PatientExamples
from client.training.flat_parameters import FlatParameters
from client.training.layered_rates import rate_vector
from client.training.patient_gradients import patient_gradients
from client.training.patient_loss import PatientLoss
from client.training.patient_sgd import PatientSGD
from client.training.plain_sgd import PlainSGD
from client.training.precision import in_precision
from client.training.site_loss import site_loss
from client.training.site_model import SiteModel
from shared_model.adaptation.moments import SiteMoments
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.privacy.secure_random import SecureRandom, SeededRandom

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedRound:
    """What a round of training gives.

    Attributes:
        delta: update (site minus global) of every shared parameter, float32, by name.
        metrics: mode ``none`` only: ``train_loss`` (mean over drawn patients, before each step) and
            ``drawn_patients`` (mean per step). Empty in mode ``local``: each would be a release.
        clipping_norm: where adaptive clipping arrived, for the next round at this site; it was
            computed from noised counts only. Otherwise the plan's.
        own: MR-MTL: where the site's own copy of the shared parameters arrived.
        own_control: SCAFFOLD: the site's control variate after the round.
    """

    delta: dict[str, npt.NDArray[np.float32]]
    metrics: dict[str, float] = field(default_factory=dict)
    clipping_norm: float = math.nan
    own: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    own_control: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)


def train_round(
    site_model: SiteModel,
    examples: Sequence[PatientExamples],
    plan: FederationPlan,
    site_name: str,
    round_number: int,
    run_id: str,
    clipping_norm: float | None = None,
    moments: Mapping[str, SiteMoments] | None = None,
    terms: SiteTerms = NO_TERMS,
) -> TrainedRound:
    """Take the round's local steps from the shared parameters that ``site_model`` holds.

    In mode ``local`` the update is ``(epsilon, delta)``-DP for add-or-remove-one patient as the
    ledger accounts ``release_use(plan, "train")``; the caller reserves it first. In mode ``none``
    the update is the same, bit for bit, for equal plan, site, round, parameters and examples.

    Site parameters are at their public values throughout, unless the plan moves them in the rounds
    (:mod:`client.privacy.composition`): the model then holds those to start from, and afterwards
    those that the hospital keeps. Under ``personalise = "private"`` they and the shared parameters
    are one vector: one clip, and noise of ``sigma C`` on every number of it, so that site
    parameters are as noised as if they were released, and may steer the next release.
    LIMIT: this is right because the noise of mode ``local`` is this site's own. Under secure
    aggregation a site adds a share of the noise to what it sends, and the site part would need the
    full ``sigma C`` all the same.

    Under adaptive clipping ``clipping_norm`` is where the site's last round of this run arrived;
    none: the plan's, as in the first round. ``moments`` are those of the newest release of layer B.

    ``terms`` are what the plan's aggregation keeps at the site (:mod:`client.training.data_free`).
    Under MR-MTL the steps start from the site's own copy; what leaves is that copy minus the
    round's global parameters, so that the mean of the sites' models comes out at the server. It is
    a function of the noised steps of all rounds so far: post-processing.

    Raises SMR-E104 (site not in the plan), SMR-E304 (the plan voids its own guarantee) and SMR-E318
    (modes ``distributed`` and ``central``: :func:`client.training.shared_sum.shared_sum`).
    """
    refuse_unsound(plan)
    _refuse_summed(plan)
    names = site_model.groups["shared"]
    trained = site_model.trained(plan)
    if not site_moves_in_rounds(plan):
        # The composition rule: what was fitted to patients without noise must not steer a release.
        site_model.reset_site()
    site_model.train_only(trained)
    site_model.model.train()
    before = site_model.shared_arrays()
    pull = DataFreeGradient.of(plan, site_model, trained, terms)
    if terms.own is not None:
        site_model.load_shared(terms.own)
    metrics: dict[str, float] = {}
    norm = plan.privacy.clipping_norm if clipping_norm is None else clipping_norm
    loss = site_loss(plan, site_name, moments)
    if plan.privacy.mode == "none":
        metrics = _train_plainly(
            site_model, trained, examples, plan, site_name, round_number, loss, pull
        )
    else:
        engine = private_engine(site_model, trained, plan, site_name, norm, loss, pull)
        with secret_draws(site_model.device):
            for patients in _steps(examples, plan, round_number):
                engine.step(patients)
        engine.close()
        norm = engine.clipping_norm
        if engine.zeroed_patients:
            _log.warning(
                "run %s, round %d: %d patient gradients were not finite and counted as zero",
                run_id, round_number, engine.zeroed_patients,
            )  # fmt: skip
    if plan.adaptation.personalise == "private":
        _shrink_residual(site_model, plan)
    after = site_model.shared_arrays()
    delta = {name: after[name] - before[name] for name in names}
    control = {}
    if plan.aggregation.control_variates:
        path = plan.training.local_steps * plan.training.learning_rate
        control = updated_own_control(delta, terms, path)
    own = after if plan.aggregation.multi_task_lambda is not None else {}
    return TrainedRound(delta, metrics, norm, own, control)


def _refuse_summed(plan: FederationPlan) -> None:
    if plan.privacy.summed:
        raise SmrfedError(
            "SMR-E318",
            f"in privacy mode {plan.privacy.mode!r} no update of one site may leave",
            expected="this site's integers in a masked sum over all sites",
            found="a question for an update",
            remedy="run the same smrfed version at coordinator and sites",
        )


def _shrink_residual(site_model: SiteModel, plan: FederationPlan) -> None:
    """The steps of ``(penalty / 2) ||residual||^2``: data-free, so they come after the noise."""
    if plan.adaptation.site_norm != "residual":
        return
    step = plan.training.learning_rate * plan.adaptation.personalise_penalty
    with torch.no_grad():
        for parameter in site_model.parameters(site_model.groups["site"]):
            parameter.mul_(max(0.0, 1 - step) ** plan.training.local_steps)


def _steps(
    examples: Sequence[PatientExamples], plan: FederationPlan, round_number: int
) -> Iterator[Sequence[PatientExamples]]:
    """The patients as each local step of a round sees them."""
    views = PlannedViews.of(plan)
    for step in range(plan.training.local_steps):
        yield (
            examples if views is None else AugmentedPatients(examples, views, round_number, step)
        )


def private_engine(
    site_model: SiteModel,
    trained: Sequence[str],
    plan: FederationPlan,
    site_name: str,
    clipping_norm: float,
    loss: PatientLoss,
    pull: DataFreeGradient | None,
) -> PatientSGD:
    """The engine of a private round, for the parameters ``trained`` by name."""
    flat = FlatParameters(site_model.parameters(trained))
    return PatientSGD(
        flat,
        patient_gradients(site_model, trained, flat, loss),
        sampling_rate=plan.training.sampling_rate,
        declared_patients=plan.site(site_name).declared_patients,
        noise_multiplier=plan.privacy.noise_multiplier,
        clipping_norm=clipping_norm,
        learning_rate=plan.training.learning_rate,
        weight_decay=plan.training.weight_decay,
        random=SecureRandom(),
        adaptive=AdaptiveClip.of(plan.privacy),
        data_free=pull,
        rate_factors=rate_vector(site_model, trained, plan),
    )


def _train_plainly(
    site_model: SiteModel,
    trained: Sequence[str],
    examples: Sequence[PatientExamples],
    plan: FederationPlan,
    site_name: str,
    round_number: int,
    loss: PatientLoss,
    pull: DataFreeGradient | None,
) -> dict[str, float]:
    engine = PlainSGD(
        in_precision(site_model),
        site_model.parameters(trained),
        sampling_rate=plan.training.sampling_rate,
        declared_patients=plan.site(site_name).declared_patients,
        learning_rate=plan.training.learning_rate,
        weight_decay=plan.training.weight_decay,
        random=SeededRandom(plan.seed, site_name, round_number, "patients"),
        loss=loss,
        data_free=pull,
        rate_factors=rate_vector(site_model, trained, plan),
    )
    with deterministic(
        site_model.device, SeededRandom(plan.seed, site_name, round_number, "dropout")
    ):
        steps = [engine.step(patients) for patients in _steps(examples, plan, round_number)]
    engine.close()
    drawn = sum(count for _, count in steps)
    metrics = {"drawn_patients": drawn / len(steps)}
    if drawn:
        metrics["train_loss"] = sum(loss for loss, _ in steps) / drawn
    return metrics
