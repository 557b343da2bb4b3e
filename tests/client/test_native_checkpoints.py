"""What lies between two steps on disk, and the chain that begins after it."""

from __future__ import annotations

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

from client.preprocessing.chain import Chain
from client.preprocessing.checkpoints import Checkpoints
from client.preprocessing.image import Image, Work

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
