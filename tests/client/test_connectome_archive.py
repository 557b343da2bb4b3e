"""Connectome files as hospitals have them: every format, and everything that must be refused."""

from __future__ import annotations

import contextlib
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from client.archive.connectome_formats import Unreadable, parse
from client.archive.connectomes import FOLDER, ConnectomeFolder
from client.archive.patients import Patient, Scan
from shared_model.connex.parcellation import parcellation_sha256
from shared_model.errors import SmrfedError

NAMES = ("left hippocampus", "right hippocampus", "precuneus", "cuneus")
R = len(NAMES)
VISIT = Scan("", Path("sub-01_T1w.nii.gz"), 0, None)
LATER = Scan("ses-M12", Path("sub-01_ses-M12_T1w.nii.gz"), 0, None)
PATIENT = Patient("sub-01", None, (VISIT, LATER))
STRUCTURAL = "sub-01_desc-structural_connectivity"


def counts() -> np.ndarray:
    upper = np.triu(np.arange(1.0, R * R + 1).reshape(R, R), 1)
    return upper + upper.T


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / FOLDER / "sub-01").mkdir(parents=True)
    (tmp_path / FOLDER / "regions.tsv").write_text("\n".join(("index\tname", *rows())) + "\n")
    return tmp_path


def rows() -> list[str]:
    return [f"{number}\t{name}" for number, name in enumerate(NAMES)]


def folder_of(root: Path, require: str = "any") -> ConnectomeFolder:
    return ConnectomeFolder(root, R, parcellation_sha256(NAMES), require)  # type: ignore[arg-type]


def place(root: Path, name: str, matrix: np.ndarray | None = None) -> Path:
    path = root / FOLDER / "sub-01" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    matrix = counts() if matrix is None else matrix
    if name.endswith(".npy"):
        np.save(path, matrix)
    elif name.endswith(".mat"):
        scipy.io.savemat(path, {"connectivity": matrix})
    else:
        np.savetxt(path, matrix, delimiter="," if name.endswith(".csv") else "\t")
    return path


@pytest.mark.parametrize("ending", [".tsv", ".csv", ".npy", ".mat"])
def test_every_format_gives_the_matrix(root: Path, ending: str) -> None:
    folder = folder_of(root)
    folder.check_regions()
    place(root, f"{STRUCTURAL}{ending}")
    np.testing.assert_array_equal(folder.matrix(PATIENT, VISIT, "structural"), counts())
    assert not folder.matrix(PATIENT, VISIT, "functional").any()
    assert not folder.has(PATIENT, VISIT, "functional")


def test_bids_names_sessions_and_headers(root: Path) -> None:
    correlation = np.tanh(counts() / 20)
    path = place(root, "ses-M12/func/sub-01_ses-M12_desc-functional_relmat.dense.tsv", correlation)
    path.write_text("\t".join(NAMES) + "\n" + path.read_text())
    found = folder_of(root).matrix(PATIENT, LATER, "functional")
    np.testing.assert_allclose(found, correlation, rtol=1e-6)
    with pytest.raises(SmrfedError, match="SMR-E494"):  # the first visit has none of its own
        folder_of(root).matrix(PATIENT, VISIT, "functional")


def test_rounding_is_symmetrised_and_the_diagonal_is_left_out(root: Path) -> None:
    matrix = counts()
    matrix[0, 1] += 1e-4
    np.fill_diagonal(matrix, 1e6)
    place(root, f"{STRUCTURAL}.tsv", matrix)
    found = folder_of(root).matrix(PATIENT, VISIT, "structural")
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_allclose(found, counts(), atol=1e-4)


@pytest.mark.parametrize(
    ("modality", "matrix", "why"),
    [
        ("structural", np.ones((R, R + 1)), "shape"),
        ("structural", np.ones((R + 1, R + 1)), "shape"),
        ("structural", np.triu(np.ones((R, R))), "not symmetric"),
        ("structural", -counts(), "negative"),
        ("structural", counts() * 1e12, "an edge of"),
        ("structural", np.where(counts() == 2, np.nan, counts()), "not finite"),
        ("structural", np.zeros((R, R)), "no edge"),
        ("functional", counts(), "a correlation of"),
    ],
)
def test_what_is_no_connectome_is_refused(
    root: Path, modality: str, matrix: np.ndarray, why: str
) -> None:
    place(root, f"sub-01_desc-{modality}_connectivity.tsv", matrix)
    with pytest.raises(SmrfedError, match="SMR-E492") as caught:
        folder_of(root).matrix(PATIENT, VISIT, modality)  # type: ignore[arg-type]
    assert why in str(caught.value)


def test_hostile_files_are_refused_and_nothing_is_run(root: Path) -> None:
    trap = b"cposix\nsystem\n(S'touch " + str(root / "owned").encode() + b"'\ntR."
    objects = io.BytesIO()
    np.save(objects, np.array([[{"a": 1}]], dtype=object), allow_pickle=True)
    archive = io.BytesIO()
    np.savez(archive, a=counts(), b=counts())
    two = io.BytesIO()
    scipy.io.savemat(two, {"a": counts(), "b": counts()})
    large = io.BytesIO()
    scipy.io.savemat(large, {"a": np.zeros((1, 600))})
    cases = {
        ".npy": (
            trap,
            pickle.dumps([1]),
            objects.getvalue(),
            archive.getvalue(),
            b"",
            b"\x93NUMPY",
        ),
        ".mat": (
            trap,
            b"",
            b"\x89HDF\r\n\x1a\n" + bytes(200),
            b"MATLAB 7.3 MAT-file" + bytes(200),
            two.getvalue(),
            large.getvalue(),
        ),
        ".tsv": (trap, b"", b"\xff\xfe1\t2", b"1\t2\n3\n", b"1\tx\n2\t3\n", b"1\t" * 600),
    }
    for ending, bodies in cases.items():
        for body in bodies:
            path = root / FOLDER / "sub-01" / f"{STRUCTURAL}{ending}"
            path.write_bytes(body)
            with pytest.raises(SmrfedError, match="SMR-E491"):
                folder_of(root).matrix(PATIENT, VISIT, "structural")
            path.unlink()
    assert not (root / "owned").exists()


@settings(max_examples=200)
@given(st.binary(max_size=200), st.sampled_from([".tsv", ".csv", ".npy", ".mat"]))
def test_any_bytes_are_a_matrix_or_unreadable(body: bytes, ending: str) -> None:
    with contextlib.suppress(Unreadable):
        assert parse(io.BytesIO(body), ending).ndim == 2


def test_matlab_7_3_is_told_with_a_remedy(root: Path) -> None:
    path = root / FOLDER / "sub-01" / f"{STRUCTURAL}.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64" + bytes(600))
    with pytest.raises(SmrfedError, match="-v7"):
        folder_of(root).matrix(PATIENT, VISIT, "structural")


def test_a_link_out_of_the_archive_is_refused(root: Path, tmp_path_factory: object) -> None:
    outside = root.parent / f"{root.name}-outside.tsv"
    np.savetxt(outside, counts(), delimiter="\t")
    (root / FOLDER / "sub-01" / f"{STRUCTURAL}.tsv").symlink_to(outside)
    with pytest.raises(SmrfedError, match="SMR-E491"):
        folder_of(root).matrix(PATIENT, VISIT, "structural")


def test_two_files_of_one_visit_are_refused(root: Path) -> None:
    place(root, f"{STRUCTURAL}.tsv")
    place(root, f"{STRUCTURAL}.npy")
    with pytest.raises(SmrfedError, match="SMR-E493"):
        folder_of(root).matrix(PATIENT, VISIT, "structural")


def test_a_visit_without_what_the_plan_requires(root: Path) -> None:
    with pytest.raises(SmrfedError, match="SMR-E494"):
        folder_of(root).has(PATIENT, VISIT, "structural")
    place(root, f"{STRUCTURAL}.tsv")
    assert folder_of(root).has(PATIENT, VISIT, "structural")
    with pytest.raises(SmrfedError, match="SMR-E494"):
        folder_of(root, "both").has(PATIENT, VISIT, "structural")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "index\n1\n",
        "index\tname\n" + "\n".join(rows()[::-1]),
        "index\tname\n" + "\n".join(rows()[:-1]),
        "index\tname\n" + "\n".join([*rows()[:-1], rows()[0]]),
    ],
)
def test_other_regions_are_refused(root: Path, text: str) -> None:
    (root / FOLDER / "regions.tsv").write_text(text)
    with pytest.raises(SmrfedError, match="SMR-E490"):
        folder_of(root).check_regions()


REAL = Path(__file__).parents[3] / "shared" / "data" / "connectomes" / "enigma_hcp"


@pytest.mark.skipif(not REAL.exists(), reason="group connectomes of HCP are not here")
def test_real_group_connectomes_are_read(root: Path) -> None:
    names = tuple((REAL / "strucLabels_ctx.csv").read_text().strip().split(","))
    # HCP's functional matrix is a mean of Fisher's z: it is refused as correlations.
    folder = ConnectomeFolder(root, len(names), parcellation_sha256(names), correlations=False)
    for kind, name in (("structural", "strucMatrix_ctx"), ("functional", "funcMatrix_ctx")):
        target = root / FOLDER / "sub-01" / f"sub-01_desc-{kind}_connectivity.csv"
        target.write_bytes((REAL / f"{name}.csv").read_bytes())
        matrix = folder.matrix(PATIENT, VISIT, kind)  # type: ignore[arg-type]
        assert matrix.shape == (68, 68)
        assert (matrix == matrix.T).all()
        assert matrix.any()
