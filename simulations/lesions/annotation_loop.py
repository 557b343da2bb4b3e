"""One round of automated annotation: propose, filter, correct, train again, and what it gains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from client.agent.lesion_evaluation import lesion_scores
from client.annotation.propose import Proposal, propose
from client.training.examples import PatientExamples
from client.training.site_model import SiteModel
from shared_model.atlas.atlas import Atlas
from shared_model.metrics.overlap import dice
from shared_model.protocol.arrays import Arrays
from simulations.arms.train_rounds import train_rounds
from simulations.lesions.arms import DRAWS
from simulations.lesions.plans import Schedule, lesion_plan

#: A proposal is right where its Dice with the truth is at least this.
RIGHT = 0.8
_SCANS = 3  # per step


@dataclass(frozen=True, eq=False)
class _Proposed:
    patient: PatientExamples
    proposal: Proposal
    dice: float


def annotation_round(
    train: Sequence[PatientExamples],
    test: Sequence[PatientExamples],
    atlas: Atlas,
    schedule: Schedule,
    marked: int,
    corrected: int,
) -> dict[str, Any]:
    """Figures of one round in one place.

    ``marked`` patients have masks. A network trained on them proposes masks for the others; those
    that pass the filter join as they are, and a person corrects the ``corrected`` least sure ones
    (here: the truth). Every second training goes on from the first for as many rounds, the one
    without new masks too, so that longer training is no gain.
    """
    plan = lesion_plan(
        "unet", {"pooled": marked}, schedule, sampling_rate=min(1.0, _SCANS / marked)
    )
    model = SiteModel.build(plan, atlas)
    first = train_rounds(model, model.shared_arrays(), {"pooled": train[:marked]}, plan)
    model.load_shared(first)
    proposed = [_proposed(model, patient) for patient in train[marked:]]
    proposed.sort(key=lambda one: one.proposal.confidence)
    least, rest = proposed[:corrected], proposed[corrected:]
    kept = [one for one in rest if one.proposal.confident]
    pseudo = [_as_example(one) for one in kept]
    sets = {
        "marked only": list(train[:marked]),
        "with confident proposals": [*train[:marked], *pseudo],
        "with proposals and corrections": [
            *train[:marked], *pseudo, *(one.patient for one in least)
        ],
    }  # fmt: skip
    out: dict[str, Any] = {
        "marked": marked,
        "proposed": len(proposed),
        "dice_of_proposals": _mean([one.dice for one in proposed]),
        "confident": sum(one.proposal.confident for one in proposed),
        "precision_of_confident": _share([o.dice for o in proposed if o.proposal.confident]),
        "precision_of_others": _share([o.dice for o in proposed if not o.proposal.confident]),
        "corrected": len(least),
        "first": _scores(model, first, test),
    }
    for name, examples in sets.items():
        again = lesion_plan(
            "unet",
            {"pooled": len(examples)},
            schedule,
            sampling_rate=min(1.0, _SCANS / len(examples)),
            seed=1,
        )
        trained = train_rounds(model, dict(first), {"pooled": examples}, again)
        out[name] = {"patients": len(examples), **_scores(model, trained, test)}
    return out


def _proposed(model: SiteModel, patient: PatientExamples) -> _Proposed:
    (inputs, targets), *_ = patient.chunks()
    (proposal,) = propose(model, inputs)
    value = dice(proposal.mask, targets[0].cpu().numpy() > 0)
    # Nothing proposed where there is nothing: right.
    return _Proposed(patient, proposal, 1.0 if np.isnan(value) else value)


def _as_example(one: _Proposed) -> PatientExamples:
    mask = torch.from_numpy(one.proposal.mask.astype(np.int16))[None]
    return PatientExamples(one.patient.id, one.patient.inputs, mask)


def _scores(model: SiteModel, shared: Arrays, test: Sequence[PatientExamples]) -> dict[str, Any]:
    model.load_shared(dict(shared))
    found = lesion_scores(model, test, DRAWS, 0)
    return {key: found[key] for key in ("dice", "dice_95", "lesion_f1")}


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _share(values: Sequence[float]) -> float | None:
    return float(np.mean([value >= RIGHT for value in values])) if values else None
