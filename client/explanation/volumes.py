"""Region volumes of a prepared scan, and how they lie among those of a public reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from client.prepared.intensity import BACKGROUND
from client.prepared.resample import Volume
from client.preprocessing.aligned_volumes import tissue_ml
from client.preprocessing.image import Image, Work
from client.preprocessing.region_volumes import region_volumes
from shared_model.atlas.atlas import Atlas
from shared_model.explanation.norms import Floats, VolumeNorms, percentile, shipped_norms
from shared_model.plan import FederationPlan

_MALE_OR_FEMALE = ("M", "F")


@dataclass(frozen=True, eq=False)
class ScanVolumes:
    """Volumes of one scan.

    Attributes:
        ml: ``(R,)`` brain tissue in each region, fluid in the ventricles, in MNI152 millilitres.
        brain_ml: all of the brain, fluid included.
        z: ``(R,)`` deviations from people of that age and sex, or none; ``why_not`` says why.
    """

    ml: Floats
    brain_ml: float
    z: Floats | None
    why_not: str = ""

    def percentiles(self) -> tuple[float, ...] | None:
        """``(R,)`` percentiles of the reference."""
        return None if self.z is None else tuple(percentile(float(z)) for z in self.z)


def prepared_volumes(volume: Volume, atlas: Atlas) -> tuple[Floats, float]:
    """Millilitres ``(R,)`` and of the whole brain, of ``(D, H, W)`` on the atlas's own grid.

    The tissue classification of ``smrfed-site prepare``, on the volume that the model sees: the
    same for native and for aligned scans. Without a warp: a region says what tissue lies where the
    atlas has it.
    """
    brain = volume > BACKGROUND
    image = Image(np.where(brain, volume - BACKGROUND, 0).astype(np.float32), atlas.affine)
    found = region_volumes(Work(image, brain=brain, to_mni=np.eye(4)), atlas)
    ml = tissue_ml(atlas, found.gm_mm3, found.wm_mm3, found.csf_mm3)
    return ml, found.brain_mask_mm3 / 1000


def scan_volumes(
    volume: Volume,
    atlas: Atlas,
    plan: FederationPlan,
    age: float | None,
    sex: str | None,
    norms: VolumeNorms | None = None,
) -> ScanVolumes:
    """Volumes with z-scores where the reference fits the plan and the person is known."""
    ml, brain_ml = prepared_volumes(volume, atlas)
    reference = shipped_norms() if norms is None else norms
    why_not = _why_not(reference, plan, len(ml), age, sex)
    if why_not or age is None or sex is None:
        return ScanVolumes(ml, brain_ml, None, why_not)
    return ScanVolumes(ml, brain_ml, reference.z(np.log(ml / brain_ml), age, sex))


def _why_not(
    norms: VolumeNorms, plan: FederationPlan, regions: int, age: float | None, sex: str | None
) -> str:
    same = (
        plan.input.grid.spacing_mm == norms.spacing_mm
        and plan.input.intensity == norms.intensity
        and plan.atlas.sha256 in (None, norms.atlas_sha256)
        and regions == len(norms.sd)
    )
    if not same:
        return "the reference was measured with another atlas, grid or intensity than the plan's"
    if age is None or sex is None or not sex.upper().startswith(_MALE_OR_FEMALE):
        return "age or sex (M or F) is not known; see --age and --sex"
    if not norms.age_low <= age <= norms.age_high:
        return f"the reference is of people from {norms.age_low:.0f} to {norms.age_high:.0f} years"
    return ""
