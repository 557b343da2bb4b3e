"""Prepared scans on disk: whole or absent, found by content, the same whoever made them."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bids_fixture import Person, Visit, brain, people, save_nifti, write_bids

from client.archive.bids import read_bids_archive
from client.archive.labels import LabelMapping
from client.archive.patients import Patient, Scan
from client.prepared import store as store_module
from client.prepared.pipeline import PreparedScan, prepare_scan
from client.prepared.store import PreparedStore
from shared_model.errors import SmrfedError
from shared_model.grid import ModelGrid

GRID = ModelGrid(spacing_mm=4.0)
LABELS = ("CN", "MCI", "AD")
MAPPING = LabelMapping(values={label: (label,) for label in LABELS})


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> tuple[Patient, ...]:
    root = write_bids(tmp_path_factory.mktemp("prepared") / "archive", *people(6))
    return read_bids_archive(root, MAPPING, LABELS)


@pytest.fixture
def store(tmp_path: Path) -> PreparedStore:
    return PreparedStore(tmp_path / "state", GRID, "zscore")


def kept(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


class Counter:
    """Counts the scans that are really prepared."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paths: list[Path] = []
        monkeypatch.setattr(store_module, "prepare_scan", self)

    def __call__(self, path: Path, *rest: object) -> PreparedScan:
        self.paths.append(path)
        return prepare_scan(path, *rest)  # type: ignore[arg-type]


def test_a_volume_is_the_same_when_made_and_when_read(
    store: PreparedStore, patients: tuple[Patient, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = Counter(monkeypatch)
    scan = patients[0].scans[0]
    first, second = store.volume(scan), store.volume(scan)
    assert counter.paths == [scan.path]
    assert first.shape == GRID.shape
    assert first.dtype == second.dtype == np.float32
    np.testing.assert_array_equal(first, second)
    exact = prepare_scan(scan.path, GRID, "zscore").volume
    np.testing.assert_allclose(first, exact, atol=2e-3)


def test_prepare_does_everything_once_and_tells_its_progress(
    store: PreparedStore, patients: tuple[Patient, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = Counter(monkeypatch)
    seen: list[tuple[int, int]] = []
    store.prepare(patients, lambda done, total: seen.append((done, total)))
    scans = [scan.path for patient in patients for scan in patient.scans]
    assert len(scans) == 7
    assert seen == [(n, 7) for n in range(1, 8)]
    assert counter.paths == scans
    store.prepare(patients)
    store.volume(patients[0].scans[0])
    assert counter.paths == scans


def test_what_is_kept_names_nobody(
    store: PreparedStore, patients: tuple[Patient, ...], tmp_path: Path
) -> None:
    store.prepare(patients)
    folder = tmp_path / "state" / "prepared"
    files = kept(folder)
    assert len(files) == 14
    assert all(re.fullmatch(r"([0-9a-f]{2})/\1[0-9a-f]{62}\.(npy|json)", f) for f in files)
    for name, content in files.items():
        assert b"sub-" not in content
        assert b"ses-" not in content
        assert str(tmp_path).encode() not in content
        if name.endswith(".json"):
            note = json.loads(content)
            assert set(note) == {
                "pipeline", "source_sha256", "voxels_sha256", "grid", "intensity", "brain_ml",
            }  # fmt: skip
            assert note["brain_ml"] == pytest.approx(1886, rel=0.05)
        else:
            assert len(content) < 2 * np.prod(GRID.shape) + 256
    for path in [folder, *folder.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_grid_intensity_and_content_decide_what_is_found(
    patients: tuple[Patient, ...], tmp_path: Path
) -> None:
    state, scan = tmp_path / "state", patients[0].scans[0]
    volumes = [
        PreparedStore(state, GRID, "zscore").volume(scan),
        PreparedStore(state, GRID, "quantile").volume(scan),
        PreparedStore(state, ModelGrid(spacing_mm=2.0), "zscore").volume(scan),
    ]
    assert len(list(state.rglob("*.npy"))) == 3
    assert not np.array_equal(volumes[0], volumes[1])
    assert volumes[2].shape == (88, 104, 88)
    # The same file elsewhere is found; a changed file in the same place is not.
    moved = tmp_path / "moved.nii.gz"
    moved.write_bytes(scan.path.read_bytes())
    store = PreparedStore(state, GRID, "zscore")
    np.testing.assert_array_equal(store.volume(replace(scan, path=moved)), volumes[0])
    assert len(list(state.rglob("*.npy"))) == 3
    save_nifti(moved, brain(99))
    assert not np.array_equal(store.volume(replace(scan, path=moved)), volumes[0])
    assert len(list(state.rglob("*.npy"))) == 4


@pytest.mark.parametrize("damage", ["cut", "empty", "pickle", "shape", "type", "gone", "no note"])
def test_damage_is_repaired(
    store: PreparedStore, patients: tuple[Patient, ...], tmp_path: Path, damage: str
) -> None:
    store.prepare(patients[:2])
    before = kept(tmp_path / "state")
    path = next((tmp_path / "state").rglob("*.npy"))
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "pickle":
        np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    elif damage == "shape":
        np.save(path, np.zeros((2, 2, 2), np.float16))
    elif damage == "type":
        np.save(path, np.zeros(GRID.shape, np.float32))
    elif damage == "gone":
        path.unlink()
    else:
        path.with_suffix(".json").write_text("{")
    store.prepare(patients[:2])
    assert kept(tmp_path / "state") == before


SCRIPT = """
import sys
from pathlib import Path
from client.archive.bids import read_bids_archive
from client.archive.labels import LabelMapping
from client.prepared.store import PreparedStore
from shared_model.grid import ModelGrid
labels = ("CN", "MCI", "AD")
mapping = LabelMapping(values={label: (label,) for label in labels})
patients = read_bids_archive(Path(sys.argv[1]), mapping, labels)
store = PreparedStore(Path(sys.argv[2]), ModelGrid(spacing_mm=4.0), "zscore")
print("ready", flush=True)
sys.stdin.readline()
store.prepare(patients, lambda done, total: print(done, flush=True))
"""


def start(archive: Path, state: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(archive), str(state)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def test_two_processes_at_once_and_a_kill_in_the_middle(
    patients: tuple[Patient, ...], tmp_path: Path
) -> None:
    archive = patients[0].scans[0].path.parents[2]
    expected = tmp_path / "expected"
    PreparedStore(expected, GRID, "zscore").prepare(patients)
    state = tmp_path / "state"
    one, two = start(archive, state), start(archive, state)
    try:
        go(one)
        go(two)
        assert one.stdout is not None
        assert one.stdout.readline() == "1\n"
        one.send_signal(signal.SIGKILL)
        assert two.wait(timeout=60) == 0
    finally:
        for process in (one, two):
            process.kill()
            process.communicate()
    whole = {n: c for n, c in kept(state).items() if not n.endswith(".part")}
    assert whole == kept(expected)


def test_a_stopped_preparation_goes_on_where_it_was(
    patients: tuple[Patient, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        PreparedStore(state, GRID, "zscore").prepare(patients, stop)
    counter = Counter(monkeypatch)
    PreparedStore(state, GRID, "zscore").prepare(patients)
    assert counter.paths == [s.path for p in patients for s in p.scans][3:]


def test_a_folder_that_cannot_be_written_is_named(
    patients: tuple[Patient, ...], tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "prepared").write_text("in the way")
    store = PreparedStore(tmp_path / "state", GRID, "zscore")
    with pytest.raises(SmrfedError) as caught:
        store.prepare(patients)
    assert caught.value.code == "SMR-E241"
    assert str(tmp_path / "state" / "prepared") in caught.value.what


def small_archive(root: Path, count: int = 9) -> tuple[Patient, ...]:
    return read_bids_archive(write_bids(root, *people(count)), MAPPING, LABELS)


def test_every_bad_scan_is_told_and_the_good_ones_are_kept(
    store: PreparedStore, tmp_path: Path
) -> None:
    patients = small_archive(tmp_path / "archive")
    scans = [scan for patient in patients for scan in patient.scans]
    for scan in scans[:6]:
        scan.path.write_bytes(scan.path.read_bytes()[:-2000])
    blank = np.zeros(GRID.shape, np.int16)
    save_nifti(scans[6].path, blank)
    with pytest.raises(SmrfedError) as caught:
        store.prepare(patients)
    error = caught.value
    assert error.code == "SMR-E212"
    assert "6 cases" in str(error.found)
    assert str(error.found).count("_T1w.nii.gz") == 5
    assert "SMR-E215 (1)" in error.what
    assert len(list((tmp_path / "state").rglob("*.npy"))) == len(scans) - 7


def test_one_scan_alone_raises_its_own_error(store: PreparedStore, tmp_path: Path) -> None:
    path = tmp_path / "x_T1w.nii.gz"
    scan = Scan("", path, 0, None)
    with pytest.raises(SmrfedError, match="SMR-E212"):
        store.volume(scan)
    save_nifti(path, np.where(brain(0) > 150, np.nan, 1).astype(np.float32))
    with pytest.raises(SmrfedError, match="SMR-E215"):
        store.volume(scan)
    save_nifti(path, np.roll(brain(0), 25, axis=1))
    with pytest.raises(SmrfedError, match="SMR-E240"):
        store.volume(scan)
    assert not (tmp_path / "state").exists()


def test_an_image_under_two_people_is_found_by_its_voxels(
    store: PreparedStore, tmp_path: Path
) -> None:
    patients = small_archive(tmp_path / "archive", 6)
    original, copy = patients[0].scans[0].path, patients[1].scans[0].path
    # Compressed again: other bytes, same voxels.
    copy.write_bytes(gzip.compress(gzip.decompress(original.read_bytes()), 1, mtime=5))
    assert copy.read_bytes() != original.read_bytes()
    for _ in range(2):  # Also when both are kept already.
        with pytest.raises(SmrfedError) as caught:
            store.prepare(patients)
        assert caught.value.code == "SMR-E218"
        assert str(original) in str(caught.value.found)
        assert str(copy) in str(caught.value.found)


def test_equal_images_of_one_person_are_no_leak(store: PreparedStore, tmp_path: Path) -> None:
    twice = Person("01", (Visit("CN", "M00"), Visit("CN", "M12", 71.0)))
    root = write_bids(tmp_path / "archive", twice, Person("02", (Visit("AD"),)))
    patients = read_bids_archive(root, MAPPING, LABELS)
    first, second = (scan.path for scan in patients[0].scans)
    second.write_bytes(first.read_bytes())
    store.prepare(patients)
    assert len(list((tmp_path / "state").rglob("*.npy"))) == 2


def test_a_changed_file_is_seen_by_a_store_that_is_open(
    store: PreparedStore, tmp_path: Path
) -> None:
    scan = Scan("", tmp_path / "x_T1w.nii.gz", 0, None)
    save_nifti(scan.path, brain(1))
    before = store.volume(scan)
    time.sleep(0.01)
    save_nifti(scan.path, brain(2))
    assert not np.array_equal(store.volume(scan), before)
