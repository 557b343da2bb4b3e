"""A small report with every part filled in; the numbers are drawn, not measured."""

from __future__ import annotations

import numpy as np

from simulations.report.results import (
    Arm,
    Comparison,
    CurvePoint,
    Explanations,
    FederationReport,
    Phase,
    PlaneAttention,
    PlanSummary,
    PrivacySpent,
    RegionImportance,
    RoundParticipation,
    RunFacts,
    Score,
    SetAside,
    SiteCohort,
    Versions,
)

LABELS = ("CN", "MCI", "AD")
SITES = {"north": 60, "harbour": 54, "hill": 48, "lake": 66}
UNSEEN_SITE = "lake"
REGIONS = {
    "hippocampus_left": ((-26, -20, -14), 9.0, True),
    "hippocampus_right": ((27, -20, -13), 8.0, True),
    "amygdala_left": ((-23, -4, -19), 5.0, True),
    "amygdala_right": ((24, -3, -19), 5.5, True),
    "entorhinal_zone_left": ((-24, -10, -30), 4.0, True),
    "entorhinal_zone_right": ((24, -10, -30), 3.5, True),
    "inferior_lateral_ventricle_zone_left": ((-33, -26, -12), 3.8, True),
    "inferior_lateral_ventricle_zone_right": ((33, -26, -12), 3.0, True),
    "temporal_middle_posterior_left": ((-56, -40, 0), 2.4, True),
    "temporal_middle_posterior_right": ((57, -38, 0), 2.2, True),
    "precuneus_left": ((-8, -56, 48), 2.0, True),
    "precuneus_right": ((9, -56, 44), 1.9, True),
    "cingulate_posterior_left": ((-6, -43, 25), 1.6, True),
    "thalamus_left": ((-11, -18, 8), 1.5, False),
    "thalamus_right": ((12, -18, 8), 1.2, False),
    "putamen_left": ((-24, 4, 2), 0.9, False),
    "putamen_right": ((27, 5, 2), 0.8, False),
    "precentral_left": ((-40, -7, 51), 0.7, False),
    "precentral_right": ((40, -7, 51), 0.6, False),
    "cerebellum_posterior_left": ((-26, -70, -35), 1.1, False),
    "cerebellum_posterior_right": ((26, -70, -35), 0.9, False),
    "frontal_middle_left": ((-36, 33, 35), 0.8, False),
    "frontal_middle_right": ((36, 33, 35), 0.7, False),
    "calcarine_left": ((-8, -79, 6), 0.5, False),
}


def score(accuracy: float, n: int, half_width: float | None = None) -> Score:
    """A score with a plausible interval and a confusion matrix of exactly n patients."""
    half = half_width if half_width is not None else 0.95 / n**0.5
    confusion = np.zeros((3, 3), dtype=int)
    for truth in range(3):
        patients = n // 3 + (truth < n % 3)
        right = round(patients * accuracy)
        confusion[truth, truth] = right
        confusion[truth, (truth + 1) % 3 if truth < 2 else 1] += patients - right
    return Score(
        balanced_accuracy=accuracy,
        low=max(0.0, accuracy - half),
        high=min(1.0, accuracy + half),
        macro_auc=min(1.0, 0.5 + 0.75 * max(0.0, accuracy - 0.31)),
        n=n,
        confusion=tuple(tuple(int(v) for v in row) for row in confusion),
        ece=0.06 + 0.1 * abs(accuracy - 0.5),
    )


def scores(seen: float, unseen: float, shifts: tuple[float, ...] = (0.03, -0.02, -0.01)):
    out = {"seen": score(seen, sum(n for s, n in SITES.items() if s != UNSEEN_SITE))}
    out["unseen"] = score(unseen, SITES[UNSEEN_SITE])
    for (name, n), shift in zip(SITES.items(), (*shifts, None), strict=True):
        out[name] = score(unseen if shift is None else seen + shift, n)
    return out


def curve(end: float, rounds: int = 20) -> tuple[CurvePoint, ...]:
    rng = np.random.default_rng(round(1000 * end))
    values = [1 / 3 + (end - 1 / 3) * (1 - np.exp(-r / 5)) for r in range(rounds + 1)]
    return tuple(
        CurvePoint(round=r, balanced_accuracy=float(v + rng.normal(0, 0.01)))
        for r, v in enumerate(values)
    )


def plane(name: str, low: float, high: float, peaks: tuple[float, ...]) -> PlaneAttention:
    position = np.arange(low, high, 4.0)
    centre, half = (low + high) / 2, (high - low) / 2
    chance = np.maximum(0, 1 - ((position - centre) / (0.85 * half)) ** 2)
    bumps = sum(np.exp(-0.5 * ((position - peak) / 9) ** 2) for peak in peaks)
    truth = bumps * (chance > 0)
    weight = chance * (0.35 + 1.2 * np.roll(bumps, 1))
    return PlaneAttention(
        plane=name,
        position_mm=tuple(map(float, position)),
        weight=tuple(map(float, weight / weight.sum())),
        chance=tuple(map(float, chance / chance.sum())),
        truth=tuple(map(float, truth / truth.sum())),
    )


def explanations() -> Explanations:
    total = sum(weight for _, weight, _ in REGIONS.values())
    rng = np.random.default_rng(3)
    fusion = rng.dirichlet((6.0, 4.0, 2.0), size=len(REGIONS))
    return Explanations(
        patients=66,
        scales_mm=(4.0, 8.0, 16.0),
        regions=tuple(
            RegionImportance(
                name=name,
                importance=weight / total,
                chance=1 / len(REGIONS),
                centre_mm=centre,
                is_atrophied=atrophied,
            )
            for name, (centre, weight, atrophied) in REGIONS.items()
        ),
        fusion_regions=tuple(tuple(map(float, row)) for row in fusion),
        planes=(
            plane("sagittal", -86, 86, (-27, 27)),
            plane("coronal", -118, 86, (-18,)),
            plane("axial", -80, 92, (-16,)),
        ),
        slice_mass_ratio={"value": 2.31, "low": 2.02, "high": 2.64},
        region_mass_ratio={"value": 1.62, "low": 1.41, "high": 1.80},
    )


def tiny_report(**changes: object) -> FederationReport:
    """The report; keyword arguments replace its fields."""
    what = {
        "prior": ("Prior", "prior", "Gives every patient the class shares of the training set."),
        "demographics": ("Age and sex", "demographics", "Logistic regression without an image."),
        "volumes": (
            "Region volumes",
            "region_volumes",
            "Logistic regression on the true volumes of 12 signature regions, age and sex.",
        ),
        "alone": ("Each hospital alone", "alone", "SMR-Net trained by each hospital on its own."),
        "federated": ("Federated, no privacy", "federated", "SMR-Net, together, without noise."),
        "private": ("Federated, private", "federated", "SMR-Net with patient-level privacy."),
        "pooled": ("Pooled", "pooled", "SMR-Net on all images in one place, as if allowed."),
        "shuffled": ("Shuffled labels", "shuffled", "The federated recipe on wrong diagnoses."),
    }
    values = {
        "prior": scores(1 / 3, 1 / 3, (0, 0, 0)),
        "demographics": scores(0.44, 0.42),
        "volumes": scores(0.66, 0.61),
        "alone": scores(0.51, 0.46),
        "federated": scores(0.655, 0.61),
        "private": scores(0.62, 0.585),
        "pooled": scores(0.67, 0.60),
        "shuffled": {"seen": score(0.345, 162), "unseen": score(0.33, 66)},
    }
    arms = tuple(
        Arm(
            key=key,
            title=title,
            what=sentence,
            role=role,
            privacy="patient-level DP" if key == "private" else "none",
            epsilon=7.93 if key == "private" else None,
            scores=values[key],
            curves={"seen": curve(values[key]["seen"].balanced_accuracy), "unseen": curve(0.58)}
            if key in ("federated", "private")
            else {},
        )
        for key, (title, role, sentence) in what.items()
    )
    gains = {"north": (0.14, 0.03, 0.25), "harbour": (0.08, -0.03, 0.19), "hill": (0.1, 0.01, 0.2)}
    gains |= {"seen": (0.11, 0.05, 0.17), "unseen": (0.125, 0.02, 0.23)}
    comparisons = [("private", "alone", where, *numbers) for where, numbers in gains.items()]
    comparisons += [
        ("private", "federated", "unseen", -0.025, -0.08, 0.03),
        ("private", "demographics", "unseen", 0.165, 0.06, 0.27),
        ("private", "volumes", "unseen", -0.025, -0.11, 0.06),
    ]
    sizes = SITES | {"seen": 162, "unseen": 66}
    fields: dict[str, object] = {
        "run": RunFacts(
            title="Federated SMR-Net on four simulated hospitals",
            command="smrfed-sim demo --seed 7",
            created="2026-03-02T10:15:00+00:00",
            versions=Versions(smrfed="0.1.0", torch="2.13.0", flwr="1.41.0", python="3.11.9"),
            commit="0123abcd",
            seed=7,
            plan=PlanSummary(
                name="demo",
                digest="ab" * 32,
                mode="local",
                target_epsilon=8.0,
                delta=1e-5,
                noise_multiplier=1.07,
                sampling_rate=0.25,
                steps=60,
                clipping_norm=1.0,
                rounds=20,
                site_norm="residual",
            ),
            phases=(Phase(name="cohort", seconds=98.2), Phase(name="training", seconds=141.0)),
        ),
        "labels": LABELS,
        "cohort": tuple(
            SiteCohort(
                name=name,
                held_out=name == UNSEEN_SITE,
                patients_train=0 if name == UNSEEN_SITE else 3 * n,
                patients_test=n,
                scans=5 * n,
                label_counts={"CN": 2 * n, "MCI": n, "AD": n},
                age_mean=72.5,
                age_sd=7.1,
                percent_female=52.0,
                scanner="simulated 3 T, low noise, 1 mm",
            )
            for name, n in SITES.items()
        ),
        "arms": arms,
        "headline_arm": "private",
        "comparisons": tuple(
            Comparison(arm=a, reference=b, where=w, difference=d, low=lo, high=hi, n=sizes[w])
            for a, b, w, d, lo, hi in comparisons
        ),
        "privacy": tuple(
            PrivacySpent(site=s, spent_epsilon=7.93, budget_epsilon=8.0, delta=1e-5, steps=60)
            for s in SITES
            if s != UNSEEN_SITE
        ),
        "explanations": explanations(),
        "participation": tuple(
            RoundParticipation(
                round=r,
                accepted=("north", "hill") if r in (4, 5, 6, 11) else ("north", "harbour", "hill"),
                set_aside=(SetAside(site="harbour", reason="no reply before the deadline"),)
                if r in (4, 5, 6, 11)
                else (),
            )
            for r in range(1, 21)
        ),
    }
    return FederationReport.model_validate(fields | changes)
