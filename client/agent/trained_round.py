"""The training of one round at a site, by the plan's privacy mode, with what it leaves on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from client.agent.aggregation_rounds import store_terms
from client.agent.clip_rounds import restore_clip, store_clip
from client.agent.replies import Question
from client.agent.site_rounds import store_site
from client.privacy.composition import site_trains_in_rounds
from client.training.data_free import SiteTerms
from client.training.examples import PatientExamples
from client.training.rounds import train_round
from client.training.shared_sum import shared_sum
from client.training.site_model import SiteModel
from shared_model.adaptation.wire import Carried
from shared_model.protocol.arrays import Arrays


@dataclass(frozen=True)
class TrainedUpdate:
    """An update, its metrics, and of how many drawn patients they are."""

    arrays: Arrays
    metrics: Mapping[str, float]
    drawn: int


def trained_update(
    folder: Path,
    model: SiteModel,
    site: str,
    examples: Sequence[PatientExamples],
    question: Question,
    carried: Carried | None,
    terms: SiteTerms,
) -> TrainedUpdate:
    """Modes ``local`` and ``none``: :func:`client.training.rounds.train_round`, kept in folder."""
    plan = model.plan
    trained = train_round(
        model,
        examples,
        plan,
        site,
        question.round,
        question.run_id,
        restore_clip(folder, question.round),
        None if carried is None else carried.moments(plan),
        terms,
    )
    store_terms(folder, trained, question.round)
    if plan.privacy.clipping == "adaptive":
        store_clip(folder, trained.clipping_norm, question.round)
    if site_trains_in_rounds(plan):
        store_site(folder, model, question.round)
    drawn = int(trained.metrics.get("drawn_patients", 0))
    return TrainedUpdate(trained.delta, trained.metrics, drawn)


def masked_sum(
    model: SiteModel,
    site: str,
    examples: Sequence[PatientExamples],
    question: Question,
    carried: Carried | None,
) -> dict[str, npt.NDArray[np.int64]]:
    """Modes ``distributed`` and ``central``: :func:`shared_sum`, which may leave masked only."""
    moments = None if carried is None else carried.moments(model.plan)
    return shared_sum(model, examples, model.plan, site, question.round, question.run_id, moments)
