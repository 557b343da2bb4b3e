"""Prepared native scans on disk."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from quality_heads import good_measures

from client.archive.patients import Scan
from client.archive.problems import Defect, Problem
from client.prepared.native_store import NativeScan, NativeStore
from client.prepared.no_room import no_room
from client.prepared.record import ScanDefect, ScanRecord
from shared_model.errors import SmrfedError
from shared_model.grid import ModelGrid

GRID = ModelGrid(spacing_mm=4.0)


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def native_scan(seed: int = 0) -> NativeScan:
    rng = np.random.default_rng(seed)
    source = sha(f"scan {seed}".encode())
    record = ScanRecord(
        source_sha256=source,
        voxels_sha256=sha(b"voxels %d" % seed),
        measures=good_measures(),
        to_mni=((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)),
    )
    volume = np.clip(rng.normal(size=GRID.shape), -4, 4).astype(np.float32)
    print_ = rng.normal(size=100)
    print_ = (print_ / np.linalg.norm(print_)).astype(np.float16)
    return NativeScan(record, volume, volume > 0, print_, b"PNG")


def test_a_store_gives_back_what_it_was_given(tmp_path: Path) -> None:
    kept = native_scan()
    source = kept.record.source_sha256
    assert kept.volume is not None
    store = NativeStore(tmp_path, GRID, {"steps": 1})
    assert not store.is_whole(source)
    store.save(kept)
    store = NativeStore(tmp_path, GRID, {"steps": 1})
    assert store.is_whole(source)
    found = store.record(source)
    assert found is not None
    assert found.model_copy(update={"files": {}}) == kept.record
    assert set(found.files) == {".npy", ".brain.npy", ".print.npy", ".png"}
    assert np.array_equal(store.load_volume(source), kept.volume.astype(np.float16))
    assert np.array_equal(store.brain(source), kept.brain)  # type: ignore[arg-type]
    assert np.array_equal(store.fingerprint(source), kept.fingerprint)  # type: ignore[arg-type]
    assert store.mosaic(source) == b"PNG"
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.rglob("*"))
    for other in (
        NativeStore(tmp_path, GRID, {"steps": 2}),
        NativeStore(tmp_path, ModelGrid(spacing_mm=3.9), {"steps": 1}),
    ):
        assert not other.is_whole(source)
        assert other.digest != store.digest


@pytest.mark.parametrize("suffix", [".npy", ".brain.npy", ".print.npy", ".png", ".json"])
@pytest.mark.parametrize("harm", ["gone", "empty", "cut short", "a bit flipped", "another's"])
def test_a_scan_with_a_damaged_file_is_not_whole(tmp_path: Path, suffix: str, harm: str) -> None:
    store = NativeStore(tmp_path, GRID, {})
    kept, other = native_scan(0), native_scan(1)
    store.save(kept)
    store.save(other)
    source = kept.record.source_sha256
    path = store._path(source, suffix)
    content = path.read_bytes()
    if harm == "gone":
        path.unlink()
    elif harm == "empty":
        path.write_bytes(b"")
    elif harm == "cut short":
        path.write_bytes(content[:-1])
    elif harm == "a bit flipped":
        # A record whose digits changed is still JSON: its digests no longer fit, or its name.
        place = content.index(source.encode()) if suffix == ".json" else len(content) // 2
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    else:
        path.write_bytes(store._path(other.record.source_sha256, suffix).read_bytes())
        if suffix == ".png":
            path.write_bytes(b"PNH")
    assert not NativeStore(tmp_path, GRID, {}).is_whole(source)
    assert NativeStore(tmp_path, GRID, {}).is_whole(other.record.source_sha256)
    file = tmp_path / "scan.nii"
    file.write_bytes(b"scan 0")
    with pytest.raises(SmrfedError, match="SMR-E286"):
        NativeStore(tmp_path, GRID, {}).volume(Scan("", file, 0, None))
    store.save(kept)
    assert NativeStore(tmp_path, GRID, {}).is_whole(source)


def test_a_failure_is_remembered_until_it_is_forgotten(tmp_path: Path) -> None:
    store = NativeStore(tmp_path, GRID, {})
    defect = ScanDefect.of(
        Defect(Problem.BAD_VOXELS, "/archive/sub-01.nii: 0 everywhere"), "/archive/sub-01.nii"
    )
    assert defect.case == "0 everywhere"
    store.save(NativeScan(ScanRecord(source_sha256=sha(b"x"), defect=defect)))
    assert store.is_whole(sha(b"x"))
    store.forget_failure(sha(b"x"))
    assert not store.is_whole(sha(b"x"))
    store.save(native_scan())
    store.forget_failure(native_scan().record.source_sha256)
    assert store.is_whole(native_scan().record.source_sha256)


def test_errors_cross_from_one_process_to_another() -> None:
    error = no_room(Path("/state"), OSError(28, "No space left on device"))
    again = pickle.loads(pickle.dumps(error))
    assert (again.code, again.render()) == (error.code, error.render())
    defect = pickle.loads(pickle.dumps(Defect(Problem.NOT_3D, "2 x 2")))
    assert (defect.kind, defect.case) == (Problem.NOT_3D, "2 x 2")
