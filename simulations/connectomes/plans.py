"""The plans of the study: ConneX on the cohort's parcellation, with a public edge reference."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from client.training.site_model import SiteModel
from shared_model.atlas.atlas import Atlas
from shared_model.atlas.cache import write_atomically
from shared_model.connex.parcellation import parcellation_sha256
from shared_model.plan import FederationPlan
from shared_model.privacy.plan_cost import calibrate_plan_noise
from shared_model.protocol.arrays import encode_arrays
from shared_model.registry import default_groups
from simulations.connectomes.anatomy import make_anatomy
from simulations.connectomes.archive import GRID
from simulations.connectomes.people import make_cohort
from simulations.connectomes.spec import LABELS, ConnectomeSpec
from simulations.connectomes.tensors import connectomes_of

#: Seed of the people of the public cohort: none of them is at a hospital.
_PUBLIC_PEOPLE, _PUBLIC_SEED = 200, 9_999


def no_atlas(regions: int = 2) -> Atlas:
    """A stand-in for the plan's voxel atlas, which ConneX with ``regions`` does not look at."""
    labels = np.zeros(GRID.shape, np.int16)
    labels[10:20, 10:40, 10:30] = 1
    labels[24:34, 10:40, 10:30] = 2
    ring = np.ones((regions, regions), np.float32) - np.eye(regions, dtype=np.float32)
    return Atlas("unused", labels, GRID.affine, ("left", "right"), (-1, -1), ring)


@dataclass(frozen=True)
class StudyPlans:
    """Plans for cohorts on one anatomy.

    Attributes:
        spec: whose anatomy and regions count.
        weights: folder of the public reference.
        sha256: of the reference.
    """

    spec: ConnectomeSpec
    weights: Path
    sha256: str

    @classmethod
    def of(cls, spec: ConnectomeSpec, weights: Path) -> StudyPlans:
        """With a reference from one scanner's healthy people, none of whom is a patient."""
        public = spec.model_copy(
            update={
                "seed": _PUBLIC_SEED,
                "effect": 0.0,
                "sites": ("public",),
                "patients": _PUBLIC_PEOPLE,
                "missing": 0.0,
                "task": "main",
            }
        )
        plans = cls(spec, weights, "")
        model = plans.model(plans.plan({"public": _PUBLIC_PEOPLE}))
        people = make_cohort(public).sites["public"]
        profiles = model.tokenise(connectomes_of(people, spec.regions)).tensors()["profiles"]
        # The diagonal is off in every patient.
        deviation = profiles.std(0) + (profiles.std(0) == 0)
        body = encode_arrays(
            {
                "reference.deviation": deviation.numpy(),
                "reference.mean": profiles.mean(0).numpy(),
            }
        )
        digest = hashlib.sha256(body).hexdigest()
        write_atomically(weights / f"reference-{digest[:12]}.safetensors", body)
        return cls(spec, weights, digest)

    def plan(
        self,
        sites: Mapping[str, int],
        *,
        rounds: int = 60,
        epsilon: float | None = None,
        options: Mapping[str, Any] | None = None,
        frozen: Sequence[str] = (),
    ) -> FederationPlan:
        """FedAdam, one full-batch step per round, everybody's step in one update.

        Args:
            sites: declared patients by site.
            rounds: of one step each.
            epsilon: patient-level budget; none: without privacy.
            options: of the model.
            frozen: patterns of parameters that do not train in this plan.
        """
        groups = default_groups("connex", "residual").model_dump()
        groups["frozen"] = [*groups["frozen"], *frozen]
        names = make_anatomy(self.spec).names
        private = {"mode": "local", "epsilon": epsilon, "noise_multiplier": 1.0}
        data: dict[str, Any] = {
            "name": "connectomes",
            "task": {"labels": LABELS},
            "model": {
                "name": "connex",
                "config": {
                    "regions": len(names),
                    "parcellation_sha256": parcellation_sha256(names),
                    **(options or {}),
                },
            },
            "input": {"grid": {"spacing_mm": GRID.spacing_mm}},
            "groups": groups,
            "privacy": {"mode": "none"} if epsilon is None else private,
            "training": {
                "rounds": rounds,
                "learning_rate": 1.0,
                "server_learning_rate": 0.01,
            },
            "aggregation": {"server_optimizer": "adam", "tau": 1e-6},
            "adaptation": {"personalise": "never"},
            "federation": {
                "sites": [{"name": n, "declared_patients": count} for n, count in sites.items()]
            },
        }
        if self.sha256:
            data["model"]["weights_sha256"] = self.sha256
        plan = FederationPlan.parse(data)
        if epsilon is None:
            return plan
        data["privacy"]["noise_multiplier"] = calibrate_plan_noise(plan)
        return FederationPlan.parse(data)

    def model(self, plan: FederationPlan) -> SiteModel:
        """The plan's model with its public weights."""
        return SiteModel.build(plan, no_atlas(), (self.weights,))
