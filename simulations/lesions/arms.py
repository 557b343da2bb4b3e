"""How each arm of the study comes by its model, and what it scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from client.agent.lesion_evaluation import lesion_scores
from client.agent.state import StateFolder
from client.config import SiteConfig
from client.privacy.ledger import Ledger
from client.training.examples import PatientExamples
from client.training.site_model import SiteModel
from server.rounds.releases import released_body
from shared_model.atlas.atlas import Atlas
from shared_model.metrics.lesion_summary import (
    SegmentedScan,
    detection_summary,
    segmentation_summary,
)
from shared_model.metrics.lesionwise import lesion_counts
from shared_model.metrics.overlap import dice, hausdorff_95_mm, volume_error_ml
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import Arrays, decode_arrays
from simulations.arms.train_rounds import train_rounds
from simulations.federation.run import open_run, run_in_process
from simulations.federation.workspace import Workspace
from simulations.lesions.hospitals import Hospital, joined
from simulations.lesions.threshold import Threshold, scans

DRAWS = 1000


def federated(plan: FederationPlan, workspace: Workspace, run: Path, atlas: Atlas) -> Arrays:
    """The released parameters of a run with the hospitals' real agents."""
    initial = SiteModel.build(plan, atlas).shared_arrays()
    directory = open_run(run, plan, initial, run.name)
    run_in_process(plan, workspace, directory, atlas)
    return decode_arrays(released_body(directory))


def centralised(plan: FederationPlan, examples: Sequence[PatientExamples], atlas: Atlas) -> Arrays:
    """The parameters after the plan's rounds at its only site."""
    model = SiteModel.build(plan, atlas)
    (site,) = plan.federation.sites
    return train_rounds(model, model.shared_arrays(), {site.name: examples}, plan)


def spent_epsilon(plan: FederationPlan, workspace: Workspace) -> float:
    """The most that a hospital's ledger says."""
    return max(
        Ledger(StateFolder(SiteConfig.load(workspace.site_config(name)).state_dir).ledger).spent(
            plan.privacy.delta
        )
        for name in plan.weights
    )


def scored(
    plan: FederationPlan, shared: Arrays, atlas: Atlas, these: Sequence[Hospital]
) -> dict[str, Any]:
    """Figures at the hospitals that trained, and at the unseen one."""
    model = SiteModel.build(plan, atlas)
    model.load_shared(dict(shared))
    return {
        where: lesion_scores(model, joined(these, "test", unseen=unseen), DRAWS, 0)
        for where, unseen in (("seen", False), ("unseen", True))
    }


def threshold_scored(
    threshold: Threshold, these: Sequence[Hospital], spacing_mm: float, *, boxes: bool
) -> dict[str, Any]:
    """The same figures of the threshold."""
    out = {}
    for where, unseen in (("seen", False), ("unseen", True)):
        known = list(scans(joined(these, "test", unseen=unseen)))
        if boxes:
            from shared_model.metrics.boxes import boxes_of

            out[where] = detection_summary(
                [threshold.found(volume) for _, volume, _ in known],
                [boxes_of(numbers) for _, _, numbers in known],
                np.array([row for row, _, _ in known], dtype=np.int64),
                DRAWS,
                0,
            )
            continue
        rows = []
        for row, volume, numbers in known:
            said, truth = threshold.mask(volume), numbers > 0
            rows.append(
                SegmentedScan(
                    row,
                    dice(said, truth),
                    hausdorff_95_mm(said, truth, spacing_mm),
                    volume_error_ml(said, truth, spacing_mm),
                    float(truth.sum() * spacing_mm**3 / 1000),
                    lesion_counts(said, numbers),
                )
            )
        out[where] = segmentation_summary(rows, DRAWS, 0)
    return out
