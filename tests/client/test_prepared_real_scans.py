"""Public scans of real heads: any axis order, data type and voxel size is read right."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from client.archive.labels import ColumnNames
from client.archive.nifti import check_header, read_volume
from client.archive.problems import Problems
from client.archive.scan_files import scan_files, subject_folders
from client.archive.tables import read_age, read_sex, read_table
from client.prepared.intensity import standardise
from client.prepared.resample import to_grid, to_ras
from shared_model.grid import ModelGrid

_HERE = Path(__file__).parents[2]
DATA = Path(os.environ.get("SMRFED_SHARED_DATA", _HERE.parent / "shared" / "data")) / "bids"
# Dataset: stored axes, stored type, voxel size in mm, as published.
SCANS = {
    "brainchop": ("LIA", "uint8", (1.0, 1.0, 1.0)),
    "colin27": ("RAS", "float32", (1.0, 1.0, 1.0)),
    "niimathdemo": ("RAS", "float32", (0.8, 0.8, 0.8)),
    "novosibirsk": ("LAS", "float32", (0.87, 0.87, 1.0)),
    "ucla": ("LAS", "int16", (1.0, 1.33, 1.33)),
}

pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"no public scans at {DATA}; set SMRFED_SHARED_DATA to their folder"
)


def images(dataset: str) -> list[Path]:
    problems = Problems()
    root = (DATA / dataset).resolve()
    found = [f.path for s in subject_folders(root, problems) for f in scan_files(root, s, problems)]
    problems.raise_any()
    return found


@pytest.mark.parametrize("dataset", SCANS)
def test_a_real_scan_is_found_and_turned_to_ras(dataset: str) -> None:
    axes, dtype, voxel_mm = SCANS[dataset]
    path = images(dataset)[0]
    check_header(path)
    image = nibabel.load(path)
    assert "".join(nibabel.aff2axcodes(image.affine)) == axes
    assert image.get_data_dtype() == np.dtype(dtype)
    assert image.header.get_zooms()[:3] == pytest.approx(voxel_mm, abs=0.01)
    raw = read_volume(path)
    ras, affine = to_ras(raw.voxels, raw.affine)
    # nibabel's own route to the same array.
    other = nibabel.as_closest_canonical(image)
    np.testing.assert_array_equal(ras, np.asarray(other.dataobj, dtype=np.float32))
    np.testing.assert_allclose(affine, other.affine, atol=1e-5)
    assert nibabel.aff2axcodes(affine) == ("R", "A", "S")


@pytest.mark.parametrize("dataset", ["brainchop", "ucla"])
def test_a_real_scan_lands_where_its_matrix_says(dataset: str) -> None:
    path = images(dataset)[0]
    raw = read_volume(path)
    # As fine as the scan, so that nothing is blurred; compared at points of the stored image.
    grid = ModelGrid(spacing_mm=1.0)
    result = to_grid(raw.voxels, raw.affine, grid)
    rng = np.random.default_rng(0)
    index = rng.integers(0, grid.shape, size=(4000, 3))
    mm = nibabel.affines.apply_affine(grid.affine, index)
    stored = nibabel.affines.apply_affine(np.linalg.inv(raw.affine), mm)
    inside = ((stored > 0) & (stored < np.array(raw.voxels.shape) - 1)).all(1)
    expected = map_coordinates(raw.voxels, stored[inside].T, order=1)
    assert inside.sum() > 1000
    assert expected.std() > 1
    np.testing.assert_allclose(result[tuple(index[inside].T)], expected, atol=0.01 * expected.max())


@pytest.mark.parametrize("dataset", ["niimathdemo", "colin27"])
@pytest.mark.parametrize("intensity", ["zscore", "quantile"])
def test_greys_of_a_real_brain(dataset: str, intensity: str) -> None:
    raw = read_volume(images(dataset)[0])
    volume = to_grid(raw.voxels, raw.affine, ModelGrid())
    out = standardise(volume, volume > 0.02 * np.percentile(volume, 99), intensity)  # type: ignore[arg-type]
    inside = out[out > -4]
    assert abs(np.median(inside)) < 0.05
    assert 0.2 < inside.std() < 2.5


def test_the_tables_of_real_datasets() -> None:
    names = ColumnNames()
    facts = {}
    for dataset in SCANS:
        table = read_table(DATA / dataset / "participants.tsv")
        facts[dataset], bad_rows = table.facts("participant_id", "sub-", names)
        assert not bad_rows
    ucla = {n: (read_age(f["age"], n), read_sex(f["sex"], n)) for n, f in facts["ucla"].items()}
    assert ucla == {"sub-01": (35.0, "M"), "sub-10": (20.0, "F")}
    # Here the column is called gender, and the group is not of this task.
    person = facts["novosibirsk"]["sub-01"]
    assert read_sex(person["sex"], "sub-01") == "M"
    assert person["diagnosis"].text == "depr"
    assert facts["colin27"] == {"sub-01": {}}
