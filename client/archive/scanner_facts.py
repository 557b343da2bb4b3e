"""Field strength and vendor of a scan, from the JSON files that BIDS lets stand for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.archive.problems import Defect
from client.archive.scan_files import check_inside
from client.archive.sidecar import sidecar_path

# How the makers write themselves, to one name each.
_VENDORS = {
    "siemens": "Siemens",
    "philips": "Philips",
    "ge": "GE",
    "general electric": "GE",
    "canon": "Canon",
    "toshiba": "Canon",
    "hitachi": "Hitachi",
    "fujifilm": "Hitachi",
    "united imaging": "United Imaging",
    "uih": "United Imaging",
}
_STRONGEST_T = 30.0


@dataclass(frozen=True)
class ScannerFacts:
    """None where no JSON file says so."""

    field_strength_t: float | None
    vendor: str | None


def scanner_facts(root: Path, image: Path) -> ScannerFacts:
    """What the files say of an image below the BIDS dataset ``root``; the nearest one wins.

    BIDS' inheritance: ``T1w.json`` at the top, ``sub-XX_T1w.json`` in the subject's folder,
    ``sub-XX_ses-YY_T1w.json`` in the session's, and the file beside the image. A file that cannot
    be read, or lies outside the archive, says nothing.
    """
    root = root.resolve()
    folder = root
    stem = ""
    fields: dict[str, Any] = dict(_read(root, root / "T1w.json"))
    for part in image.resolve().relative_to(root).parts[:-1]:
        folder = folder / part
        if part.startswith(("sub-", "ses-")):
            stem += f"{part}_"
            fields |= _read(root, folder / f"{stem}T1w.json")
    fields |= _read(root, sidecar_path(image))
    return ScannerFacts(_strength(fields), _vendor(fields))


def _read(root: Path, path: Path) -> Mapping[str, Any]:
    try:
        check_inside(root, path)
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError, Defect):
        return {}
    return content if isinstance(content, dict) else {}


def _strength(fields: Mapping[str, Any]) -> float | None:
    value = fields.get("MagneticFieldStrength")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 < value < _STRONGEST_T else None


def _vendor(fields: Mapping[str, Any]) -> str | None:
    value = fields.get("Manufacturer")
    if not isinstance(value, str) or not value.strip():
        return None
    text = " ".join(value.split())
    folded = text.casefold()
    for beginning, name in _VENDORS.items():
        if folded == beginning or folded.startswith(f"{beginning} "):
            return name
    return text[:64]
