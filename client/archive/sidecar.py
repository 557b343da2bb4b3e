"""What the JSON file beside an image says it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from client.archive.problems import Defect, Problem
from client.archive.scan_files import check_inside
from client.archive.sequence_names import other_contrast, says_t1

_NAMES = ("SeriesDescription", "ProtocolName", "PulseSequenceType", "PulseSequenceName")
#: Fields that only PET and CT have.
_ELSEWHERE = ("TracerName", "TracerRadionuclide", "InjectedRadioactivity", "XRayExposure", "KVP")
#: Seconds; every T1w sequence has a shorter echo, every T2w and FLAIR one a longer.
LONGEST_T1_ECHO_S = 0.045


def sidecar_path(image: Path) -> Path:
    """``sub-01_T1w.json`` of ``sub-01_T1w.nii.gz``."""
    return image.with_name(image.name.removesuffix(".gz").removesuffix(".nii") + ".json")


def read_sidecar(image: Path) -> Mapping[str, Any]:
    """The fields beside an image; empty where there is no file, or none that can be read."""
    try:
        content = json.loads(sidecar_path(image).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        # The image counts; a broken note about it does not make it unusable.
        return {}
    return content if isinstance(content, dict) else {}


def check_modality(root: Path, image: Path) -> None:
    """Raise a Defect (SMR-E224) when the JSON file contradicts the name's ``T1w``.

    Raises SMR-E211 when that file is a link that leaves the archive ``root``.
    """
    check_inside(root, sidecar_path(image))
    fields = read_sidecar(image)
    contradiction = _contradiction(fields)
    if contradiction is not None:
        raise Defect(Problem.WRONG_MODALITY, f"{image}: {contradiction}")


def _contradiction(fields: Mapping[str, Any]) -> str | None:
    modality = fields.get("Modality")
    if isinstance(modality, str) and modality.strip().upper() not in ("", "MR", "MRI", "N/A"):
        return f"Modality is {modality.strip()!r}"
    for name in _ELSEWHERE:
        if name in fields:
            return f"{name} belongs to no MR image"
    names = [value for name in _NAMES if isinstance(value := fields.get(name), str)]
    together = " ".join(names)
    found = other_contrast(together)
    if found is not None:
        return f"its sequence is named as {found}"
    echo = fields.get("EchoTime")
    if isinstance(echo, int | float) and echo > LONGEST_T1_ECHO_S and not says_t1(together):
        return f"EchoTime is {echo:g} s; a T1w image has at most {LONGEST_T1_ECHO_S:g}"
    return None
