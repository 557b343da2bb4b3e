"""Laws of what headers say: nonsense never stops anything, and no gap is passed over."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from dicom_fixture import Identity, write_series
from dicom_protocols import SIEMENS_MPRAGE
from hypothesis import example, given
from hypothesis import strategies as st

from client.archive.sequence_names import other_contrast, says_contrast_agent, says_t1
from client.intake.bids_writer import age_text
from client.intake.clinical_table import Visit, visit_of
from client.intake.dicom_values import parse_age, parse_date
from client.intake.geometry import stack
from client.intake.header import Slice
from client.intake.options import IntakeOptions
from client.intake.pseudonym import normalise_id, pseudonym
from client.intake.read_tree import DAMAGED, OTHER, read_headers
from client.intake.series import Collection, SeriesFile
from client.intake.t1w_ranking import rank_series


@given(st.text(max_size=12))
def test_no_text_stops_the_reading_of_dates_ages_and_names(text: str) -> None:
    parse_date(text)
    years = parse_age(text)
    assert years is None or 0 <= years <= 120
    other_contrast(text)
    says_t1(text)
    says_contrast_agent(text)


@pytest.mark.parametrize(
    ("text", "years"),
    [("072Y", 72), ("72", 72), ("018M", 1), ("000Y", None), ("", None), ("***", None),
     ("999Y", None), ("052W", 0), ("12Yr", None)],
)  # fmt: skip
def test_ages(text: str, years: int | None) -> None:
    assert parse_age(text) == years


@pytest.mark.parametrize("text", ["***", "", "20201301", "00000000", "19000101", "2999-01-01", "x"])
def test_invalid_dates_are_none(text: str) -> None:
    assert parse_date(text) is None


def test_valid_dates() -> None:
    assert parse_date("20200229") == parse_date("2020.02.29") == date(2020, 2, 29)
    assert parse_date("19480101", oldest=1880) == date(1948, 1, 1)


@example("E\u00af", 0, "")  # the accent decomposes into a blank and a combining one
@given(st.text(min_size=1, max_size=20), st.integers(0, 3), st.sampled_from(["", " ", "  "]))
def test_an_identifier_is_the_same_however_it_is_written(text: str, zeros: int, blank: str) -> None:
    once = normalise_id(text)
    assert normalise_id(once) == once
    assert normalise_id(blank + text + blank) == once
    if text.isdecimal():
        assert normalise_id("0" * zeros + text) == once


@given(st.sets(st.text("abcdefgh123-", min_size=1, max_size=8), min_size=2, max_size=20))
def test_different_identifiers_get_different_names(ids: set[str]) -> None:
    different = {normalise_id(one) for one in ids}
    assert len({pseudonym(bytes(32), one) for one in ids}) == len(different)


def slices(count: int, spacing: float, tilt: float) -> list[SeriesFile]:
    """A volume of parallel planes, turned by ``tilt`` radians about the first axis."""
    across = np.array([0, np.cos(tilt), np.sin(tilt)])
    normal = np.cross([1, 0, 0], across)
    return [
        SeriesFile(
            Path(f"{index:04d}"),
            1000,
            str(index),
            (
                Slice(
                    position=tuple(float(mm) for mm in normal * spacing * index - 90),
                    orientation=(1.0, 0.0, 0.0, *(float(c) for c in across)),
                    spacing=(1.0, 1.0),
                    thickness=spacing,
                    rows=256,
                    columns=200,
                    echo_time=3.0,
                    acquisition=1,
                    image_type=("ORIGINAL",),
                ),
            ),
            cut_short=False,
        )
        for index in range(count)
    ]


@given(
    st.integers(20, 60),
    st.floats(0.5, 3.0),
    st.floats(-1.5, 1.5),
    st.sets(st.integers(0, 59), max_size=5),
    st.randoms(),
)
def test_exactly_the_slices_between_are_missed(
    count: int, spacing: float, tilt: float, missing: set[int], order: object
) -> None:
    files = [f for i, f in enumerate(slices(count, spacing, tilt)) if i not in missing]
    left = [i for i in range(count) if i not in missing]
    between = left[-1] - left[0] + 1 - len(left)
    order.shuffle(files)  # type: ignore[attr-defined]
    found = stack(files)
    assert found is not None
    assert (found.slices, found.missing, found.uneven) == (len(left), between, False)
    assert found.spacing_mm[0] == pytest.approx(spacing, abs=0.02)
    assert found.directions == found.volumes == 1


def test_uneven_distances_are_seen() -> None:
    even, other = slices(30, 1.0, 0.0), slices(31, 1.35, 0.0)
    found = stack([*even[:29], other[-1]])
    assert found is not None
    assert found.uneven


@given(st.dates(date(2000, 1, 1), date(2020, 1, 1)), st.lists(st.integers(-900, 900), max_size=6))
def test_the_visit_found_is_the_nearest(day: date, offsets: list[int]) -> None:
    rows = [
        Visit(i, "x", day + timedelta(days=offset), None, None, ())
        for i, offset in enumerate(offsets)
    ]
    found = visit_of(rows, day, True, 183)
    nearest = min(map(abs, offsets), default=999)
    if nearest > 183:
        assert found is None
    else:
        assert found is not None
        assert found.day is not None
        assert abs((found.day - day).days) == nearest


@given(st.one_of(st.none(), st.floats(0.1, 120)))
def test_old_ages_are_not_told(age: float | None) -> None:
    text = age_text(age)
    assert (text is None) == (age is None)
    if age is not None and text is not None:
        assert text == "89+" if age >= 89 else int(text) == int(age)


@pytest.mark.parametrize("kind", ["explicit", "implicit", "enhanced"])
def test_damage_to_a_file_never_ends_in_anything_but_a_finding(tmp_path: Path, kind: str) -> None:
    protocol = replace(SIEMENS_MPRAGE, slices=3)
    files = write_series(
        tmp_path, protocol, Identity("7"), preamble=kind != "implicit", enhanced=kind == "enhanced"
    )
    whole, rng = files[0].read_bytes(), np.random.default_rng(7)
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(int(rng.integers(1, 8))):
            at = int(rng.integers(120, 2500))
            damaged[at : at + int(rng.integers(0, 4))] = rng.bytes(int(rng.integers(0, 4)))
        files[0].write_bytes(
            damaged[: None if rng.random() < 0.5 else int(rng.integers(200, 3000))]
        )
        (result,) = read_headers([(files[0], files[0].stat().st_size)])
        if isinstance(result, str):
            assert result in (OTHER, DAMAGED)
            continue
        collection = Collection(lambda patient, issuer: "sub-x")
        collection.add(result)
        for person in collection.people.values():
            for study in person.studies.values():
                rank_series(list(study.series.values()), IntakeOptions())
