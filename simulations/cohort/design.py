"""The cohorts that ship: four hospitals and an unseen fifth, and the public pretraining set."""

from __future__ import annotations

from simulations.cohort.spec import CohortSpec, ScannerModel, SiteSpec

UNSEEN_SITE = "site-e"


def default_cohort(
    patients_per_site: int = 96, seed: int = 0, unseen_patients: int | None = None
) -> CohortSpec:
    """Sites a to d with their own scanners, prevalence and age, and ``site-e``, to be held out."""
    held_out = unseen_patients if unseen_patients is not None else patients_per_site
    return CohortSpec(
        name="four-hospitals-and-one-unseen",
        seed=seed,
        sites=(
            SiteSpec(
                name="site-a",
                patients=patients_per_site,
                prevalence=(0.45, 0.35, 0.20),
                age_shift=-1,
                scanner=ScannerModel(csf=0.15, grey=0.62, white=1.0, bias=0.05, noise=0.02),
                rotation_sd_deg=1.0,
                shift_sd_mm=1.0,
            ),
            SiteSpec(
                name="site-b",
                patients=patients_per_site,
                prevalence=(0.30, 0.40, 0.30),
                scanner=ScannerModel(
                    csf=0.20,
                    grey=0.68,
                    white=1.0,
                    gamma=0.9,
                    bias=0.09,
                    coil=(0.0, 0.04, 0.0),
                    noise=0.03,
                    blur_fwhm_mm=(2, 2, 2),
                    scale=400,
                ),
                orientation="LAS",
                rotation_sd_deg=1.5,
                shift_sd_mm=1.5,
            ),
            SiteSpec(
                name="site-c",
                patients=patients_per_site,
                prevalence=(0.20, 0.40, 0.40),
                age_shift=2,
                scanner=ScannerModel(
                    csf=0.10,
                    grey=0.52,
                    white=1.0,
                    gamma=1.1,
                    bias=0.12,
                    coil=(0.0, 0.0, 0.06),
                    noise=0.035,
                    blur_fwhm_mm=(0, 0, 2.5),
                    scale=2500,
                ),
                voxel_mm=(2, 2, 2.5),
                rotation_sd_deg=2.0,
                shift_sd_mm=2.0,
            ),
            SiteSpec(
                name="site-d",
                patients=patients_per_site,
                prevalence=(0.40, 0.30, 0.30),
                scanner=ScannerModel(
                    csf=0.25,
                    grey=0.74,
                    white=0.98,
                    gamma=0.8,
                    bias=0.08,
                    coil=(0.05, 0.0, 0.0),
                    noise=0.025,
                    blur_fwhm_mm=(2.5, 0, 0),
                    scale=150,
                ),
                voxel_mm=(2.2, 1.8, 1.8),
                orientation="PSR",
                rotation_sd_deg=2.0,
                shift_sd_mm=2.0,
            ),
            SiteSpec(
                name=UNSEEN_SITE,
                patients=held_out,
                prevalence=(0.34, 0.33, 0.33),
                age_shift=3,
                scanner=ScannerModel(
                    csf=0.34,
                    grey=0.72,
                    white=0.88,
                    gamma=1.25,
                    bias=0.17,
                    coil=(0.0, -0.05, 0.05),
                    noise=0.06,
                    blur_fwhm_mm=(2, 2, 4),
                    scale=90,
                ),
                voxel_mm=(2, 2, 3),
                orientation="LPS",
                rotation_sd_deg=2.5,
                shift_sd_mm=2.5,
            ),
        ),
    )


def public_cohort(patients: int = 320, seed: int = 0) -> CohortSpec:
    """Patients of nobody, for pretraining: equal classes, another random scanner for each.

    The site's name enters every random draw, so no patient of a hospital occurs here, whatever the
    seeds.
    """
    return CohortSpec(
        name="public-pretraining",
        seed=seed,
        id_prefix="pub",
        sites=(
            SiteSpec(
                name="public",
                patients=patients,
                prevalence=(0.34, 0.33, 0.33),
                scanner="random",
                rotation_sd_deg=2.0,
                shift_sd_mm=2.0,
            ),
        ),
        second_session_share=0.0,
    )
