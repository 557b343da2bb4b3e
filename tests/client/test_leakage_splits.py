"""The record of a plan's split, and the split that is stratified where there is no privacy."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.archive.patients import Patient, Scan
from client.archive.split import split_patients
from client.archive.stratified import split_stratified
from client.leakage.cohorts import Cohort
from client.leakage.split_record import SplitRecord, keep_split
from shared_model.errors import SmrfedError

PLAN = "a" * 64
ROOT = Path(__file__).parents[2]


def side(name: str, ids: str, images: str = "") -> Cohort:
    return Cohort(name, frozenset(ids.split()), frozenset(images.split()))


def record(folder: Path, train: str, test: str, **images: str) -> SplitRecord:
    return keep_split(
        folder,
        PLAN,
        side("train", train, images.get("train_images", "")),
        side("test", test, images.get("test_images", "")),
    )


def test_the_record_is_private_readable_and_the_same_at_the_next_start(tmp_path: Path) -> None:
    folder = tmp_path / "splits"
    first = record(folder, "a b", "c", train_images="1 2", test_images="3")
    path = folder / f"{PLAN}.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text())["test_patients"] == ["c"]
    before = path.stat().st_mtime_ns, path.read_bytes()
    assert record(folder, "b a", "c", train_images="2 1", test_images="3") == first
    assert (path.stat().st_mtime_ns, path.read_bytes()) == before  # not written again


def test_new_patients_are_added_and_those_who_left_stay(tmp_path: Path) -> None:
    record(tmp_path, "a b", "c d")
    later = record(tmp_path, "b e", "d f")
    assert later.train_patients == {"a", "b", "e"}
    assert later.test_patients == {"c", "d", "f"}
    with pytest.raises(SmrfedError, match="SMR-E233"):
        record(tmp_path, "b c", "d")  # came back on the other side


@pytest.mark.parametrize(
    ("train", "test", "said"),
    [
        ("a c", "d", "1 tested on before, would be trained on: c"),
        ("b", "a c", "1 trained on before, would be tested on: a"),
    ],
)
def test_nobody_changes_sides_and_the_record_stays(
    tmp_path: Path, train: str, test: str, said: str
) -> None:
    record(tmp_path, "a b", "c d")
    content = (tmp_path / f"{PLAN}.json").read_bytes()
    with pytest.raises(SmrfedError, match="SMR-E233") as caught:
        record(tmp_path, train, test)
    assert said in str(caught.value)
    assert (tmp_path / f"{PLAN}.json").read_bytes() == content


def test_a_renamed_patient_is_known_by_the_image(tmp_path: Path) -> None:
    record(tmp_path, "a", "c", train_images="1", test_images="3")
    with pytest.raises(SmrfedError, match="SMR-E233"):
        record(tmp_path, "a renamed", "x", train_images="1 3")


def test_another_plan_has_a_record_of_its_own(tmp_path: Path) -> None:
    record(tmp_path, "a", "c")
    keep_split(tmp_path, "b" * 64, side("train", "c"), side("test", "a"))
    assert len(list(tmp_path.glob("*.json"))) == 2


def test_overlapping_sides_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(SmrfedError, match="SMR-E232"):
        record(tmp_path, "a b", "b")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content", [b"", b"{", b"{}", b'{"plan_digest": "other"}', b'{"plan_digest": 3, "x": 1}']
)
def test_a_damaged_record_is_refused_and_not_forgotten(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / f"{PLAN}.json"
    path.write_bytes(content)
    with pytest.raises(SmrfedError, match="SMR-E235"):
        record(tmp_path, "a", "c")
    assert path.read_bytes() == content


def test_a_kill_at_any_moment_leaves_a_whole_record(tmp_path: Path) -> None:
    code = (
        "import itertools, sys; from pathlib import Path; sys.path.insert(0, 'tests/client'); "
        "import test_leakage_splits as t\n"
        "for n in itertools.count():\n"
        "    t.record(Path(sys.argv[1]), f'a{n}', f'c{n}')\n"
        "    print(n, flush=True)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ,
    )  # fmt: skip
    assert process.stdout is not None
    said = -1
    for line in process.stdout:
        said = int(line)
        if said >= 20:
            process.kill()
            break
    process.stdout.close()
    process.wait()
    after = record(tmp_path, "a0", "c0")
    assert {f"a{n}" for n in range(said + 1)} <= after.train_patients


@settings(max_examples=40, deadline=None)
@given(
    ids=st.lists(st.integers(0, 10**6), min_size=12, max_size=40, unique=True),
    seed=st.integers(0, 9),
)
def test_the_private_split_never_moves_anybody_so_the_record_never_refuses_it(
    ids: list[int], seed: int
) -> None:
    patients = people([f"p{i}" for i in ids])
    whole = split_patients_or_none(patients, seed)
    part = split_patients_or_none(patients[: len(patients) // 2], seed)
    if whole is None or part is None:
        return
    known = SplitRecord(plan_digest=PLAN).extended(*sides(whole))
    assert known.extended(*sides(part)) == known


def sides(split: object) -> tuple[Cohort, Cohort]:
    train, test = split.train, split.test  # type: ignore[attr-defined]
    return (
        Cohort("train", frozenset(p.id for p in train)),
        Cohort("test", frozenset(p.id for p in test)),
    )


def split_patients_or_none(patients: list[Patient], seed: int) -> object | None:
    try:
        return split_patients(patients, 0.3, seed)
    except SmrfedError:
        return None  # a side is empty


def people(ids: list[str], labels: list[int] | None = None) -> list[Patient]:
    # Every patient's image is a file of a size of its own: nobody's is another's.
    return [
        Patient(name, None, (Scan("01", IMAGES / f"{number % 200}", label, None),))
        for number, (name, label) in enumerate(zip(ids, labels or [0] * len(ids), strict=True))
    ]


@pytest.fixture(autouse=True, scope="module")
def _images(tmp_path_factory: pytest.TempPathFactory) -> None:
    global IMAGES
    IMAGES = tmp_path_factory.mktemp("images")
    for number in range(200):
        (IMAGES / f"{number}").write_bytes(bytes(number + 1))


IMAGES = Path()


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 2), min_size=6, max_size=60),
    fraction=st.sampled_from([0.2, 0.25, 0.5]),
    seed=st.integers(0, 2**40),
    data=st.data(),
)
def test_every_label_is_split_alike_by_patient_whatever_the_order(
    labels: list[int], fraction: float, seed: int, data: st.DataObject
) -> None:
    if max(Counter(labels).values()) < 2:
        return
    patients = people([f"p{i}" for i in range(len(labels))], labels)
    split = split_stratified(patients, fraction, seed, "none")
    assert {p.id for p in split.train} | {p.id for p in split.test} == {p.id for p in patients}
    assert not {p.id for p in split.train} & {p.id for p in split.test}
    tested = Counter(p.label for p in split.test)
    for label, count in Counter(labels).items():
        assert abs(tested[label] - fraction * count) <= 1
        if count > 1:
            assert 1 <= tested[label] < count
    shuffled = data.draw(st.permutations(patients))
    again = split_stratified(shuffled, fraction, seed, "none")
    assert {p.id for p in again.test} == {p.id for p in split.test}


def test_other_seeds_give_other_stratified_splits() -> None:
    patients = people([f"p{i}" for i in range(60)], [i % 3 for i in range(60)])
    tests = {
        frozenset(p.id for p in split_stratified(patients, 0.25, seed, "none").test)
        for seed in range(5)
    }
    assert len(tests) == 5


def test_a_stratified_split_is_refused_under_privacy() -> None:
    patients = people([f"p{i}" for i in range(20)])
    with pytest.raises(SmrfedError, match="SMR-E234"):
        split_stratified(patients, 0.25, 0, "local")


def test_why_it_is_refused_one_more_patient_moves_another() -> None:
    """The law that the private split keeps and the stratified one breaks."""
    moved = {"private": 0, "stratified": 0}
    for seed in range(20):
        for size in range(11, 31):
            many, fewer = (people([f"p{i}" for i in range(n)]) for n in (size, size - 1))
            for name, split in (
                ("private", lambda p, s=seed: split_patients_or_none(p, s)),
                ("stratified", lambda p, s=seed: split_stratified(p, 0.3, s, "none")),
            ):
                one, other = split(many), split(fewer)
                if one is None or other is None:
                    continue
                stayed = {p.id for p in fewer}
                before = {p.id for p in one.test} & stayed
                moved[name] += before != {p.id for p in other.test}
    assert moved["private"] == 0
    assert moved["stratified"] > 0


def test_a_label_of_one_patient_trains_and_an_empty_side_is_refused() -> None:
    patients = people(["a", "b", "c"], [0, 0, 1])
    split = split_stratified(patients, 0.25, 0, "none")
    assert "c" in {p.id for p in split.train}
    with pytest.raises(SmrfedError, match="SMR-E230"):
        split_stratified(people(["a", "b"], [0, 1]), 0.25, 0, "none")


def test_a_copied_image_on_both_sides_is_refused_here_too() -> None:
    patients = people(["a", "b"], [0, 0])
    twin = replace(patients[1], scans=patients[0].scans)
    with pytest.raises(SmrfedError, match="SMR-E231"):
        split_stratified([patients[0], twin], 0.5, 0, "none")
