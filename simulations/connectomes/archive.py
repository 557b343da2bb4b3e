"""A cohort of connectomes as BIDS archives with derivatives, as a hospital keeps them.

A hospital's patients are those with a T1w image, because a connectome's regions come from one:
every person has a small image of the public template with noise of their own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
from scipy.ndimage import affine_transform

from client.archive.connectomes import FOLDER, REGIONS
from shared_model.atlas.tissue import load_tissue_maps
from shared_model.grid import ModelGrid
from simulations.connectomes.anatomy import Matrix
from simulations.connectomes.people import ConnectomeCohort, Person
from simulations.connectomes.spec import LABELS

GRID = ModelGrid(spacing_mm=4.0)
_GREY_NOISE = 8.0


def write_archives(cohort: ConnectomeCohort, root: Path) -> dict[str, Path]:
    """One archive per site below ``root``, which is written once; returns them by site."""
    out = {}
    for name, people in cohort.sites.items():
        out[name] = root / name
        if not (root / name / "participants.tsv").exists():
            _write(out[name], people, cohort.anatomy.names, cohort.spec.seed)
    return out


def _write(root: Path, people: Sequence[Person], names: Sequence[str], seed: int) -> None:
    root.mkdir(parents=True, exist_ok=True)
    derivatives = root / FOLDER
    derivatives.mkdir(parents=True, exist_ok=True)
    description = {"Name": "connectomes", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    (root / "dataset_description.json").write_text(json.dumps(description))
    (derivatives / REGIONS).write_text("\n".join(("name", *names)) + "\n")
    template = _template()
    for number, person in enumerate(people):
        subject = f"sub-{person.id}"
        random = np.random.default_rng([3, seed, number, *root.name.encode()])
        grey = np.where(template > 0, template + random.normal(0, _GREY_NOISE, template.shape), 0)
        image = nibabel.Nifti1Image(np.rint(grey.clip(0) * 16).astype(np.int16), GRID.affine)
        path = root / subject / "anat" / f"{subject}_T1w.nii"
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(image, path)
        folder = derivatives / subject
        folder.mkdir(exist_ok=True)
        if person.structural is not None:
            _table(folder / f"{subject}_desc-structural_connectivity.tsv", person.structural)
        if person.functional is not None:
            _table(folder / f"{subject}_desc-functional_relmat.dense.tsv", person.functional)
    rows = [f"sub-{p.id}\t{p.age:.1f}\t{p.sex}\t{LABELS[p.label]}" for p in people]
    table = "\n".join(("participant_id\tage\tsex\tdiagnosis", *rows)) + "\n"
    # Last: an archive with this table is whole.
    (root / "participants.tsv").write_text(table)


def _table(path: Path, matrix: Matrix) -> None:
    np.savetxt(path, matrix, fmt="%.6g", delimiter="\t")


def _template() -> Matrix:
    """``(X, Y, Z)`` the public MNI152 T1 on the 4 mm grid, 0 outside the brain."""
    maps = load_tissue_maps()
    offset = GRID.affine[:3, 3] - maps.affine[:3, 3]
    zoom = np.full(3, GRID.spacing_mm)
    sampled = affine_transform(maps.t1, zoom, offset, output_shape=GRID.shape, order=0)
    return np.asarray(sampled, np.float64)
