"""From a scenario's cohort section to the hospitals of one seed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from shared_model.errors import SmrfedError
from simulations.cohort.design import default_cohort
from simulations.cohort.scanner import random_scanner
from simulations.cohort.spec import CohortSpec, ScannerModel, SiteSpec, Triple
from simulations.scenarios.schema import CohortSection, HospitalsSection, Scenario

#: The scanner that the others are so and so far from.
REFERENCE = ScannerModel()
# Fewer cannot be split into training and test patients of three classes.
_FEWEST = 12
_RATIOS = ("gamma", "scale")
# A scanner twice as far as a noisy one must still give an image.
_LIMITS: dict[str, tuple[float, float]] = {
    "csf": (0.02, 0.6), "grey": (0.3, 0.9), "white": (0.7, 1.15), "gamma": (0.4, 2.5),
    "bias": (0.0, 0.6), "noise": (0.0, 0.2), "scale": (1.0, 1e6),
}  # fmt: skip


def cohort_spec(name: str, section: CohortSection, seed: int) -> CohortSpec:
    """The cohort of one seed; not for a section with ``archives``.

    Raises:
        SmrfedError: SMR-E683 where a change names a hospital that the cohort lacks.
    """
    if section.hospitals is not None:
        spec = CohortSpec(name=name, seed=seed, sites=drawn_hospitals(section.hospitals))
    elif section.sites:
        spec = CohortSpec(name=name, seed=seed, sites=section.sites)
    else:
        spec = default_cohort(
            section.patients or 96, seed, 64 if section.patients is None else None
        )
    changed = section.model_fields_set - {"design", "hospitals", "sites", "patients", "patients_at"}
    known = [site.name for site in spec.sites]
    for field in ("patients_at", "prevalence_at"):
        require_sites(f"cohort.{field}", getattr(section, field), known)
    update: dict[str, Any] = {"sites": tuple(_changed(site, section) for site in spec.sites)}
    if changed:
        update["name"] = name
    for field in ("effect", "age_mean", "second_session_share"):
        if getattr(section, field) is not None:
            update[field] = getattr(section, field)
    return CohortSpec.model_validate(spec.model_copy(update=update).model_dump())


def site_names(scenario: Scenario) -> tuple[str, ...]:
    """Every hospital of a scenario, in order."""
    if scenario.cohort.archives:
        return tuple(scenario.cohort.archives)
    return tuple(site.name for site in cohort_spec("names", scenario.cohort, 0).sites)


def folds(scenario: Scenario) -> tuple[tuple[str, ...], ...]:
    """Who is left out together: one entry per federation.

    Raises:
        SmrfedError: SMR-E683 for a hospital that does not exist, or where nobody is left to train.
    """
    names = site_names(scenario)
    out: tuple[tuple[str, ...], ...]
    if scenario.held_out == "each":
        out = tuple((name,) for name in names)
    else:
        require_sites("held_out", scenario.held_out, names)
        out = (scenario.held_out,)
        if scenario.one_by_one and scenario.held_out:
            out = tuple((name,) for name in scenario.held_out)
    if any(len(names) - len(left_out) < 2 for left_out in out):
        raise SmrfedError(
            "SMR-E683",
            "too few hospitals are left to train",
            expected="at least 2 hospitals that are not held out",
            found=f"{len(names)} hospitals, of which {len(out[0])} are held out",
            remedy="hold fewer hospitals out, or add hospitals to [cohort]",
        )
    return out


def require_sites(field: str, used: Iterable[str], known: Iterable[str]) -> None:
    """Raise SMR-E683 unless every used name is a hospital of the cohort."""
    names = tuple(known)
    unknown = [name for name in used if name not in names]
    if unknown:
        raise SmrfedError(
            "SMR-E683",
            f"{field} names a hospital that the cohort does not have",
            expected=", ".join(names),
            found=", ".join(unknown),
            remedy="use the names of the cohort's hospitals; drawn ones are h01, h02, ...",
        )


def drawn_hospitals(section: HospitalsSection) -> tuple[SiteSpec, ...]:
    """Hospitals h01, h02, ...: each from its own stream, so that more of them change no other."""
    out = []
    for number in range(1, section.count + 1):
        rng = np.random.default_rng([section.seed, number])
        low, high = np.log(section.patients)
        odds = np.log(section.prevalence) + rng.normal(0, 1, 3) * section.prevalence_spread
        share = np.exp(odds) / np.exp(odds).sum()
        pose = float(rng.uniform(*section.pose_sd))
        voxel = np.full(3, 2.0)
        wide = float(rng.uniform(1.8, 3.0))
        axis = int(rng.integers(3))
        if section.voxels == "varied":
            voxel[axis] = round(wide, 1)
        out.append(
            SiteSpec(
                name=f"h{number:02d}",
                patients=int(np.rint(np.exp(rng.uniform(low, high)))),
                prevalence=_distribution(share),
                age_shift=round(float(rng.normal(0, 1)) * section.age_spread, 2),
                scanner=random_scanner(rng),
                voxel_mm=_triple(voxel),
                rotation_sd_deg=round(pose, 2),
                shift_sd_mm=round(pose, 2),
            )
        )
    return tuple(out)


def moved(scanner: ScannerModel, shift: float) -> ScannerModel:
    """The scanner ``shift`` times as far from :data:`REFERENCE`; ratios in their logarithm."""
    if shift == 1:
        return scanner
    values: dict[str, Any] = {}
    for name, (low, high) in _LIMITS.items():
        origin, own = getattr(REFERENCE, name), getattr(scanner, name)
        if name in _RATIOS:
            value = origin * (own / origin) ** shift
        else:
            value = origin + shift * (own - origin)
        values[name] = float(np.clip(value, low, high))
    values["grey"] = max(values["grey"], values["csf"] + 0.05)
    values["white"] = max(values["white"], values["grey"] + 0.05)
    values["coil"] = _triple(shift * np.asarray(scanner.coil))
    values["blur_fwhm_mm"] = _triple(np.clip(shift * np.asarray(scanner.blur_fwhm_mm), 0, 8))
    return ScannerModel.model_validate(scanner.model_dump() | values)


def _changed(site: SiteSpec, section: CohortSection) -> SiteSpec:
    values: dict[str, Any] = {}
    if section.shift != 1.0 and isinstance(site.scanner, ScannerModel):
        values["scanner"] = moved(site.scanner, section.shift)
    if section.shift == 0.0:
        values |= {"voxel_mm": (2.0, 2.0, 2.0), "orientation": "RAS"}
        values |= {"rotation_sd_deg": 1.5, "shift_sd_mm": 1.5}
    if section.patients is not None and not section.hospitals:
        values["patients"] = section.patients
    if section.prevalence_everywhere is not None:
        values["prevalence"] = section.prevalence_everywhere
    if section.age_shift_everywhere is not None:
        values["age_shift"] = section.age_shift_everywhere
    if site.name in section.patients_at:
        values["patients"] = section.patients_at[site.name]
    if section.size != 1.0:
        own = values.get("patients", site.patients)
        values["patients"] = max(_FEWEST, round(own * section.size))
    if site.name in section.prevalence_at:
        values["prevalence"] = section.prevalence_at[site.name]
    return SiteSpec.model_validate(site.model_dump() | values)


def _distribution(share: np.ndarray) -> Triple:
    first, second = round(float(share[0]), 3), round(float(share[1]), 3)
    return first, second, round(1 - first - second, 3)


def _triple(values: np.ndarray) -> Triple:
    x, y, z = (float(v) for v in values)
    return x, y, z
