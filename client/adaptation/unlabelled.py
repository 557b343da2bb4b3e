"""A hospital's scans as a released model sees them, without any diagnosis."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from client.agent.evaluation import mean_deviations, mean_probabilities
from client.archive.bids import survey_bids_archive
from client.archive.labels import LabelMapping
from client.prepared.store import PreparedStore
from client.training.examples import patient_examples
from client.training.site_model import SiteModel
from shared_model.adaptation.scores import Floats
from shared_model.atlas.select import load_atlas
from shared_model.errors import SmrfedError
from shared_model.exported import ExportedModel

_log = logging.getLogger(__name__)
# Diagnoses are not looked at: any mapping will do.
_NO_LABELS = LabelMapping(values={"none": ("none",)}, missing_images="skip")


@dataclass(frozen=True, eq=False)
class UnlabelledPatients:
    """What the model says about N patients.

    Attributes:
        ids: participant identifiers; never leave the hospital.
        scans: ``N`` counts.
        probabilities: ``(N, C)`` mean over a patient's scans.
        deviation: ``(N,)`` see :func:`client.agent.evaluation.mean_deviations`.
        excluded: scans that cannot be used, with the number of the reason.
    """

    ids: tuple[str, ...]
    scans: tuple[int, ...]
    probabilities: Floats
    deviation: Floats | None
    excluded: tuple[str, ...]


def read_unlabelled(
    model: ExportedModel,
    archive: Path,
    folder: Path,
    device: torch.device,
    weights_folders: tuple[Path, ...] = (),
    progress: Callable[[int, int], None] | None = None,
) -> UnlabelledPatients:
    """Prepare the scans of a BIDS archive as the plan says and ask the model as released.

    Prepared scans and tokens are kept in ``folder`` for the next call. Raises SMR-E392 for a plan
    of native scans; SMR-E203 to E240 for the archive, SMR-E621 and E627 for the atlas, SMR-E105 for
    public weights, and SMR-E330 where the parameters do not fit the plan's model.
    """
    plan = model.plan
    if plan.input.preparation.source != "mni152":
        raise SmrfedError(
            "SMR-E392",
            f"plan {plan.name!r} takes native scans, which adapt does not prepare",
            expected='a plan with input.preparation.source = "mni152"',
            found=repr(plan.input.preparation.source),
            remedy="use the model as it was released, by smrfed-site prepare and evaluate",
        )
    survey = survey_bids_archive(archive, _NO_LABELS, ())
    atlas = load_atlas(plan.atlas, plan.input.grid)
    site_model = SiteModel.build(plan, atlas, weights_folders, device)
    site_model.load_shared(model.arrays)
    site_model.reset_site()
    store = PreparedStore(folder, plan.input.grid, plan.input.intensity)
    store.prepare(survey.patients, progress)
    examples = tuple(
        patient_examples(site_model, survey.patients, store, folder / "tokens", training=False)
    )
    _, p = mean_probabilities(site_model, examples)
    _log.info("the model has seen %d patients", len(examples))
    return UnlabelledPatients(
        tuple(patient.id for patient in survey.patients),
        tuple(len(patient.scans) for patient in survey.patients),
        p,
        mean_deviations(examples),
        tuple(
            f"{entry.code} {entry.subject} {entry.session}".strip() for entry in survey.exclusions
        ),
    )
