"""The tolerant reading: every defect is listed with its number, and the rest is read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from bids_fixture import LABELS, Person, Visit, image_path
from conftest import MakeArchive
from test_archive_bids import (
    FOUR,
    MAPPING,
    a_derivative,
    a_link_outside,
    a_short_row,
    a_table_outside,
    annex_content_missing,
    complex_voxels,
    cut_header,
    cut_plain_file,
    duplicate_row,
    duplicate_session,
    edit,
    first_image,
    four_dimensions,
    impossible_age,
    impossible_sex,
    latin_1,
    misfiled,
    no_description,
    no_diagnosis_column,
    no_id_column,
    no_participants,
    no_position,
    no_row,
    no_session_row,
    not_nifti,
    one_class,
    one_slice,
    refusal,
    same_file_twice,
    singular,
    unknown_label,
)

from client.archive.bids import ArchiveSurvey, read_bids_archive, survey_bids_archive
from client.archive.labels import ColumnNames
from client.archive.problems import Problem
from shared_model.errors import SmrfedError


def survey(root: Path, **changes: object) -> ArchiveSurvey:
    return survey_bids_archive(root, MAPPING.model_copy(update=changes), LABELS)


@pytest.fixture
def four(make_archive: MakeArchive) -> Path:
    return make_archive(*FOUR)


def sidecar(root: Path, **fields: object) -> None:
    image = first_image(root)
    image.with_name("sub-01_T1w.json").write_text(json.dumps(fields))


def colour(root: Path) -> None:
    voxels = np.zeros((8, 8, 8), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    image = nibabel.Nifti1Image(voxels, np.eye(4))
    image.set_sform(np.eye(4), 1)
    nibabel.save(image, first_image(root))


def positron_emission(root: Path) -> None:
    sidecar(root, Modality="PT")


def computed_tomography(root: Path) -> None:
    sidecar(root, ConversionSoftware="dcm2niix", KVP=120)


def t2(root: Path) -> None:
    sidecar(root, Modality="MR", SeriesDescription="t2_tse_tra")


def long_echo(root: Path) -> None:
    sidecar(root, Modality="MR", SeriesDescription="brain", EchoTime=0.09)


def diffusion(root: Path) -> None:
    sidecar(root, ProtocolName="DTI 64 directions")


def missing_image(root: Path) -> None:
    first_image(root).unlink()


def locked_folder(root: Path) -> None:
    (root / "sub-01" / "anat").chmod(0)


def broken_sessions_table(root: Path) -> None:
    (root / "sub-03" / "sub-03_sessions.tsv").write_bytes(b"session_id\tgr\xf6\xdfe\nM00\t3\n")


def a_subject_outside(root: Path) -> None:
    folder, outside = root / "sub-01", root.parent / "elsewhere"
    folder.rename(outside)
    folder.symlink_to(outside)


SUBJECTS = ["sub-01", "sub-02", "sub-03", "sub-04"]


@pytest.mark.parametrize(
    ("damage", "code", "excluded"),
    [
        (a_short_row, "SMR-E204", {"sub-05": ""}),
        (broken_sessions_table, "SMR-E204", {"sub-03": ""}),
        (unknown_label, "SMR-E206", {"sub-02": ""}),
        (duplicate_row, "SMR-E207", {"sub-01": ""}),
        (duplicate_session, "SMR-E207", {"sub-03": "ses-M00"}),
        (missing_image, "SMR-E208", {"sub-01": ""}),
        (no_row, "SMR-E209", {"sub-02": ""}),
        (no_session_row, "SMR-E209", {"sub-03": "ses-M12"}),
        (impossible_age, "SMR-E210", {"sub-02": ""}),
        (impossible_sex, "SMR-E210", {"sub-02": "", "sub-04": ""}),
        (a_link_outside, "SMR-E211", {"sub-01": ""}),
        (a_subject_outside, "SMR-E211", {"sub-01": ""}),
        (not_nifti, "SMR-E212", {"sub-01": ""}),
        (cut_header, "SMR-E212", {"sub-01": ""}),
        (cut_plain_file, "SMR-E212", {"sub-01": ""}),
        (annex_content_missing, "SMR-E212", {"sub-01": ""}),
        (complex_voxels, "SMR-E212", {"sub-01": ""}),
        (colour, "SMR-E212", {"sub-01": ""}),
        (four_dimensions, "SMR-E213", {"sub-01": ""}),
        (one_slice, "SMR-E213", {"sub-01": ""}),
        (singular, "SMR-E214", {"sub-01": ""}),
        (no_position, "SMR-E214", {"sub-01": ""}),
        (same_file_twice, "SMR-E218", {"sub-01": "", "sub-04": ""}),
        (misfiled, "SMR-E220", {"sub-01": ""}),
        (positron_emission, "SMR-E224", {"sub-01": ""}),
        (computed_tomography, "SMR-E224", {"sub-01": ""}),
        (t2, "SMR-E224", {"sub-01": ""}),
        (long_echo, "SMR-E224", {"sub-01": ""}),
        (diffusion, "SMR-E224", {"sub-01": ""}),
    ],
)
def test_one_defect_costs_one_scan_and_is_told_by_number(
    four: Path, damage: Callable[[Path], None], code: str, excluded: dict[str, str]
) -> None:
    damage(four)
    found = survey(four)
    assert {e.code for e in found.exclusions} == {code}
    assert {e.subject: e.session for e in found.exclusions} == excluded
    assert len(found.exclusions) == len(excluded)
    assert all(e.reason and e.path is not None for e in found.exclusions)
    whole = {subject for subject, session in excluded.items() if not session}
    assert [p.id for p in found.patients] == [s for s in SUBJECTS if s not in whole]
    sessions = {s.session for p in found.patients if p.id == "sub-03" for s in p.scans}
    assert sessions == {"ses-M00", "ses-M12"} - set(excluded.values()) or "sub-03" in whole
    # The strict reading stops at the same thing.
    assert refusal(four).code == code


def test_a_folder_that_cannot_be_listed(four: Path) -> None:
    locked_folder(four)
    try:
        try:
            list((four / "sub-01" / "anat").iterdir())
        except PermissionError:
            found = survey(four)
        else:
            pytest.skip("this account may read everything")
    finally:
        (four / "sub-01" / "anat").chmod(0o700)
    assert [(e.code, e.subject) for e in found.exclusions] == [("SMR-E223", "sub-01")]


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (no_description, "SMR-E203"),
        (a_derivative, "SMR-E203"),
        (latin_1, "SMR-E204"),
        (no_id_column, "SMR-E205"),
        (no_diagnosis_column, "SMR-E205"),
        (a_table_outside, "SMR-E211"),
        (one_class, "SMR-E217"),
        (no_participants, "SMR-E222"),
    ],
)
def test_what_makes_the_whole_archive_unusable_still_stops(
    four: Path, damage: Callable[[Path], None], code: str
) -> None:
    if damage is no_diagnosis_column:
        shutil.rmtree(four / "sub-03")
        edit(four / "participants.tsv", lambda text: text.replace("sub-03\t71.5\tF\tAD\n", ""))
    damage(four)
    with pytest.raises(SmrfedError) as caught:
        survey(four)
    assert caught.value.code == code
    assert caught.value.remedy


def test_everything_at_once_leaves_what_is_whole(make_archive: MakeArchive) -> None:
    root = make_archive(*(Person(f"p-{i}", (Visit(LABELS[i % 3]),)) for i in range(9)))
    people = [Person(f"p-{i}") for i in range(9)]
    images = [image_path(root, person, person.visits[0]) for person in people]
    images[0].write_bytes(b"")
    images[1].unlink()
    shutil.copy(images[2], images[3])
    images[4].with_name("sub-p-4_T1w.json").write_text('{"Modality": "CT"}')
    edit(root / "participants.tsv", lambda text: text.replace("sub-p-5\t70", "sub-p-5\t700"))
    shutil.copytree(root / "sub-p-6", root / "sub-nobody")
    strange = root / "sub-nobody" / "anat"
    (strange / images[6].name).rename(strange / "sub-nobody_T1w.nii.gz")
    found = survey(root)
    assert [p.id for p in found.patients] == ["sub-p-6", "sub-p-7", "sub-p-8"]
    assert {(e.code, e.subject) for e in found.exclusions} == {
        ("SMR-E212", "sub-p-0"),
        ("SMR-E208", "sub-p-1"),
        ("SMR-E218", "sub-p-2"),
        ("SMR-E218", "sub-p-3"),
        ("SMR-E224", "sub-p-4"),
        ("SMR-E210", "sub-p-5"),
        ("SMR-E209", "sub-nobody"),
    }


def test_the_next_image_of_a_session_takes_the_place_of_a_broken_one(four: Path) -> None:
    good = first_image(four)
    shutil.copy(good, good.with_name("sub-01_run-2_T1w.nii.gz"))
    good.write_bytes(b"")
    found = survey(four)
    assert found.patients[0].scans[0].path.name == "sub-01_run-2_T1w.nii.gz"
    assert [(e.code, e.path) for e in found.exclusions] == [("SMR-E212", good.resolve())]


def test_an_archive_without_a_defect_reads_the_same_both_ways(four: Path) -> None:
    found = survey(four)
    assert found.patients == read_bids_archive(four, MAPPING, LABELS)
    assert found.exclusions == ()


def test_people_who_need_no_image_and_scans_that_need_no_label_are_counted(four: Path) -> None:
    first_image(four).unlink()
    edit(four / "participants.tsv", lambda text: text.replace("\tM\tMCI", "\tM\tSMC"))
    found = survey(four, missing_images="skip", exclude=("SMC",))
    assert (found.without_image, found.without_label, found.exclusions) == (1, 1, ())


def test_a_sidecar_that_cannot_be_read_harms_nobody(four: Path) -> None:
    first_image(four).with_name("sub-01_T1w.json").write_bytes(b"\xff{")
    assert survey(four).exclusions == ()
    sidecar(four, Modality="MR", SeriesDescription="MPRAGE", EchoTime=0.003, ImageType=["M"])
    assert survey(four).exclusions == ()


def test_measures_are_read_where_the_site_names_them(four: Path) -> None:
    table = four / "participants.tsv"
    lines = table.read_text().splitlines()
    values = ["MMSE\tcdr", "29\t0", "n/a\t0.5", "20\t1", "31\t0"]
    rows = [f"{line}\t{value}" for line, value in zip(lines, values, strict=True)]
    table.write_text("\n".join(rows) + "\n")
    found = survey(four)
    assert found.patients[0].scans[0].measures == ()
    found = survey(four, columns=ColumnNames(mmse="MMSE", numbers=("CDR",)))
    assert [p.scans[0].measures for p in found.patients] == [
        (("mmse", 29.0), ("cdr", 0.0)),
        (("cdr", 0.5),),
        (("mmse", 20.0), ("cdr", 1.0)),
    ]
    assert [(e.code, e.subject) for e in found.exclusions] == [("SMR-E210", "sub-04")]


def test_a_reason_does_not_repeat_the_path(four: Path) -> None:
    four_dimensions(four)
    (exclusion,) = survey(four).exclusions
    assert exclusion.kind is Problem.NOT_3D
    assert exclusion.reason == "an image is not one 3-D volume: 4 x 4 x 4 x 2 voxels"
