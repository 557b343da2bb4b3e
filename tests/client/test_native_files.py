"""What the preparation of native scans keeps on disk: digests, checkpoints, prepared scans."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from quality_heads import good_measures

from client.archive.patients import Scan
from client.archive.problems import Defect, Problem
from client.prepared.file_index import FileIndex
from client.prepared.native_store import NativeScan, NativeStore
from client.prepared.no_room import no_room
from client.prepared.record import ScanDefect, ScanRecord
from client.preprocessing.chain import Chain
from client.preprocessing.checkpoints import Checkpoints
from client.preprocessing.image import Image, Work
from shared_model.errors import SmrfedError
from shared_model.grid import ModelGrid

GRID = ModelGrid(spacing_mm=4.0)
LONG_AGO_NS = 1_700_000_000_000_000_000


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


EDITS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.binary(min_size=1, max_size=3)),
        st.tuples(st.just("replace"), st.binary(min_size=1, max_size=3)),
        # As cp -p and archive programs do: new bytes under the old time.
        st.tuples(st.just("write under an old time"), st.binary(min_size=1, max_size=3)),
        st.tuples(st.just("touch"), st.integers(0, 3)),
        st.tuples(st.just("look"), st.none()),
        st.tuples(st.just("next process"), st.none()),
    ),
    max_size=12,
)


@given(EDITS)
@settings(max_examples=200, deadline=None)
def test_no_sequence_of_edits_gives_a_stale_digest(edits: list[tuple[str, Any]]) -> None:
    with TemporaryDirectory() as name:
        path, kept = Path(name) / "scan.nii", Path(name) / "state" / "files.json"
        path.write_bytes(b"first")
        index = FileIndex(kept)
        for kind, value in edits:
            if kind == "write":
                path.write_bytes(value)
            elif kind == "replace":
                path.with_suffix(".new").write_bytes(value)
                path.with_suffix(".new").replace(path)
            elif kind == "write under an old time":
                path.write_bytes(value)
                os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
            elif kind == "touch":
                os.utime(path, ns=(LONG_AGO_NS + value, LONG_AGO_NS + value))
            elif kind == "next process":
                index.save()
                index = FileIndex(kept)
            assert index.sha256(path) == sha(path.read_bytes())


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as settled at once: nobody waits two seconds in a test."""
    monkeypatch.setattr("client.prepared.file_index._RACY_NS", -1)


@pytest.mark.usefixtures("settled")
def test_an_unchanged_file_is_not_read_again_and_a_withdrawn_one_forgotten(tmp_path: Path) -> None:
    paths = [tmp_path / f"sub-KOWALSKI-{n}.nii" for n in range(3)]
    for path in paths:
        path.write_bytes(path.name.encode())
    index = FileIndex(tmp_path / "files.json")
    digests = [index.sha256(path) for path in paths]
    index.save()
    text = (tmp_path / "files.json").read_text()
    assert "KOWALSKI" not in text
    assert str(tmp_path) not in text
    assert len(json.loads(text)) == 3
    # Only the index knows what they hold now: were one read, its digest would differ.
    planted = text.replace(digests[1], "f" * 64)
    (tmp_path / "files.json").write_text(planted)
    second = FileIndex(tmp_path / "files.json")
    assert [second.sha256(path) for path in paths[:2]] == [digests[0], "f" * 64]
    second.save()
    assert len(json.loads((tmp_path / "files.json").read_text())) == 2


def test_a_fresh_file_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "scan"
    path.write_bytes(b"a")
    index = FileIndex(tmp_path / "files.json")
    index.sha256(path)
    index.save()
    assert not (tmp_path / "files.json").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"a": 1}',
        b'{"a": [1, 2, 3, 4, 5]}',
        b'{"a": ["x"]}',
        b"\xff\xfe",
        b"[" * 9999,
    ],
)
def test_a_damaged_index_costs_time_only(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "files.json").write_bytes(content)
    path = tmp_path / "scan"
    path.write_bytes(b"content")
    assert FileIndex(tmp_path / "files.json").sha256(path) == sha(b"content")


def test_a_file_that_is_gone_is_a_numbered_defect(tmp_path: Path) -> None:
    with pytest.raises(Defect) as told:
        FileIndex(tmp_path / "files.json").sha256(tmp_path / "gone")
    assert told.value.kind is Problem.UNREADABLE_IMAGE


# --- checkpoints ---------------------------------------------------------------------------------

SHAPES = st.tuples(*[st.integers(1, 5)] * 3)
GREYS = st.floats(-(2.0**120), 2.0**120, width=32)


@st.composite
def works(draw: st.DrawFn) -> Work:
    shape = draw(SHAPES)
    voxels = draw(arrays(np.float32, shape, elements=GREYS))
    if draw(st.booleans()):
        # Also scans whose whole range is nearly nothing.
        voxels = (voxels * np.float32(1e-38)).astype(np.float32)
    brain = draw(st.none() | arrays(np.bool_, shape))
    matrix = arrays(np.float64, (4, 4), elements=st.floats(-1e3, 1e3))
    findings = draw(
        st.dictionaries(
            st.text(max_size=5), st.none() | st.booleans() | st.floats(allow_nan=False) | st.text()
        )
    )
    return Work(Image(voxels, draw(matrix)), brain, draw(st.none() | matrix), findings=findings)


def same(one: Work, other: Work) -> bool:
    parts = [
        (one.image.voxels, other.image.voxels),
        (one.image.affine, other.image.affine),
        (one.brain, other.brain),
        (one.to_mni, other.to_mni),
    ]
    equal = all(
        (a is None) == (b is None) and (a is None or (a.dtype == b.dtype and np.array_equal(a, b)))
        for a, b in parts
    )
    return equal and dict(one.findings) == dict(other.findings)


@given(works())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_loaded_is_what_was_saved_to_the_last_bit(work: Work) -> None:
    with TemporaryDirectory() as name:
        kept = Checkpoints(Path(name)).save("key", work)
        again = Checkpoints(Path(name)).load("key")
        assert again is not None
        assert same(kept, again)
        # Saving what was saved changes nothing more than rounding does.
        voxels, found = work.image.voxels.astype(np.float64), kept.image.voxels
        extent = float(voxels.max() - voxels.min())
        bound = 0.5 * extent / 16383 + 2e-6 * np.abs(voxels).max() + 2e-38
        assert np.abs(found - voxels).max() <= bound


@given(works(), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_placement_is_kept_on_top_of_its_greys(work: Work, seed: int) -> None:
    placed = np.random.default_rng(seed).normal(size=(4, 4))
    with TemporaryDirectory() as name:
        store = Checkpoints(Path(name))
        below = store.save("greys", work)
        kept = store.save("placed", replace(below, to_mni=placed, findings={"dice": 0.9}))
        assert same(kept, Checkpoints(Path(name)).load("placed"))  # type: ignore[arg-type]
        assert np.array_equal(kept.to_mni, placed)
        # Without the greys below, the placement is worth nothing.
        (path,) = Path(name).rglob("greys.work")
        path.unlink()
        assert Checkpoints(Path(name)).load("placed") is None


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_checkpoint_counts_as_missing(data: st.DataObject) -> None:
    rng = np.random.default_rng(0)
    work = Work(Image(rng.normal(size=(4, 5, 6)).astype(np.float32), np.eye(4)))
    with TemporaryDirectory() as name:
        Checkpoints(Path(name)).save("key", work)
        (path,) = Path(name).rglob("*.work")
        content = path.read_bytes()
        cut = data.draw(st.integers(0, len(content) - 1))
        if data.draw(st.booleans()):
            path.write_bytes(content[:cut])
        else:
            flipped = bytes([content[cut] ^ data.draw(st.integers(1, 255))])
            path.write_bytes(content[:cut] + flipped + content[cut + 1 :])
        found = Checkpoints(Path(name)).load("key")
        assert found is None


# --- the chain -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Add:
    """A step that counts how often it ran."""

    amount: float
    ran: list[str]
    name: ClassVar[str] = "add"
    version: ClassVar[int] = 1

    def parameters(self) -> Mapping[str, Any]:
        return {"amount": self.amount}

    def __call__(self, work: Work) -> Work:
        self.ran.append(self.name)
        image = Image(work.image.voxels * np.float32(np.pi) + self.amount, work.image.affine)
        return replace(work, image=image, findings={**work.findings, self.name: self.amount})


@dataclass(frozen=True)
class Place(Add):
    name: ClassVar[str] = "place"

    def __call__(self, work: Work) -> Work:
        self.ran.append(self.name)
        return replace(work, to_mni=np.eye(4) * self.amount)


@dataclass(frozen=True)
class Last(Add):
    name: ClassVar[str] = "last"


def chain(
    folder: Path, add: float = 1, place: float = 2, last: float = 3
) -> tuple[Chain, list[str]]:
    ran: list[str] = []
    steps = (Add(add, ran), Place(place, ran), Last(last, ran))
    return Chain(steps, Checkpoints(folder), frozenset({"add", "place"})), ran


def image() -> Image:
    return Image(np.random.default_rng(5).normal(size=(6, 7, 8)).astype(np.float32), np.eye(4))


def test_a_changed_step_redoes_itself_and_what_follows(tmp_path: Path) -> None:
    def ran(source: str = "scan", **changes: float) -> list[str]:
        steps, done = chain(tmp_path, **changes)
        steps.run(image(), source)
        return done

    assert ran() == ["add", "place", "last"]
    assert ran() == ["last"]
    assert ran(last=7) == ["last"]
    assert ran(place=7) == ["place", "last"]
    assert ran(add=7) == ["add", "place", "last"]
    assert ran(source="another") == ["add", "place", "last"]
    assert ran() == ["last"]


@pytest.mark.parametrize("lost", ["nothing", "greys", "placement", "both", "cut short"])
def test_an_interrupted_chain_gives_the_same_bits(tmp_path: Path, lost: str) -> None:
    steps, _ = chain(tmp_path)
    whole = steps.run(image(), "scan")
    by_size = sorted(tmp_path.rglob("*.work"), key=lambda path: path.stat().st_size)
    placement, greys = by_size
    if lost in ("greys", "both"):
        greys.unlink()
    if lost in ("placement", "both"):
        placement.unlink()
    if lost == "cut short":
        greys.write_bytes(greys.read_bytes()[:100])
    again, _ = chain(tmp_path)
    assert same(again.run(image(), "scan"), whole)
    assert sorted(tmp_path.rglob("*.work"), key=lambda path: path.stat().st_size) == by_size


# --- the store -----------------------------------------------------------------------------------


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
