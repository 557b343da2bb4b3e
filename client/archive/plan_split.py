"""The split that a plan asks for."""

from __future__ import annotations

from collections.abc import Sequence

from client.archive.patients import Patient
from client.archive.split import Split, split_patients
from client.archive.stratified import split_stratified
from shared_model.plan import FederationPlan


def split_by_plan(patients: Sequence[Patient], plan: FederationPlan) -> Split:
    """Training and test patients; raises SMR-E230, E231, and E234 (stratified with privacy)."""
    fraction, seed = plan.evaluation.test_fraction, plan.seed
    if plan.evaluation.split == "stratified":
        return split_stratified(patients, fraction, seed, plan.privacy.mode)
    return split_patients(patients, fraction, seed)
