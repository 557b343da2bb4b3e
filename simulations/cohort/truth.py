"""What is true of a cohort, as one table, and the region features of the baselines."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from simulations.cohort.bids_writer import write_tsv
from simulations.cohort.generate import truth_path
from simulations.cohort.subject import Subject

TABLE = "volumes.tsv"
_COLUMNS = (
    "participant_id",
    "session_id",
    "site",
    "diagnosis",
    "age",
    "sex",
    "severity",
    "coarse",
    "fine",
    "icv_ml",
)
# The dozen regions with the clearest effect: with fewer than 200 patients all 116 overfit.
SIGNATURE = (
    "hippocampus",
    "entorhinal_zone",
    "amygdala",
    "parahippocampal_zone",
    "fusiform",
    "temporal_inferior",
    "temporal_middle",
    "cingulate_posterior",
    "precuneus",
    "angular",
    "lateral_ventricle",
    "inferior_lateral_ventricle_zone",
)
# A region pushed off the grid must not give log 0.
_SMALLEST_ML = 0.02


@dataclass(frozen=True, eq=False)
class TruthTable:
    """One row per visit, in the order of the file.

    Attributes:
        participant, session, site, diagnosis, sex: ``(N,)`` text.
        age: ``(N,)`` years.
        severity, coarse, fine: ``(N,)`` latent stage.
        icv_ml: ``(N,)``.
        region_ml: ``(N, R)``.
        regions: R names.
    """

    participant: npt.NDArray[np.str_]
    session: npt.NDArray[np.str_]
    site: npt.NDArray[np.str_]
    diagnosis: npt.NDArray[np.str_]
    sex: npt.NDArray[np.str_]
    age: npt.NDArray[np.float64]
    severity: npt.NDArray[np.float64]
    coarse: npt.NDArray[np.float64]
    fine: npt.NDArray[np.float64]
    icv_ml: npt.NDArray[np.float64]
    region_ml: npt.NDArray[np.float64]
    regions: tuple[str, ...]


def write_truth_table(truth: Path, subjects: Sequence[Subject], regions: Sequence[str]) -> None:
    """Gather the patients' truth files into ``volumes.tsv``, one row per visit."""
    rows: list[tuple[str, ...]] = []
    for subject in subjects:
        content = json.loads(truth_path(truth, subject).read_text("utf-8"))
        rows.extend(
            (
                content["participant_id"],
                f"ses-{visit['session']}",
                content["site"],
                content["diagnosis"],
                f"{visit['age']:.1f}",
                content["sex"],
                *(str(visit[key]) for key in ("severity", "coarse", "fine", "icv_ml")),
                *(f"{ml:.4f}" for ml in visit["region_ml"]),
            )
            for visit in content["visits"]
        )
    write_tsv(truth / TABLE, (*_COLUMNS, *regions), rows)


def read_truth_table(truth: Path) -> TruthTable:
    """Read ``volumes.tsv`` of a cohort's truth folder."""
    with (truth / TABLE).open(encoding="utf-8", newline="") as stream:
        header, *rows = csv.reader(stream, delimiter="\t")
    column = {name: [row[i] for row in rows] for i, name in enumerate(header)}
    regions = tuple(header[len(_COLUMNS) :])
    number = {
        name: np.asarray(column[name], dtype=np.float64)
        for name in ("age", "severity", "coarse", "fine", "icv_ml")
    }
    return TruthTable(
        participant=np.asarray(column["participant_id"]),
        session=np.asarray(column["session_id"]),
        site=np.asarray(column["site"]),
        diagnosis=np.asarray(column["diagnosis"]),
        sex=np.asarray(column["sex"]),
        region_ml=np.asarray([row[len(_COLUMNS) :] for row in rows], dtype=np.float64),
        regions=regions,
        **number,
    )


def region_volume_table(
    truth: TruthTable, regions: Sequence[str] | None = SIGNATURE
) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    """Features ``log(V / ICV)`` for the region-volume baseline.

    Args:
        truth: from :func:`read_truth_table`.
        regions: beginnings of region names; None takes all R.

    Returns:
        ``(N, F)`` and the F region names, in atlas order.
    """
    chosen = [
        i
        for i, name in enumerate(truth.regions)
        if regions is None or name.startswith(tuple(regions))
    ]
    volumes = np.maximum(truth.region_ml[:, chosen], _SMALLEST_ML)
    features = np.log(volumes / truth.icv_ml[:, None])
    return features, tuple(truth.regions[i] for i in chosen)
