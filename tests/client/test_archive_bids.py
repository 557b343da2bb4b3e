"""Reading archives: what a hospital may have on disk, and every mistake by its number."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from bids_fixture import LABELS, Person, Visit, image_path, people, write_bids
from conftest import MakeArchive

from client.archive.bids import read_bids_archive
from client.archive.labels import ColumnNames, LabelMapping
from client.archive.patients import Patient
from shared_model.errors import SmrfedError

MAPPING = LabelMapping(values={label: (label,) for label in LABELS})
FOUR = (
    Person("01", (Visit("CN"),)),
    Person("02", (Visit("MCI"),), "M", "LAS"),
    Person("03", (Visit("AD", "M00", 71.5), Visit("AD", "M12", 72.5))),
    Person("04", (Visit("CN"),), "M"),
)


def read(root: Path, **changes: object) -> tuple[Patient, ...]:
    return read_bids_archive(root, MAPPING.model_copy(update=changes), LABELS)


def refusal(root: Path, **changes: object) -> SmrfedError:
    with pytest.raises(SmrfedError) as caught:
        read(root, **changes)
    return caught.value


def edit(path: Path, change: Callable[[str], str]) -> None:
    before = path.read_text()
    path.write_text(change(before))
    assert path.read_text() != before


@pytest.fixture
def four(make_archive: MakeArchive) -> Path:
    return make_archive(*FOUR)


def first_image(root: Path, number: int = 0) -> Path:
    person = FOUR[number]
    return image_path(root, person, person.visits[0])


def test_subjects_are_patients_with_all_their_scans(four: Path) -> None:
    patients = read(four)
    assert [p.id for p in patients] == ["sub-01", "sub-02", "sub-03", "sub-04"]
    assert [p.label for p in patients] == [0, 1, 2, 0]
    assert [p.sex for p in patients] == ["F", "M", "F", "M"]
    assert [s.session for s in patients[2].scans] == ["ses-M00", "ses-M12"]
    assert [s.age for s in patients[2].scans] == [71.5, 72.5]
    assert all(scan.path.is_file() for p in patients for scan in p.scans)


def test_the_order_of_the_plan_labels_gives_the_indices(four: Path) -> None:
    patients = read_bids_archive(four, MAPPING, ("AD", "CN", "MCI"))
    assert [p.label for p in patients] == [1, 2, 0, 1]


def test_scans_are_in_the_order_of_age_then_of_session(make_archive: MakeArchive) -> None:
    late_first = Person("01", (Visit("AD", "a", 80.0), Visit("CN", "b", 70.0)))
    without_age = Person("02", (Visit("AD", "M12", None), Visit("CN", "M6", 70.0)))
    patients = read(make_archive(late_first, without_age))
    assert [s.session for s in patients[0].scans] == ["ses-b", "ses-a"]
    assert [s.session for s in patients[1].scans] == ["ses-M6", "ses-M12"]
    assert [p.label for p in patients] == [0, 0]


def test_hyphens_in_subjects_bom_windows_lines_and_case(make_archive: MakeArchive) -> None:
    root = make_archive(Person("site-a-01"), Person("site-a-02", (Visit("AD"),)))
    table = root / "participants.tsv"
    text = table.read_text().replace("sub-site-a-01", "site-a-01").replace("diagnosis", "Group")
    text = text.replace("\tCN", "\t cn ").replace("\t70\t", "\t89+\t")
    table.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode() + b"\r\n")
    patients = read(root)
    assert [p.id for p in patients] == ["sub-site-a-01", "sub-site-a-02"]
    assert [p.label for p in patients] == [0, 2]
    assert patients[0].age == 89


def test_the_hospitals_words_and_exclusions(make_archive: MakeArchive) -> None:
    words = ("NC", "emci", "Dementia", "SMC", "n/a")
    root = make_archive(*(Person(f"{i:02d}", (Visit(w),)) for i, w in enumerate(words)))
    values = {"CN": ("CN", "nc"), "MCI": ("EMCI", "LMCI"), "AD": ("Dementia",)}
    mapping = LabelMapping(values=values, exclude=("SMC", "n/a"))
    patients = read_bids_archive(root, mapping, LABELS)
    assert [(p.id, p.label) for p in patients] == [("sub-00", 0), ("sub-01", 1), ("sub-02", 2)]


def test_an_excluded_visit_leaves_the_patients_other_visits(make_archive: MakeArchive) -> None:
    visits = (Visit("SMC", "M00", 70), Visit("MCI", "M12", 71))
    patients = read(make_archive(Person("01", visits), *FOUR[3:]), exclude=("SMC",))
    assert [(s.session, s.label) for s in patients[0].scans] == [("ses-M12", 1)]


def test_a_diagnosis_of_the_visit_counts_before_that_of_the_person(four: Path) -> None:
    table = four / "sub-03" / "sub-03_sessions.tsv"
    edit(table, lambda text: text.replace("72.5\tAD", "72.5\tMCI"))
    assert [scan.label for scan in read(four)[2].scans] == [2, 1]
    edit(table, lambda text: text.replace("72.5\tMCI", "72.5\tn/a"))
    error = refusal(four)
    assert error.code == "SMR-E206"
    assert "sub-03 ses-M12 has 'n/a'" in str(error.found)


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["acq-mprage_T1w.nii.gz", "run-2_T1w.nii.gz"], "run-2_T1w.nii.gz"),
        (["run-10_T1w.nii.gz", "run-9_T1w.nii.gz"], "run-9_T1w.nii.gz"),
        (["run-1_T1w.nii.gz", "T1w.nii.gz"], "T1w.nii.gz"),
        (["rec-norm_run-1_T1w.nii.gz", "run-2_T1w.nii.gz"], "run-2_T1w.nii.gz"),
        (["acq-b_T1w.nii.gz", "acq-a_T1w.nii.gz"], "acq-a_T1w.nii.gz"),
        (["T2w.nii.gz", "run-3_T1w.nii.gz", "T1w.json"], "run-3_T1w.nii.gz"),
    ],
)
def test_one_image_stands_for_a_session(four: Path, names: list[str], chosen: str) -> None:
    original = first_image(four)
    content = original.read_bytes()
    original.unlink()
    for name in names:
        original.with_name(f"sub-01_{name}").write_bytes(content)
    (original.parent / "._sub-01_T1w.nii.gz").write_bytes(b"left by macOS")
    (scan,) = read(four)[0].scans
    assert scan.path.name == f"sub-01_{chosen}"


def test_derivatives_and_sourcedata_are_not_looked_at(four: Path) -> None:
    for folder in ("derivatives", "sourcedata"):
        shutil.copytree(four / "sub-01", four / folder / "sub-99")
    assert len(read(four)) == 4


def test_uncompressed_images_and_links_within_the_archive(four: Path) -> None:
    image = first_image(four)
    annex = four / ".git" / "annex" / "object"
    annex.parent.mkdir(parents=True)
    image.rename(annex)
    image.symlink_to(annex)
    other = first_image(four, 1)
    other.with_suffix("").write_bytes(gzip.decompress(other.read_bytes()))
    other.unlink()
    paths = [p.scans[0].path.name for p in read(four)]
    assert paths[:2] == ["sub-01_T1w.nii.gz", "sub-02_T1w.nii"]


def test_people_without_an_image(four: Path) -> None:
    first_image(four).unlink()
    error = refusal(four)
    assert error.code == "SMR-E208"
    assert "sub-01" in str(error.found)
    assert [p.id for p in read(four, missing_images="skip")] == ["sub-02", "sub-03", "sub-04"]


def test_excluded_people_need_no_image(four: Path) -> None:
    first_image(four).unlink()
    edit(four / "participants.tsv", lambda text: text.replace("70\tF\tCN", "70\tF\tSMC", 1))
    assert len(read(four, exclude=("SMC",))) == 3


def no_participants(root: Path) -> None:
    (root / "participants.tsv").unlink()


def no_description(root: Path) -> None:
    (root / "dataset_description.json").unlink()


def a_derivative(root: Path) -> None:
    edit(root / "dataset_description.json", lambda text: text.replace("raw", "derivative"))


def a_short_row(root: Path) -> None:
    edit(root / "participants.tsv", lambda text: text + "sub-05\t70\n")


def latin_1(root: Path) -> None:
    (root / "participants.tsv").write_bytes("participant_id\tgröße\n".encode("latin-1"))


def no_id_column(root: Path) -> None:
    edit(root / "participants.tsv", lambda text: text.replace("participant_id", "subject"))


def no_diagnosis_column(root: Path) -> None:
    edit(root / "participants.tsv", lambda text: text.replace("diagnosis", "verdict"))


def unknown_label(root: Path) -> None:
    edit(root / "participants.tsv", lambda text: text.replace("\tMCI", "\tDLB"))


def duplicate_row(root: Path) -> None:
    edit(root / "participants.tsv", lambda text: text + text.splitlines()[1] + "\n")


def duplicate_session(root: Path) -> None:
    table = root / "sub-03" / "sub-03_sessions.tsv"
    edit(table, lambda text: text + text.splitlines()[1] + "\n")


def no_row(root: Path) -> None:
    edit(root / "participants.tsv", lambda text: text.replace("sub-02\t70\tM\tMCI\n", ""))


def no_session_row(root: Path) -> None:
    edit(root / "sub-03" / "sub-03_sessions.tsv", lambda text: text.replace("M12", "M24"))


def impossible_age(root: Path) -> None:
    edit(root / "participants.tsv", lambda text: text.replace("sub-02\t70", "sub-02\t-4"))


def impossible_sex(root: Path) -> None:
    edit(root / "participants.tsv", lambda text: text.replace("70\tM", "70\t7"))


def a_link_outside(root: Path) -> None:
    image, outside = first_image(root), root.parent / "other_T1w.nii.gz"
    image.rename(outside)
    image.symlink_to(outside)


def a_table_outside(root: Path) -> None:
    table, outside = root / "participants.tsv", root.parent / "participants.tsv"
    table.rename(outside)
    table.symlink_to(outside)


def not_nifti(root: Path) -> None:
    first_image(root).write_bytes(gzip.compress(b"not an image"))


def cut_header(root: Path) -> None:
    path = first_image(root)
    path.write_bytes(path.read_bytes()[:60])


def cut_plain_file(root: Path) -> None:
    path = first_image(root)
    path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes())[:-1000])
    path.unlink()


def annex_content_missing(root: Path) -> None:
    path = first_image(root)
    path.unlink()
    path.symlink_to(root / ".git" / "annex" / "absent")


def rewrite(path: Path, voxels: np.ndarray, affine: np.ndarray, code: int = 4) -> None:
    image = nibabel.Nifti1Image(voxels, affine)
    image.set_sform(affine, code)
    image.header["qform_code"] = 0
    nibabel.save(image, path)


def four_dimensions(root: Path) -> None:
    rewrite(first_image(root), np.ones((4, 4, 4, 2), np.float32), np.eye(4))


def one_slice(root: Path) -> None:
    rewrite(first_image(root), np.ones((4, 4, 1), np.float32), np.eye(4))


def complex_voxels(root: Path) -> None:
    rewrite(first_image(root), np.ones((4, 4, 4), np.complex64), np.eye(4))


def singular(root: Path) -> None:
    path = first_image(root)
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[296:312] = bytes(16)  # srow_y of NIfTI-1
    path.write_bytes(gzip.compress(content))


def no_position(root: Path) -> None:
    rewrite(first_image(root), np.ones((4, 4, 4), np.float32), np.eye(4), code=0)


def same_file_twice(root: Path) -> None:
    shutil.copy(first_image(root), first_image(root, 3))


def misfiled(root: Path) -> None:
    path = first_image(root)
    path.rename(path.with_name("sub-09_T1w.nii.gz"))


def one_class(root: Path) -> None:
    for path in (root / "participants.tsv", root / "sub-03" / "sub-03_sessions.tsv"):
        edit(path, lambda text: text.replace("MCI", "CN").replace("AD\n", "CN\n"))


@pytest.mark.parametrize(
    ("damage", "code", "names"),
    [
        (no_description, "SMR-E203", "dataset_description.json"),
        (a_derivative, "SMR-E203", "derivative"),
        (no_participants, "SMR-E222", "participants.tsv"),
        (a_short_row, "SMR-E204", "line 6 has 2 cells"),
        (latin_1, "SMR-E204", "participants.tsv"),
        (no_id_column, "SMR-E205", "participant_id"),
        (no_diagnosis_column, "SMR-E205", "diagnosis or group"),
        (unknown_label, "SMR-E206", "sub-02 has 'DLB', known are ad, cn, mci"),
        (duplicate_row, "SMR-E207", "sub-01"),
        (duplicate_session, "SMR-E207", "ses-M00"),
        (no_row, "SMR-E209", "sub-02"),
        (no_session_row, "SMR-E209", "ses-M12"),
        (impossible_age, "SMR-E210", "sub-02 has age '-4'"),
        (impossible_sex, "SMR-E210", "sub-02 has sex '7'"),
        (a_link_outside, "SMR-E211", "other_T1w.nii.gz"),
        (a_table_outside, "SMR-E211", "participants.tsv"),
        (not_nifti, "SMR-E212", "sub-01_T1w.nii.gz"),
        (cut_header, "SMR-E212", "sub-01_T1w.nii.gz"),
        (cut_plain_file, "SMR-E212", "cut short"),
        (annex_content_missing, "SMR-E212", "sub-01_T1w.nii.gz"),
        (complex_voxels, "SMR-E212", "complex64"),
        (four_dimensions, "SMR-E213", "4 x 4 x 4 x 2"),
        (one_slice, "SMR-E213", "4 x 4 x 1"),
        (singular, "SMR-E214", "sub-01_T1w.nii.gz"),
        (no_position, "SMR-E214", "neither sform nor qform"),
        (one_class, "SMR-E217", "CN"),
        (same_file_twice, "SMR-E218", "sub-04_T1w.nii.gz"),
        (misfiled, "SMR-E220", "sub-09_T1w.nii.gz"),
    ],
)
def test_every_mistake_has_its_number_and_names_its_place(
    four: Path, damage: Callable[[Path], None], code: str, names: str
) -> None:
    assert read(four)
    damage(four)
    error = refusal(four)
    assert error.code == code
    assert names in str(error.found)
    assert error.remedy


def test_an_archive_that_is_not_there(tmp_path: Path) -> None:
    assert refusal(tmp_path / "absent").code == "SMR-E203"


def test_everybody_excluded(four: Path) -> None:
    error = refusal(four, values={"CN": ("x",)}, exclude=LABELS)
    assert error.code == "SMR-E216"
    assert "4 people in participants.tsv, 5 T1w images, 5 of them excluded" in str(error.found)


def test_a_label_that_the_plan_does_not_have(four: Path) -> None:
    error = refusal(four, values={"CN": ("CN",), "Alzheimer": ("AD",)}, exclude=("MCI",))
    assert error.code == "SMR-E219"
    assert error.found == "Alzheimer"


def test_named_columns_are_used_and_must_exist(four: Path) -> None:
    table = four / "participants.tsv"
    edit(table, lambda text: text.replace("diagnosis", "Dx").replace("\tage", "\tyears"))
    shutil.rmtree(four / "sub-03")
    edit(table, lambda text: text.replace("sub-03\t71.5\tF\tAD\n", ""))
    columns = ColumnNames(diagnosis="dx", age="YEARS")
    assert [p.age for p in read(four, columns=columns)] == [70, 70, 70]
    error = refusal(four, columns=ColumnNames(diagnosis="dx", sex="gender"))
    assert error.code == "SMR-E205"
    assert "no gender for sub-01" in str(error.found)


def test_all_cases_are_counted_and_five_are_shown(tmp_path: Path) -> None:
    root = write_bids(tmp_path / "archive", *people(9))
    edit(root / "participants.tsv", lambda text: text.replace("\tCN\n", "\tc\n"))
    for person in people(9):
        if person.visits[0].diagnosis != "CN":
            image_path(root, person, person.visits[0]).write_bytes(b"")
    error = refusal(root)
    assert error.code == "SMR-E206"
    assert "also found: SMR-E212 (6)" in error.what
    edit(root / "participants.tsv", lambda text: text.replace("\tc\n", "\tCN\n"))
    error = refusal(root)
    assert error.code == "SMR-E212"
    assert "6 cases" in str(error.found)
    assert str(error.found).count("; ") == 4


def test_a_value_under_two_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="'nc' stands under CN and under AD"):
        LabelMapping(values={"CN": ("NC",), "AD": ("nc",)})
