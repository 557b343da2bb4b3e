"""Put the pieces of a finished demonstration together as the report's record."""

from __future__ import annotations

import platform
import subprocess
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

from shared_model.plan import FederationPlan
from simulations.arms.arm import ArmResult
from simulations.arms.federated_arms import FederatedRun
from simulations.arms.hospital import Hospital
from simulations.cohort.spec import CohortSpec, ScannerModel, SiteSpec
from simulations.evaluation.tables import comparisons, score_arm
from simulations.report.results import (
    Explanations,
    FederationReport,
    Phase,
    PlanSummary,
    RunFacts,
    SiteCohort,
    Versions,
)


def assemble(
    *,
    title: str,
    command: str,
    seed: int,
    spec: CohortSpec,
    hospitals: Sequence[Hospital],
    arms: Sequence[ArmResult],
    headline: FederatedRun,
    explanations: Explanations,
    phases: Sequence[Phase],
) -> FederationReport:
    """The report of a demonstration; scores and paired comparisons are computed here."""
    plan = headline.plan
    members = [hospital.name for hospital in hospitals if not hospital.held_out]
    held_out = [hospital.name for hospital in hospitals if hospital.held_out]
    draws = plan.evaluation.bootstrap_draws
    by_key = {arm.key: arm for arm in arms}
    references = [arm.key for arm in arms if arm.key != headline.arm.key]
    return FederationReport(
        run=RunFacts(
            title=title,
            command=command,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            versions=Versions(
                smrfed=version("smrfed"),
                torch=version("torch"),
                flwr=version("flwr"),
                python=platform.python_version(),
            ),
            commit=commit_of_checkout(),
            seed=seed,
            plan=PlanSummary.of(plan),
            phases=tuple(phases),
        ),
        labels=plan.task.labels,
        cohort=tuple(_cohort(hospital, spec, plan) for hospital in hospitals),
        arms=tuple(score_arm(arm, members, held_out, draws, seed) for arm in arms),
        headline_arm=headline.arm.key,
        comparisons=comparisons(
            by_key, headline.arm.key, references, members, held_out, draws, seed
        ),
        privacy=headline.privacy,
        explanations=explanations,
        participation=headline.participation,
    )


def _cohort(hospital: Hospital, spec: CohortSpec, plan: FederationPlan) -> SiteCohort:
    patients = hospital.patients
    ages = np.asarray([patient.age for patient in patients if patient.age is not None])
    labels = Counter(plan.task.labels[patient.label] for patient in patients)
    women = sum(patient.sex == "F" for patient in patients)
    return SiteCohort(
        name=hospital.name,
        held_out=hospital.held_out,
        patients_train=len(hospital.train_patients),
        patients_test=len(hospital.test_patients),
        scans=sum(len(patient.scans) for patient in patients),
        label_counts={label: labels.get(label, 0) for label in plan.task.labels},
        age_mean=float(ages.mean()),
        age_sd=float(ages.std()),
        percent_female=100 * women / len(patients),
        scanner=scanner_words(spec.site(hospital.name)),
    )


def scanner_words(site: SiteSpec) -> str:
    """A simulated scanner in one line."""
    voxels = " x ".join(f"{side:g}" for side in site.voxel_mm)
    if not isinstance(site.scanner, ScannerModel):
        return f"random scanner, {voxels} mm, {site.orientation}"
    scanner = site.scanner
    blur = "/".join(f"{fwhm:g}" for fwhm in scanner.blur_fwhm_mm)
    return (
        f"simulated: {voxels} mm, {site.orientation}, gamma {scanner.gamma:g}, bias "
        f"{scanner.bias:g}, noise {scanner.noise:g}, blur {blur} mm"
    )


def commit_of_checkout() -> str | None:
    """The commit of the checkout that this module lies in, if it is one."""
    folder = Path(__file__).parent
    try:
        result = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            cwd=folder, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() or None
