"""Sites whose patients have quadratic losses, so that every method has a closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from client.training.examples import PatientExamples
from client.training.site_model import SiteModel
from shared_model.plan import FederationPlan

SIZE = 3


@dataclass(frozen=True)
class Point:
    """``theta`` for each of B scans, and the scans themselves."""

    logits: Tensor
    scans: Tensor


class Quadratic(nn.Module):
    """Its only parameter is the point theta; a scan is ``[curvature, minimum]``, ``(2 SIZE,)``."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(SIZE))

    def forward(self, x: Tensor) -> Point:
        return Point(self.theta.expand(len(x), SIZE), x)


def loss(output: Point, labels: Tensor) -> Tensor:
    """``1/2 sum a (theta - b)^2`` of each scan."""
    curvature, minimum = output.scans[:, :SIZE], output.scans[:, SIZE:]
    return 0.5 * (curvature * (output.logits - minimum).square()).sum(1)


def use_quadratic_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds minimise these instead of the cross entropy."""
    monkeypatch.setattr("client.training.rounds.site_loss", lambda *_: loss)


def patient(curvature: Any, minimum: Any, name: str = "p") -> PatientExamples:
    parts = [np.broadcast_to(np.asarray(part, np.float32), SIZE) for part in (curvature, minimum)]
    scan = torch.from_numpy(np.concatenate(parts))[None]
    return PatientExamples(name, scan, torch.zeros(1, dtype=torch.int64))


def quadratic_plan(*sites: str, declared: int = 1, **sections: Any) -> FederationPlan:
    entries = [{"name": name, "declared_patients": declared} for name in sites or ("a",)]
    training = {"rounds": 5, "local_steps": 10, "learning_rate": 0.05}
    return FederationPlan.parse(
        {
            "name": "quadratic",
            "privacy": sections.pop("privacy", {"mode": "none"}),
            "training": training | sections.pop("training", {}),
            "adaptation": {"site_norm": "off", "personalise": "never"},
            "federation": {"sites": entries} | sections.pop("federation", {}),
            **sections,
        }
    )


def quadratic_model(plan: FederationPlan, theta: Any = 0.0) -> SiteModel:
    site_model = SiteModel(Quadratic(), plan)
    site_model.load_shared(arrays(theta))
    return site_model


def arrays(theta: Any) -> dict[str, np.ndarray]:
    return {"theta": np.broadcast_to(np.asarray(theta, np.float32), SIZE).copy()}
