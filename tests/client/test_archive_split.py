"""The split: by patient, by nobody else's data, and never the same image on both sides."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.archive.patients import Patient, Scan
from client.archive.split import Split, split_patients
from shared_model.errors import SmrfedError


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files of distinct content; every second has the size of the one before."""
    folder = tmp_path_factory.mktemp("images")
    paths = [folder / f"{number}.nii" for number in range(600)]
    for number, path in enumerate(paths):
        path.write_bytes(f"{number:06d}".encode() + bytes(number // 2))
    return paths


def patient(name: str, *paths: Path) -> Patient:
    return Patient(name, None, tuple(Scan(f"ses-{i}", p, 0, None) for i, p in enumerate(paths)))


def crowd(files: list[Path], count: int) -> list[Patient]:
    return [patient(f"sub-{i}", files[2 * i], files[2 * i + 1]) for i in range(count)]


def side(split: Split) -> dict[str, str]:
    return {p.id: "train" for p in split.train} | {p.id: "test" for p in split.test}


def test_about_the_wanted_fraction_and_everybody_once(files: list[Path]) -> None:
    everybody = crowd(files, 300)
    split = split_patients(everybody, 0.25, seed=3)
    assert sorted(p.id for p in [*split.train, *split.test]) == sorted(p.id for p in everybody)
    # Four standard deviations of a binomial around the mean.
    assert abs(len(split.test) - 75) < 30
    assert [p for p in everybody if p in set(split.test)] == list(split.test)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**63 - 1), st.integers(30, 60), st.integers(0, 59))
def test_taking_one_patient_away_moves_nobody_else(
    files: list[Path], seed: int, count: int, leaves: int
) -> None:
    everybody = crowd(files, count)
    without = [p for i, p in enumerate(everybody) if i != leaves % count]
    random.Random(seed).shuffle(without)
    before, after = (side(split_patients(p, 0.5, seed)) for p in (everybody, without))
    assert after == {name: where for name, where in before.items() if name in after}
    assert len(after) == len(before) - 1


def test_a_patients_own_data_do_not_move_it(files: list[Path]) -> None:
    everybody = crowd(files, 40)
    changed = [patient(p.id, files[400 + i]) for i, p in enumerate(everybody)]
    assert side(split_patients(everybody, 0.3, 1)) == side(split_patients(changed, 0.3, 1))


def test_the_seed_matters_and_the_fractions_are_nested(files: list[Path]) -> None:
    everybody = crowd(files, 100)
    assert side(split_patients(everybody, 0.3, 1)) != side(split_patients(everybody, 0.3, 2))
    small, large = (split_patients(everybody, f, 1) for f in (0.2, 0.5))
    assert {p.id for p in small.test} < {p.id for p in large.test}


def test_the_split_is_the_same_in_every_process(files: list[Path]) -> None:
    # Known answer: a change of the hash would silently mix training and test patients of a study.
    split = split_patients(crowd(files, 12), 0.25, seed=7)
    assert [p.id for p in split.test] == ["sub-1", "sub-7", "sub-8", "sub-9", "sub-10"]


@pytest.mark.parametrize(("fraction", "missing"), [(1e-9, "test"), (1 - 1e-9, "train")])
def test_an_empty_side_is_refused(files: list[Path], fraction: float, missing: str) -> None:
    with pytest.raises(SmrfedError) as caught:
        split_patients(crowd(files, 3), fraction, 0)
    assert caught.value.code == "SMR-E230"
    assert f"nobody to {missing} on" in caught.value.what


def test_the_same_bytes_on_both_sides_are_refused(files: list[Path], tmp_path: Path) -> None:
    everybody = crowd(files, 20)
    split = split_patients(everybody, 0.5, 0)
    copy = tmp_path / "copy.nii"
    copy.write_bytes(split.train[0].scans[0].path.read_bytes())
    victim = split.test[0]
    leaking = [patient(victim.id, copy) if p is victim else p for p in everybody]
    with pytest.raises(SmrfedError) as caught:
        split_patients(leaking, 0.5, 0)
    assert caught.value.code == "SMR-E231"
    assert "copy.nii" in str(caught.value.found)


def test_a_patient_on_both_sides_is_refused(files: list[Path]) -> None:
    one, two = patient("sub-1", files[0]), patient("sub-1", files[1])
    with pytest.raises(SmrfedError) as caught:
        Split((one,), (two, patient("sub-2", files[2])))
    assert caught.value.code == "SMR-E231"
    assert "sub-1" in str(caught.value.found)


def test_scans_of_one_patient_may_be_equal_and_files_may_have_equal_sizes(
    files: list[Path], tmp_path: Path
) -> None:
    again = tmp_path / "again.nii"
    again.write_bytes(files[0].read_bytes())
    split = Split((patient("sub-1", files[0], again),), (patient("sub-2", files[1]),))
    assert len(split.train) == len(split.test) == 1


def test_slices_of_one_person_cannot_be_told_apart_by_the_split(files: list[Path]) -> None:
    """Random labels stay at chance: what a slice-level split would turn into 96 % (Yagis 2021)."""
    rng = np.random.default_rng(0)
    everybody = crowd(files, 200)
    face = {p.id: rng.normal(size=8) for p in everybody}
    label = {p.id: int(rng.integers(2)) for p in everybody}

    def nearest(train: list[tuple[str, int]], test: list[tuple[str, int]]) -> float:
        looks = {key: face[key[0]] + rng.normal(0, 0.05, 8) for key in [*train, *test]}
        known = np.stack([looks[key] for key in train])
        answers = [
            label[train[int(np.argmin(((known - looks[key]) ** 2).sum(1)))][0]] == label[key[0]]
            for key in test
        ]
        return float(np.mean(answers))

    split = split_patients(everybody, 0.25, 0)
    slices = [(p.id, i) for p in everybody for i in range(6)]
    by_patient = nearest(
        [s for s in slices if s[0] in {p.id for p in split.train}],
        [s for s in slices if s[0] in {p.id for p in split.test}],
    )
    random.Random(0).shuffle(slices)
    by_slice = nearest(slices[300:], slices[:300])
    assert by_slice > 0.95
    assert 0.3 < by_patient < 0.7
