"""A small archive with everything that a registered model can ask a hospital for.

Where a model asks for a new field of :data:`shared_model.inputs.INPUT_FIELDS`, add it here.
"""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
from bids_fixture import image_path, people, write_bids

from shared_model.atlas.seeded import seeded_atlas

#: The fields that :func:`write_whole_archive` serves, and ``lesions``.
SERVED = {
    "volume", "clinical", "region_volumes", "structural", "functional", "has_structural",
    "has_functional", "lesions", "earlier_volume", "years_between",
}  # fmt: skip


def write_whole_archive(root: Path, patients: int, seed: int = 0) -> Path:
    """Scans, clinical columns, both connectomes on the default atlas, a lesion mask per scan."""
    crowd = people(patients)
    write_bids(root, *crowd, seed=seed)
    _add_clinical(root)
    names = seeded_atlas().names
    connectomes = root / "derivatives" / "connectomes"
    connectomes.mkdir(parents=True)
    (connectomes / "regions.tsv").write_text("\n".join(("name", *names)) + "\n")
    rng = np.random.default_rng(seed)
    for person in crowd:
        for visit in person.visits:
            image = image_path(root, person, visit)
            stem = image.name.removesuffix("_T1w.nii.gz")
            folder = connectomes / image.parent.parent.relative_to(root)
            folder.mkdir(parents=True)
            drawn = rng.standard_normal((len(names), len(names))).astype(np.float32)
            even = (drawn + drawn.T) / 2
            np.fill_diagonal(even, 0)
            np.save(folder / f"{stem}_desc-structural_connectivity.npy", np.abs(even))
            np.save(folder / f"{stem}_desc-functional_connectivity.npy", np.tanh(even))
            _write_mask(root, image, stem)
    return root


def _add_clinical(root: Path) -> None:
    """The columns of the default clinical variables, with one value missing."""
    table = root / "participants.tsv"
    head, *rows = table.read_text().splitlines()
    rows = [f"{row}\t{12 + n}\t{n % 3}\t{29 - n}" for n, row in enumerate(rows)]
    rows[0] = rows[0].rpartition("\t")[0] + "\tn/a"
    table.write_text("\n".join([f"{head}\teducation\tapoe4\tmmse", *rows]) + "\n")


def _write_mask(root: Path, image: Path, stem: str) -> None:
    """One lesion of two voxels' edge where the brain is brightest."""
    scan = nibabel.load(image)
    voxels = np.asarray(scan.dataobj)
    mask = np.zeros(voxels.shape, np.uint8)
    i, j, k = (int(v) for v in np.unravel_index(int(voxels.argmax()), voxels.shape))
    mask[i - 1 : i + 1, j - 1 : j + 1, k - 1 : k + 1] = 1
    path = root / "derivatives" / "lesions" / image.parent.relative_to(root)
    path.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(mask, scan.affine), path / f"{stem}_desc-lesion_mask.nii.gz")
