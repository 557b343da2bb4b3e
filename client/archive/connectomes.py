"""Connectome matrices from an archive's BIDS derivatives: found, read and checked strictly.

::

    derivatives/connectomes/regions.tsv                     name: one row per region, in order
    derivatives/connectomes/sub-X/[ses-Y/]...desc-structural_connectivity.(tsv|csv|npy|mat)
    derivatives/connectomes/sub-X/[ses-Y/]...desc-functional_relmat.dense.tsv     (BEP017's name)

Deeper folders of the subject, such as ``func/``, are looked into as well.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from client.archive.connectome_formats import MOST_BYTES, Unreadable, parse
from client.archive.patients import Patient, Scan
from client.archive.problems import Defect
from client.archive.scan_files import check_inside
from shared_model.connex.parcellation import MOST_REGIONS, parcellation_sha256
from shared_model.errors import SmrfedError

Modality = Literal["structural", "functional"]
Matrix = npt.NDArray[np.float32]

FOLDER = Path("derivatives") / "connectomes"
REGIONS = "regions.tsv"
_FORMATS = (".tsv", ".csv", ".npy", ".mat")
_ENDINGS = (*(f"_connectivity{ending}" for ending in _FORMATS), "_relmat.dense.tsv")
#: Largest difference between an edge and its mirror image, as a share of the largest edge.
_SYMMETRY = 1e-3
_LARGEST_CORRELATION = 1 + 1e-6
_LARGEST_EDGE = 1e12
_MOST_FILES = 2000


@dataclass(frozen=True)
class ConnectomeFolder:
    """The connectomes of one archive, on the parcellation that a plan names.

    Args:
        root: the BIDS dataset.
        regions: how many regions the plan's parcellation has.
        sha256: digest of their names in order (:func:`parcellation_sha256`).
        require: whether a visit without one of the two is refused.
        correlations: functional edges are between -1 and 1; else finite numbers, such as z.
    """

    root: Path
    regions: int
    sha256: str
    require: Literal["any", "both"] = "any"
    correlations: bool = True

    def check_regions(self) -> None:
        """Raise SMR-E490 unless ``regions.tsv`` names the plan's regions in the plan's order."""
        path = self.root / FOLDER / REGIONS
        try:
            check_inside(self.root.resolve(), path)
            names = tuple(row["name"] for row in _rows(path))
        except (Defect, OSError, KeyError) as error:
            raise self._other_regions(f"{path}: {error}") from None
        if len(set(names)) != len(names):
            raise self._other_regions(f"{path}: a name stands there twice")
        found = parcellation_sha256(names)
        if (len(names), found) != (self.regions, self.sha256):
            raise self._other_regions(f"{path}: {len(names)} regions, digest {found}")

    def has(self, patient: Patient, scan: Scan, modality: Modality) -> bool:
        """Whether the visit of a scan has a connectome; raises SMR-E494 as :meth:`matrix` does."""
        found = {kind: self._file(patient, scan, kind) for kind in ("structural", "functional")}
        there = [kind for kind, path in found.items() if path is not None]
        if not there or (self.require == "both" and len(there) < 2):
            raise SmrfedError(
                "SMR-E494",
                "a visit has no connectome that the plan needs",
                expected=f"{self.require} of structural and functional below "
                f"{self.root / FOLDER / patient.id}",
                found=f"{patient.id} {scan.session or '(no session)'}: {there or 'none'}",
                remedy="add the matrices, or take the visit out with an excluded diagnosis",
            )
        return modality in there

    def matrix(self, patient: Patient, scan: Scan, modality: Modality) -> Matrix:
        """``(R, R)`` symmetric, zero where the visit has none; its diagonal is 0.

        Raises SMR-E490 (another parcellation), E491 (unreadable), E492 (not a connectome), E493
        (several files) and E494 (nothing, or less than the plan requires).
        """
        if not self.has(patient, scan, modality):
            return np.zeros((self.regions, self.regions), np.float32)
        path = self._file(patient, scan, modality)
        assert path is not None
        bounded = modality == "functional" and self.correlations
        return checked(self._read(path), path, self.regions, modality, bounded=bounded)

    def _read(self, path: Path) -> npt.NDArray[np.float64]:
        try:
            check_inside(self.root.resolve(), path)
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                body = file.read(MOST_BYTES + 1)
            if len(body) > MOST_BYTES:
                raise Unreadable(f"{max(size, len(body))} bytes, at most {MOST_BYTES} are read")
            return parse(io.BytesIO(body), path.suffix)
        except (Defect, Unreadable, OSError) as error:
            raise SmrfedError(
                "SMR-E491",
                "a connectome cannot be read",
                expected="a table of numbers (.tsv, .csv), a .npy array without pickle, or a .mat "
                "file up to version 7 with one matrix",
                found=f"{path}: {error}",
                remedy="write the matrix again as .tsv, or in MATLAB with save(..., '-v7')",
            ) from None

    def _file(self, patient: Patient, scan: Scan, modality: Modality) -> Path | None:
        """The one file of a visit; raises SMR-E493 for several."""
        folder = self.root / FOLDER / patient.id
        if scan.session:
            folder = folder / scan.session
        found = [p for p in _below(folder) if _is(p.name, modality, patient)]
        if not scan.session:
            found = [path for path in found if "_ses-" not in path.name]
        else:
            found = [path for path in found if f"_{scan.session}_" in path.name]
        if len(found) > 1:
            raise SmrfedError(
                "SMR-E493",
                "a visit has several connectomes of one kind",
                expected=f"one desc-{modality} file per visit",
                found=", ".join(str(path) for path in found[:3]),
                remedy="keep the one that the plan's sites agreed on, and move the others away",
            )
        return found[0] if found else None

    def _other_regions(self, found: str) -> SmrfedError:
        return SmrfedError(
            "SMR-E490",
            "the connectomes are not on the plan's parcellation",
            expected=f"{FOLDER / REGIONS} with a column name: {self.regions} regions, digest "
            f"{self.sha256}",
            found=found,
            remedy="compute the matrices on the parcellation of the plan, and put its table of "
            "regions beside them, in the order of the rows",
        )


def checked(
    matrix: npt.NDArray[np.float64],
    path: Path,
    regions: int,
    modality: Modality,
    *,
    bounded: bool,
) -> Matrix:
    """A symmetric ``(R, R)`` matrix with a zero diagonal, or SMR-E492.

    What differs from its mirror image by rounding is averaged with it; a directed matrix is
    refused. Structural edges are not negative; ``bounded`` ones lie between -1 and 1.
    """
    problem = None
    if matrix.shape != (regions, regions):
        problem = f"shape {matrix.shape}"
    elif not np.isfinite(matrix).all():
        problem = f"{int((~np.isfinite(matrix)).sum())} values are not finite"
    else:
        matrix = matrix.copy()
        np.fill_diagonal(matrix, 0)
        largest = float(np.abs(matrix).max())
        uneven = float(np.abs(matrix - matrix.T).max())
        if uneven > _SYMMETRY * largest:
            problem = f"not symmetric: an edge and its mirror image differ by {uneven:.4g}"
        elif largest == 0:
            problem = "no edge at all"
        elif modality == "structural" and matrix.min() < 0:
            problem = f"a negative structural edge, {matrix.min():.4g}"
        elif largest > _LARGEST_EDGE:
            problem = f"an edge of {largest:.4g}"
        elif bounded and largest > _LARGEST_CORRELATION:
            problem = f"a correlation of {largest:.4g}"
    if problem is not None:
        raise SmrfedError(
            "SMR-E492",
            f"a {modality} connectome is not what it should be",
            expected=f"({regions}, {regions}), finite, symmetric to {_SYMMETRY:g} of its largest "
            "edge; structural edges not negative, functional ones correlations, not Fisher's z",
            found=f"{path}: {problem}",
            remedy="compute the matrix again; smrfed applies log1p and Fisher's z itself, unless "
            "the plan's model says functional = 'as_is'",
        )
    return ((matrix + matrix.T) / 2).astype(np.float32)


def _is(name: str, modality: Modality, patient: Patient) -> bool:
    entities = name.split("_")[:-1]
    return (
        name.endswith(_ENDINGS)
        and name.startswith(f"{patient.id}_")
        and f"desc-{modality}" in entities
    )


def _below(folder: Path) -> list[Path]:
    """Connectomes below a folder, at most three levels deep, by name."""
    out: list[Path] = []
    for pattern in ("*", "*/*", "*/*/*"):
        for path in folder.glob(pattern):
            if len(out) >= _MOST_FILES:
                return sorted(out)
            if path.name.endswith(_ENDINGS) and not path.name.startswith("."):
                out.append(path)
    return sorted(out)


def _rows(path: Path) -> list[dict[str, str]]:
    lines = path.read_bytes()[: MOST_BYTES // 8].decode("utf-8-sig", errors="replace").splitlines()
    header = lines[0].split("\t") if lines else []
    rows = [dict(zip(header, line.split("\t"), strict=False)) for line in lines[1:] if line.strip()]
    return rows[: MOST_REGIONS + 1]
