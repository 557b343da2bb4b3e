"""Other diseases for the synthetic cohort: which regions shrink, and how far, at severity 1.

The regions are those that the literature names; the SIZES ARE OURS, large enough to study methods
with a hundred patients. In Parkinson's disease real effects on T1 volumes are far smaller, so no
figure of a PD-like cohort says what a classifier of real Parkinson's disease would reach. Stroke
shrinks nothing here: its lesions are planted by ``simulations.lesions``, into patients alone.
"""

from __future__ import annotations

from shared_model.label_schemas import label_schema
from simulations.cohort.spec import CohortSpec, EffectSpec, SiteSpec

#: Basal ganglia, substantia nigra (inside the ventral diencephalon zone), basal forebrain.
_PD = {
    "putamen": -0.40,
    "caudate": -0.25,
    "accumbens": -0.30,
    "ventral_diencephalon_zone": -0.35,
    "basal_forebrain_zone": -0.35,
    "amygdala": -0.25,
    "thalamus": -0.10,
    "brainstem": -0.10,
    "third_ventricle": 0.6,
    "lateral_ventricle": 0.4,
}
#: Frontal lobes, anterior insula and cingulate, less the temporal poles.
_BVFTD = {
    "frontal": -0.35,
    "orbitofrontal": -0.40,
    "gyrus_rectus": -0.40,
    "cingulate_anterior": -0.40,
    "insula_anterior": -0.45,
    "temporal_pole": -0.30,
    "amygdala": -0.30,
    "caudate": -0.20,
    "lateral_ventricle": 1.2,
}
#: Anterior temporal lobes, the left more than the right.
_SVPPA = {
    "temporal_pole": -0.45,
    "temporal_pole_superior_left": -0.80,
    "temporal_pole_middle_left": -0.80,
    "temporal_inferior_anterior": -0.35,
    "temporal_inferior_anterior_left": -0.65,
    "temporal_middle_anterior": -0.30,
    "temporal_middle_anterior_left": -0.55,
    "fusiform": -0.20,
    "fusiform_left": -0.40,
    "entorhinal_zone": -0.35,
    "entorhinal_zone_left": -0.70,
    "amygdala": -0.35,
    "amygdala_left": -0.70,
    "hippocampus": -0.20,
    "hippocampus_left": -0.45,
    "inferior_lateral_ventricle_zone": 1.5,
    "lateral_ventricle": 0.6,
}

#: By the name of the label schema.
EFFECTS: dict[str, EffectSpec] = {
    "ad": EffectSpec(),
    "pd": EffectSpec(
        diagnoses=label_schema("pd").labels, alpha=_PD, severity_mean=(0.10, 0.75), texture=0.0
    ),
    "ftd": EffectSpec(
        diagnoses=label_schema("ftd").labels,
        alpha=_BVFTD,
        subtypes={"svPPA": _SVPPA},
        severity_mean=(0.10, 0.75, 0.75),
        texture=0.0,
    ),
    "stroke": EffectSpec(
        diagnoses=label_schema("stroke").labels, alpha={}, severity_mean=(0.10, 0.10), texture=0.0
    ),
}
_AGES = {
    "ad": (71.5, 73.0, 75.0),
    "pd": (68.0, 68.0),
    "ftd": (65.0, 65.0, 65.0),
    "stroke": (68.0, 68.0),
}


def disease_cohort(disease: str, patients: int, seed: int = 0) -> CohortSpec:
    """One hospital with a mixed scanner park: a random scanner for each patient, one visit each.

    ``disease`` is a key of :data:`EFFECTS`; classes are about as frequent as each other. The site's
    name holds the disease, so that nobody occurs in two cohorts.
    """
    effect = EFFECTS[disease]
    count = len(effect.diagnoses)
    return CohortSpec(
        name=f"{disease}-like",
        seed=seed,
        sites=(
            SiteSpec(
                name=f"clinic-{disease}",
                patients=patients,
                prevalence=(1 / count,) * count,
                scanner="random",
                rotation_sd_deg=1.5,
                shift_sd_mm=1.5,
            ),
        ),
        effect=effect,
        age_mean=_AGES[disease],
        second_session_share=0.0,
    )
