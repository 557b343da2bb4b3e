"""The cohorts of the battery: sites that differ in their scanners, much, or not at all."""

from __future__ import annotations

from simulations.cohort.spec import CohortSpec, ScannerModel, SiteSpec

UNSEEN = "site-e"
_EQUAL = (0.34, 0.33, 0.33)

# Contrast, blur, noise and coils beyond what the public encoder was trained on: a designed shift.
_STRONG = {
    "site-a": ScannerModel(csf=0.04, grey=0.42, gamma=1.5, bias=0.04, noise=0.01),
    "site-b": ScannerModel(
        csf=0.38, grey=0.82, white=0.97, gamma=0.65, bias=0.10, noise=0.02, scale=400,
        blur_fwhm_mm=(6.0, 6.0, 6.0),
    ),
    "site-c": ScannerModel(
        csf=0.15, grey=0.62, bias=0.12, coil=(0.0, 0.35, 0.0), noise=0.15, scale=2500,
    ),
    "site-d": ScannerModel(
        csf=0.25, grey=0.70, gamma=0.8, bias=0.08, coil=(0.0, 0.0, -0.3), noise=0.02, scale=150,
        blur_fwhm_mm=(0.0, 0.0, 9.0),
    ),
    UNSEEN: ScannerModel(
        csf=0.30, grey=0.74, white=0.92, gamma=1.3, bias=0.15, coil=(0.15, 0.0, 0.1), noise=0.06,
        scale=90, blur_fwhm_mm=(3.0, 0.0, 3.0),
    ),
}  # fmt: skip


def strong_scanners(patients: int = 64, unseen: int = 0, seed: int = 0) -> CohortSpec:
    """Four hospitals, and with ``unseen`` patients a fifth, that differ in the scanner alone."""
    return _cohort("strong-scanners", _STRONG, patients, unseen, seed)


def same_scanner(patients: int = 64, unseen: int = 0, seed: int = 0) -> CohortSpec:
    """Zero shift: every hospital has the same scanner; layers must do no harm here."""
    one = dict.fromkeys(_STRONG, ScannerModel())
    return _cohort("same-scanner", one, patients, unseen, seed)


def _cohort(
    name: str, scanners: dict[str, ScannerModel], patients: int, unseen: int, seed: int
) -> CohortSpec:
    return CohortSpec(
        name=name,
        seed=seed,
        second_session_share=0.0,
        sites=tuple(
            SiteSpec(
                name=site,
                patients=unseen if site == UNSEEN else patients,
                prevalence=_EQUAL,
                scanner=scanner,
                # The registration leaves little, so that what differs is the scanner.
                rotation_sd_deg=0.5,
                shift_sd_mm=0.5,
            )
            for site, scanner in scanners.items()
            if unseen or site != UNSEEN
        ),
    )
