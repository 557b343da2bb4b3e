"""Public centre and spread of every region's volume: what a hospital standardises with."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared_model.errors import SmrfedError
from shared_model.plan import Sha256

PACKAGED = Path(__file__).parent / "seeded_reference.json"
#: Digest of the packaged file, for the atlas that is installed with smrfed.
PACKAGED_SHA256 = "f9a3780f3fa533e50f186b10dcf01ec1409a43a0ef2c0224e9d98cc526fdacc5"

#: A region without any of its tissue must not give log 0.
SMALLEST_ML = 0.02
# Further out lies what no brain is: a failed segmentation must not be a patient's whole gradient.
_FURTHEST = 6.0


class VolumeReference(BaseModel):
    """Mean and standard deviation of ``log(region / brain)`` over a public population.

    They are constants of a plan, named by the digest of their file; a hospital never fits them to
    its patients, because what steers a private update would then leave un-noised.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    atlas: str = Field(description="name of the atlas")
    atlas_sha256: Sha256 = Field(description="of the atlas before it is resampled")
    measured_on: str = Field(description="the public population")
    command: str = Field(description="what made this file")
    regions: tuple[str, ...] = Field(description="in the atlas's order")
    mean: tuple[float, ...]
    sd: tuple[Annotated[float, Field(gt=0)], ...]

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        if not len(self.regions) == len(self.mean) == len(self.sd):
            raise ValueError("regions, mean and sd differ in length")
        return self

    def standardised(
        self, region_ml: npt.NDArray[np.float64], brain_ml: float
    ) -> npt.NDArray[np.float32]:
        """``(R,)`` deviations from the reference, in standard deviations, within ±6."""
        ratio = np.log(np.maximum(region_ml, SMALLEST_ML) / brain_ml)
        z = (ratio - np.asarray(self.mean)) / np.asarray(self.sd)
        clipped: npt.NDArray[np.float32] = np.clip(z, -_FURTHEST, _FURTHEST).astype(np.float32)
        return clipped


def find_reference(
    sha256: str, atlas_sha256: str, folders: tuple[Path, ...] = ()
) -> VolumeReference:
    """The reference with this digest, among the ``*.json`` of ``folders`` and the packaged one.

    Raises SMR-E648 where none has it, or where it belongs to another atlas.
    """
    candidates = [*(path for folder in folders for path in sorted(folder.glob("*.json"))), PACKAGED]
    for path in candidates:
        body = path.read_bytes()
        if hashlib.sha256(body).hexdigest() != sha256:
            continue
        try:
            found = VolumeReference.model_validate_json(body)
        except ValidationError as error:
            raise _unusable(
                "a volume reference", f"{path.name}: {error.errors()[0]['msg']}"
            ) from None
        if found.atlas_sha256 != atlas_sha256:
            raise _unusable(
                f"a reference for the plan's atlas, digest {atlas_sha256[:12]}",
                f"{path.name} for atlas {found.atlas!r}, digest {found.atlas_sha256[:12]}",
            )
        return found
    searched = ", ".join(str(folder) for folder in folders) or "the installed files"
    raise _unusable(f"a .json file with SHA-256 {sha256}", f"none in {searched}")


def _unusable(expected: str, found: str) -> SmrfedError:
    return SmrfedError(
        "SMR-E648",
        "the public reference of region volumes that the plan names cannot be used here",
        expected=expected,
        found=found,
        remedy="make one with `smrfed-sim volume-reference`, or get it from the coordinator, put "
        "it in the folder that site.toml names under weights, and name its digest in "
        "model.config.reference_sha256",
    )
