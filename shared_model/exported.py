"""A released model as a folder that can be carried to a hospital that took no part.

``model.safetensors`` (shared parameters), ``plan.json`` (the plan that they belong to, which names
atlas, grid and public weights by digest) and, where the run released moments, ``adaptation.json``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from shared_model.adaptation.model_moments import ModelMoments
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import Arrays, body_digest, decode_arrays

MODEL, PLAN, ADAPTATION = "model.safetensors", "plan.json", "adaptation.json"


@dataclass(frozen=True, eq=False)
class ExportedModel:
    """A released model with its plan.

    Attributes:
        plan: what it was trained under.
        arrays: shared parameters by name.
        sha256: digest of the encoded parameters.
        moments: none where the file is missing: the model can be used, but not adapted.
    """

    plan: FederationPlan
    arrays: Arrays
    sha256: str
    moments: ModelMoments | None

    @classmethod
    def read(cls, folder: Path) -> ExportedModel:
        """Strictly: what came from elsewhere is believed only as far as the digests agree.

        Raises SMR-E644 (a file is missing or unreadable), SMR-E645 (the files do not belong
        together), and those of plan (SMR-E102), arrays (SMR-E115) and moments (SMR-E642).
        """
        body = _content(folder, MODEL)
        try:
            plan = FederationPlan.parse(
                json.loads(_content(folder, PLAN)), source=str(folder / PLAN)
            )
        except (ValueError, RecursionError) as error:
            raise _unreadable(folder / PLAN, error) from None
        arrays, digest = decode_arrays(body), body_digest(body)
        moments = None
        if (folder / ADAPTATION).exists():
            moments = ModelMoments.read(_content(folder, ADAPTATION))
            expected = (digest, plan.digest, plan.task.labels, plan.calibration.scores_radius)
            found = (
                moments.model_sha256,
                moments.plan_digest,
                moments.labels,
                moments.scores_radius,
            )
            if expected != found:
                raise _mixed(folder, expected, found)
        return cls(plan, arrays, digest, moments)


def exported_files(
    plan: FederationPlan, body: bytes, moments: ModelMoments | None
) -> dict[str, bytes]:
    """Name and content of every file of an exported model."""
    out = {MODEL: body, PLAN: plan.canonical_json}
    if moments is not None:
        out[ADAPTATION] = moments.as_bytes
    return out


def _content(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise _unreadable(folder / name, error) from None


def _unreadable(path: Path, error: object) -> SmrfedError:
    return SmrfedError(
        "SMR-E644",
        f"cannot read {path} of an exported model",
        expected=f"a folder with {MODEL}, {PLAN} and {ADAPTATION}, as smrfed-coordinator export "
        "writes it",
        found=error,
        remedy="name the folder that the coordinator sent, copied whole",
    )


def _mixed(folder: Path, expected: object, found: object) -> SmrfedError:
    return SmrfedError(
        "SMR-E645",
        f"the files in {folder} are not of one model",
        expected=f"moments of the model and plan beside them: {expected}",
        found=found,
        remedy="take all files from one export; never combine those of two runs",
    )
