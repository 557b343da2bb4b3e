"""Atlases on disk: round trip, foreign conventions, and what is refused with which number."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_model.atlas.bids import load_dseg, save_dseg
from shared_model.atlas.seeded import seeded_atlas
from shared_model.errors import SmrfedError

TABLE = "index\tname\thomolog\n0\tbackground\tn/a\n10\tleft\t30\n30\tright\t10\n20\tmiddle\tn/a\n"


def image(path: Path, values: np.ndarray | None = None) -> Path:
    if values is None:
        values = np.zeros((12, 10, 8), dtype=np.uint8)
        values[:4], values[4:8], values[8:] = 10, 20, 30
    nifti = nibabel.Nifti1Image(values, np.diag([2.0, 2, 2, 1]))
    nifti.set_sform(nifti.affine, 4)
    nibabel.save(nifti, path)
    return path


def table(path: Path, text: str = TABLE) -> Path:
    path.write_bytes(text.encode())
    return path


def code_of(image_path: Path, table_path: Path) -> str:
    with pytest.raises(SmrfedError) as caught:
        load_dseg(image_path, table_path, "site")
    return caught.value.code


def test_default_atlas_round_trip(tmp_path: Path) -> None:
    atlas = seeded_atlas()
    paths = tmp_path / "a_dseg.nii.gz", tmp_path / "a_dseg.tsv"
    save_dseg(atlas, *paths)
    again = load_dseg(*paths, "copy")
    assert again.sha256 == atlas.sha256
    assert again.names == atlas.names
    first = paths[0].read_bytes()
    save_dseg(again, *paths)
    assert paths[0].read_bytes() == first


def test_stored_orientation_does_not_matter(tmp_path: Path) -> None:
    atlas = seeded_atlas()
    paths = tmp_path / "a_dseg.nii.gz", tmp_path / "a_dseg.tsv"
    save_dseg(atlas, *paths)
    ras = nibabel.load(paths[0])
    turn = nibabel.orientations.axcodes2ornt("PIL")
    nibabel.save(
        ras.as_reoriented(nibabel.orientations.ornt_transform([[0, 1], [1, 1], [2, 1]], turn)),
        paths[0],
    )
    assert nibabel.aff2axcodes(nibabel.load(paths[0]).affine) != ("R", "A", "S")
    assert load_dseg(*paths, "turned").sha256 == atlas.sha256


def test_foreign_indices_become_nodes_in_index_order(tmp_path: Path) -> None:
    atlas = load_dseg(image(tmp_path / "d.nii.gz"), table(tmp_path / "d.tsv"), "site")
    assert atlas.names == ("left", "middle", "right")
    assert atlas.homologs == (2, -1, 0)
    assert np.unique(atlas.labels).tolist() == [1, 2, 3]
    assert atlas.adjacency[0, 2] > 0
    assert atlas.region_ml().tolist() == pytest.approx([2.56, 2.56, 2.56])


def test_table_and_image_must_agree(tmp_path: Path) -> None:
    label_image = image(tmp_path / "d.nii.gz")
    extra = table(tmp_path / "more.tsv", TABLE + "40\tghost\tn/a\n")
    assert code_of(label_image, extra) == "SMR-E626"
    fewer = table(tmp_path / "fewer.tsv", TABLE.replace("20\tmiddle\tn/a\n", ""))
    assert code_of(label_image, fewer) == "SMR-E626"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "id\tlabel\n1\ta\n",
        "index\tname\n",
        "index\tname\nten\tleft\n",
        "index\tname\n10\tleft\n10\tright\n",
        "index\tname\n10\tsame\n20\tsame\n30\tother\n",
        "index\tname\n10\t\n20\tb\n",
        "index\tname\n-1\ta\n20\tb\n",
        "index\tname\n10\n20\tb\n",
        TABLE.replace("10\tleft\t30", "10\tleft\t20"),
        TABLE.replace("10\tleft\t30", "10\tleft\t99"),
    ],
)
def test_wrong_table_is_refused(tmp_path: Path, text: str) -> None:
    assert code_of(image(tmp_path / "d.nii.gz"), table(tmp_path / "d.tsv", text)) == "SMR-E625"


def test_missing_and_binary_tables_are_refused(tmp_path: Path) -> None:
    label_image = image(tmp_path / "d.nii.gz")
    assert code_of(label_image, tmp_path / "none.tsv") == "SMR-E625"
    (tmp_path / "bytes.tsv").write_bytes(b"\xff\xfe\x00index")
    assert code_of(label_image, tmp_path / "bytes.tsv") == "SMR-E625"


def test_wrong_images_are_refused(tmp_path: Path) -> None:
    regions = table(tmp_path / "d.tsv")
    good = np.zeros((6, 6, 6))
    cases = {
        "half": np.full((6, 6, 6), 0.5, np.float32),
        "negative": np.full((6, 6, 6), -1, np.int16),
        "nan": np.full((6, 6, 6), np.nan, np.float32),
        "flat": np.zeros((6, 6), np.int16),
        "probabilities": np.zeros((6, 6, 6, 3), np.float32),
        "huge": np.where(good == 0, 2.0**30, 0).astype(np.float32),
    }
    for name, values in cases.items():
        assert code_of(image(tmp_path / f"{name}.nii.gz", values), regions) == "SMR-E624", name
    placeless = image(tmp_path / "placeless.nii")
    content = bytearray(placeless.read_bytes())
    content[252:256] = bytes(4)  # qform_code and sform_code
    placeless.write_bytes(content)
    assert code_of(placeless, regions) == "SMR-E624"
    assert code_of(tmp_path / "absent.nii.gz", regions) == "SMR-E624"
    (tmp_path / "junk.nii.gz").write_bytes(b"not an image")
    assert code_of(tmp_path / "junk.nii.gz", regions) == "SMR-E624"
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes(image(tmp_path / "d.nii.gz").read_bytes()[:60])
    assert code_of(cut, regions) == "SMR-E624"


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="index\tname\n0123-homlg ", max_size=80))
def test_any_table_gives_an_atlas_or_a_numbered_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzz"
    folder.mkdir(exist_ok=True)
    label_image = folder / "d.nii.gz"
    if not label_image.exists():
        image(label_image)
    code = None
    try:
        load_dseg(label_image, table(folder / "d.tsv", "index\tname\n" + text), "fuzz")
    except SmrfedError as error:
        code = error.code
    assert code in {None, "SMR-E625", "SMR-E626"}
