"""The plan's switches of local objectives, aggregation rule and server optimiser."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

AggregationRule = Literal["mean", "median", "trimmed_mean", "krum"]
ServerOptimizer = Literal["sgd", "adam", "yogi"]


class AggregationSection(BaseModel):
    """FedAvg by default; docs/aggregation.md has each method's equations, cost and use.

    Nothing here costs privacy: the terms at the site look at no patient and come after the noise,
    and what the server does with updates is post-processing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rule: AggregationRule = Field(
        default="mean",
        description="mean: exact weighted sum; median and trimmed_mean: of each coordinate; krum: "
        "the one update that is closest to the others. All but the mean keep every update until "
        "the round closes",
    )
    faulty_sites: int = Field(
        default=0,
        ge=0,
        description="sites that may send anything: trimmed_mean drops so many values at either end "
        "of every coordinate, krum is exact about it; for these two rules only",
    )
    norm_bound: float | None = Field(
        default=None,
        gt=0,
        description="largest L2 norm of a site's whole update; a site with a longer one is set "
        "aside for the round; none: unbounded",
    )
    server_optimizer: ServerOptimizer = Field(
        default="sgd", description="what steps on the aggregated update (Reddi et al. 2021)"
    )
    beta1: float = Field(default=0.9, ge=0, lt=1, description="decay of the first moment")
    beta2: float = Field(default=0.99, ge=0, lt=1, description="decay of the second moment")
    tau: float = Field(default=1e-3, gt=0, description="added to the root of the second moment")
    proximal_mu: float = Field(
        default=0.0,
        ge=0,
        description="FedProx: weight of (1/2)||theta - theta_t||^2 in the local objective, where "
        "theta_t are the round's global parameters",
    )
    control_variates: bool = Field(
        default=False,
        description="SCAFFOLD, option II: every local step is corrected by the difference between "
        "the common and the site's own mean gradient",
    )
    multi_task_lambda: float | None = Field(
        default=None,
        ge=0,
        description="MR-MTL: every site keeps its own copy of the shared parameters, drawn by (1/2)"
        " lambda ||theta_k - theta_bar||^2 to their mean, which is what is released",
    )
