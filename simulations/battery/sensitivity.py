"""Item 6: one patient moves what is noised by at most C, for every combination of the layers."""

from __future__ import annotations

import itertools

import torch

from client.training.rounds import private_engine
from client.training.site_loss import site_loss
from client.training.site_shift import shift_site
from shared_model.adaptation.moments import SiteMoments
from shared_model.plan import FederationPlan
from simulations.battery.aligned_rounds import released_moments
from simulations.battery.result import BatteryResult
from simulations.battery.seed import BatterySeed

_PATIENTS = 6
_CLIP = 1e-2


def sensitivity_result(data: BatterySeed) -> BatteryResult:
    """Leave each of some real patients out, at every site, under moments that were released."""
    worst, least, count = 0.0, float("inf"), 0
    for use, personal, clipping in itertools.product(
        ("off", "confusion", "linear", "shift", "affine"),
        ("never", "private"),
        ("fixed", "adaptive"),
    ):
        if use in ("shift", "affine") and personal == "private":
            continue
        plan = _private(data.plan, use, personal, clipping)
        case, moments = data.for_plan(plan), None
        if use != "off":
            sites = {name: hospital.train for name, hospital in data.hospitals.items()}
            moments = released_moments(case.model, dict(data.initial), sites, plan)
        for name in data.hospitals:
            moves = _moves(case, plan, name, moments)
            worst, least, count = max(worst, *moves), min(least, *moves), count + len(moves)
    return BatteryResult(
        name="sensitivity of every switch",
        bar="removing any patient moves the clipped sum by at most C",
        figures={"largest move over C": worst, "smallest": least, "removals": count},
        passed=worst <= 1 and least > 0,
        note="off, confusion, linear, shift, affine; residual at zero or trained; fixed, adaptive "
        "clipping",
    )


def _moves(
    data: BatterySeed, plan: FederationPlan, site: str, moments: dict[str, SiteMoments] | None
) -> list[float]:
    model = data.model
    model.load_shared(data.initial)
    model.reset_site()
    if moments is not None and plan.adaptation.moments_set_the_residual:
        shift_site(model, site, moments)
    trained = model.groups["shared"]
    if plan.adaptation.personalise == "private":
        trained = (*trained, *model.groups["site"])
    model.train_only(trained)
    loss = site_loss(plan, site, moments)
    engine = private_engine(model, trained, plan, site, _CLIP, loss, None)
    people = data.hospitals[site].train[:_PATIENTS]
    everybody = engine.clipped_sum(people).clone()
    moves = []
    for i in range(len(people)):
        others = engine.clipped_sum([*people[:i], *people[i + 1 :]])
        moves.append(float(torch.linalg.vector_norm(everybody - others)) / _CLIP)
    engine.close()
    model.reset_site()
    return moves


def _private(plan: FederationPlan, use: str, personalise: str, clipping: str) -> FederationPlan:
    data = plan.model_dump(mode="json")
    data["privacy"] |= {
        "mode": "local", "noise_multiplier": 1.0, "clipping_norm": _CLIP, "clipping": clipping,
    }  # fmt: skip
    data["adaptation"] |= {
        "site_moments": use,
        "personalise": personalise,
        "moments_weight": 1.0,
        "moments_noise_multiplier": 0.0 if use == "off" else 1.0,
    }
    return FederationPlan.parse(data)
