"""What a hospital keeps of a finished run: the released model, its own residual, its own scores."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from client.agent.aggregation_rounds import own_model
from client.agent.durable import write_durably
from client.agent.evaluation import scores_of_task
from client.agent.site_data import SiteData
from client.agent.site_rounds import place_site
from client.training.personalise import personalise
from client.training.site_model import SiteModel
from shared_model.adaptation.wire import Carried
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import Arrays, encode_arrays

GLOBAL = "global.safetensors"
SITE = "site.safetensors"
EVALUATION = "evaluation.json"

_log = logging.getLogger(__name__)


def keep_final_model(
    folder: Path,
    plan: FederationPlan,
    model: SiteModel,
    data: SiteData,
    shared: Arrays,
    round_number: int,
    carried: Carried | None = None,
) -> None:
    """Store the released model, fit the site parameters after it, and score both locally.

    Writes ``global.safetensors`` (shared parameters), ``site.safetensors`` (site parameters, and
    under MR-MTL the hospital's own copy of the shared ones, if the plan has any) and
    ``evaluation.json`` to ``folder``. The first is written before any patient is looked at, so that
    the hospital has the model even when its archive cannot be read. The site parameters and the
    scores depend on patients without noise: neither ever leaves.
    """
    write_durably(folder / GLOBAL, encode_arrays(shared))
    model.load_shared(shared)
    place_site(folder, model, data.site, round_number, carried, trains=False)
    train, test = data.train, data.test
    report = {"plan_digest": plan.digest, "test_patients": len(test), "global": None}
    draws = plan.evaluation.bootstrap_draws
    if test:
        report["global"] = scores_of_task(model, test, draws, plan.seed)
    copy = own_model(folder, round_number + 1)
    if model.groups["site"] or copy is not None:
        own = personalise(model, train, plan) | dict(copy or {})
        model.load_own(own)
        write_durably(folder / SITE, encode_arrays(own))
        report["personalised"] = scores_of_task(model, test, draws, plan.seed) if test else None
    write_durably(folder / EVALUATION, json.dumps(report, indent=1, allow_nan=False).encode())
    _log.info("stored the released model and its local evaluation in %s", folder)
