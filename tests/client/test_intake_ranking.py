"""Which series of a study is taken, and why the others are not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import dicom_fixture
import pytest
from dicom_fixture import Identity, write_series
from dicom_protocols import (
    GE_BRAVO,
    MPR_DERIVED,
    NAMELESS_MPRAGE,
    PHILIPS_TFE,
    POOR_IN_TAGS,
    POST_CONTRAST,
    REFUSED,
    SIEMENS_MPRAGE,
    UIH_GRE_FSP,
    Protocol,
)

from client.intake.header import read_header
from client.intake.options import IntakeOptions
from client.intake.series import Collection, candidate_files
from client.intake.t1w_ranking import Judgement, Rank, rank_series

PERSON = Identity("0042")
NATIVE = {
    "siemens": SIEMENS_MPRAGE,
    "ge": GE_BRAVO,
    "philips": PHILIPS_TFE,
    "uih": UIH_GRE_FSP,
    "by timing alone": NAMELESS_MPRAGE,
}


USUAL = IntakeOptions()


def ranked(folder: Path, options: IntakeOptions = USUAL) -> tuple[Judgement, ...]:
    """Every series below a folder, whose ever it is, as one study."""
    collection = Collection(lambda patient, issuer: "sub-x")
    for path, state in candidate_files(folder, []):
        header = read_header(path, state.st_size)
        if header is not None:
            collection.add(header)
    (study,) = collection.people["sub-x"].studies.values()
    return rank_series(list(study.series.values()), options)


def write(folder: Path, *protocols: Protocol) -> None:
    for protocol in protocols:
        write_series(folder / str(protocol.number), protocol, PERSON)


@pytest.mark.parametrize("vendor", NATIVE)
def test_every_vendors_native_volume_is_taken(tmp_path: Path, vendor: str) -> None:
    write(tmp_path, NATIVE[vendor], MPR_DERIVED)
    best, other = ranked(tmp_path)
    assert best.rank is Rank.NATIVE
    assert best.series.number == NATIVE[vendor].number
    assert best.reasons
    assert best.warnings == ()
    assert other.rank is Rank.DERIVED
    assert best.stack is not None
    assert best.stack.spacing_mm == pytest.approx((2, 2, 2))
    assert sorted(best.stack.extent_mm) == pytest.approx([176, 176, 208])


@pytest.mark.parametrize("kind", REFUSED)
def test_everything_else_is_refused_with_the_reason(tmp_path: Path, kind: str) -> None:
    protocol, reason = REFUSED[kind]
    write(tmp_path, protocol)
    (judged,) = ranked(tmp_path)
    assert judged.rank is Rank.REFUSED
    assert reason in judged.reasons[0]
    assert not judged.incomplete


def test_a_lower_kind_is_taken_only_where_no_higher_one_exists(tmp_path: Path) -> None:
    write(tmp_path, POST_CONTRAST, POOR_IN_TAGS, MPR_DERIVED)
    order = [(j.rank, j.series.number) for j in ranked(tmp_path)]
    assert order == [(Rank.DERIVED, 18), (Rank.DERIVED, 20), (Rank.AFTER_CONTRAST, 19)]
    assert all(j.warnings for j in ranked(tmp_path))
    write(tmp_path, PHILIPS_TFE)
    assert ranked(tmp_path)[0].series.number == PHILIPS_TFE.number


def test_what_is_only_a_last_choice_can_be_refused(tmp_path: Path) -> None:
    write(tmp_path, POST_CONTRAST, MPR_DERIVED)
    options = IntakeOptions(derived="never", contrast_agent="never")
    assert {j.rank for j in ranked(tmp_path, options)} == {Rank.REFUSED}


def test_of_two_equal_scans_the_repeated_one_is_taken(tmp_path: Path) -> None:
    write(tmp_path, SIEMENS_MPRAGE, SIEMENS_MPRAGE.with_tags(9))
    assert [j.series.number for j in ranked(tmp_path)] == [9, 3]


def test_missing_slices_and_files_that_are_cut_short(tmp_path: Path) -> None:
    write_series(tmp_path / "a", SIEMENS_MPRAGE, PERSON, missing={40, 41})
    write_series(tmp_path / "b", SIEMENS_MPRAGE.with_tags(4), PERSON, cut_short={30})
    write_series(tmp_path / "c", SIEMENS_MPRAGE.with_tags(5), PERSON, cut_short=range(88))
    write_series(tmp_path / "d", SIEMENS_MPRAGE.with_tags(6), PERSON, cut_short={87})
    best, *others = ranked(tmp_path)
    assert best.series.number == 6
    assert best.warnings == ("1 files that are cut short were left out at the edge",)
    assert all(j.incomplete and j.rank is Rank.REFUSED for j in others)
    assert {j.series.number: j.reasons[0] for j in others} == {
        3: "missing in between: 2 of its slices",
        4: "missing in between: 1 of its slices",
        5: "all of its 88 files are cut short",
    }


def test_of_several_echoes_in_one_series_the_first_is_taken(tmp_path: Path) -> None:
    write_series(tmp_path / "1", SIEMENS_MPRAGE, PERSON)
    second = SIEMENS_MPRAGE.with_tags(EchoTime=6.5)
    for path in write_series(tmp_path / "2", second, PERSON):
        dicom_fixture.renumber(path)
    (judged,) = ranked(tmp_path)
    assert judged.rank is Rank.NATIVE
    assert judged.warnings == ("the first echo of 2 was taken",)
    assert judged.stack is not None
    assert {file.path.parent.name for file in judged.stack.files} == {"1"}


def test_copies_of_an_export_count_once(tmp_path: Path) -> None:
    for folder in ("first", "again"):
        write_series(tmp_path / folder, SIEMENS_MPRAGE, PERSON)
    (judged,) = ranked(tmp_path)
    assert len(judged.series.files) == 88
    assert judged.stack is not None
    assert judged.stack.volumes == 1


def test_an_enhanced_file_is_read_like_a_folder_of_slices(tmp_path: Path) -> None:
    write_series(tmp_path / "e", SIEMENS_MPRAGE, PERSON, enhanced=True)
    write_series(tmp_path / "c", replace(SIEMENS_MPRAGE, number=9), PERSON)
    enhanced, classic = sorted(ranked(tmp_path), key=lambda j: len(j.series.files))
    assert enhanced.stack is not None
    assert classic.stack is not None
    assert (enhanced.rank, enhanced.score) == (classic.rank, classic.score)
    assert enhanced.stack.spacing_mm == classic.stack.spacing_mm


def test_no_text_of_a_header_gets_into_the_reasons(tmp_path: Path) -> None:
    planted = "Mprage Of DoeJane"
    write(tmp_path, SIEMENS_MPRAGE.with_tags(SeriesDescription=planted))
    write(tmp_path, replace(REFUSED["t2"][0].with_tags(SeriesDescription=f"T2 {planted}")))
    said = str([(j.reasons, j.warnings) for j in ranked(tmp_path)])
    assert "Doe" not in said
