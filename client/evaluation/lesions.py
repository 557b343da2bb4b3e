"""Segmentation and detection that a hospital holds, on its own test patients, at the hospital."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from client.agent.durable import make_private_folder
from client.agent.lesion_evaluation import lesion_scores
from client.agent.site_data import training_device
from client.agent.state import StateFolder
from client.config import SiteConfig
from client.evaluation.held_model import HeldModel
from client.evaluation.lesion_page import lesion_page
from client.evaluation.local import NOTICE, TITLES, patients_at_site, with_own_parameters
from client.training.site_model import SiteModel
from shared_model.atlas.select import load_atlas
from shared_model.errors import SmrfedError
from shared_model.evaluation.table_file import write_text
from shared_model.plan import FederationPlan


@dataclass(frozen=True)
class LesionEvaluation:
    """Where it was written, and the figures by model."""

    page: Path
    json: Path
    figures: Mapping[str, Mapping[str, Any]]


def evaluate_lesions_at_site(
    config: SiteConfig,
    plan: FederationPlan,
    held: HeldModel,
    epsilon: float | None,
    draws: int,
    progress: Callable[[int, int], None] | None = None,
) -> LesionEvaluation:
    """Evaluate and write below ``state_dir/evaluations``, readable by the owner only.

    Raises SMR-E495 where no test patient is left, and what
    :func:`client.evaluation.local.predictions_at_site` raises.
    """
    model = SiteModel.build(
        plan,
        load_atlas(plan.atlas, plan.input.grid),
        config.weights_folders,
        training_device(config.device),
    )
    model.load_shared(held.shared)
    _, _, examples = patients_at_site(config, plan, model, progress)
    if not examples:
        raise SmrfedError(
            "SMR-E495",
            "there is nobody to evaluate this model on",
            expected="at least one test patient whose scans have lesion masks",
            found="none",
            remedy="mark more scans, or ask for a plan with a larger evaluation.test_fraction",
        )
    figures = {
        key: lesion_scores(model, examples, draws, plan.seed)
        for key in with_own_parameters(model, held)
    }
    folder = StateFolder(config.state_dir).evaluations / held.name
    make_private_folder(folder.parent)
    make_private_folder(folder)
    document = {
        "task": plan.task.kind,
        "plan": plan.name,
        "plan_digest": plan.digest,
        "model": held.name,
        "model_sha256": held.sha256,
        "smrfed": version("smrfed"),
        "grid_mm": plan.input.grid.spacing_mm,
        "spent_epsilon": epsilon,
        "bootstrap_draws": draws,
        "figures": figures,
    }
    write_text(folder / "MUST_NOT_LEAVE.txt", NOTICE)
    write_text(folder / "evaluation.json", json.dumps(document, indent=1, allow_nan=False))
    facts = [
        ("Task", plan.task.kind),
        ("Plan", f"{plan.name}, digest {plan.digest[:12]}"),
        ("Model", f"{held.name}, sha256 {held.sha256[:12]}"),
        ("Grid", f"{plan.input.grid.spacing_mm:g} mm"),
        ("Spent at this hospital", "no privacy" if epsilon is None else f"epsilon {epsilon:.2f}"),
    ]
    arms = {TITLES[key]: value for key, value in figures.items()}
    page = lesion_page(f"{config.name}: evaluation of {held.name}", NOTICE, facts, arms)
    write_text(folder / "evaluation.html", page)
    return LesionEvaluation(folder / "evaluation.html", folder / "evaluation.json", figures)
