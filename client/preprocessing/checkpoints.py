"""What lies between two steps, on disk."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from client.agent.durable import write_durably
from client.prepared.no_room import no_room
from client.preprocessing.image import Affine, Image, Mask, Work

# Greys are kept as integers: 14 bits of the scan's own range, finer than any scanner's noise.
_LEVELS = 16383
_DIGEST_BYTES = 32


class Checkpoints:
    """Work by key, one compressed file each, 5 to 10 MB for a 1 mm head; safe to delete.

    Greys are rounded to 1/16383 of the scan's range. :meth:`save` returns the work as :meth:`load`
    will, so that a preparation that was interrupted gives the same bits as one that was not.
    Files appear whole and are readable by their owner only; a damaged one counts as missing.

    Args:
        folder: made on first use.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._last: tuple[str, Work] | None = None

    def save(self, key: str, work: Work) -> Work:
        """Keep a work and return it as it was kept. Raises SMR-E241 when there is no room."""
        if work.on_grid is not None or work.brain_on_grid is not None:
            raise ValueError("what lies on the model grid is kept by the prepared store")
        arrays = _found(work)
        base = self._last
        if base is not None and base[1].image is work.image and base[1].brain is work.brain:
            # Only the placement is new: the greys are not written a second time.
            arrays["base"] = np.frombuffer(base[0].encode(), dtype=np.uint8)
        else:
            base = None
            arrays |= _greys(work)
        body = io.BytesIO()
        np.savez_compressed(body, **arrays)  # type: ignore[arg-type]
        try:
            content = body.getvalue()
            write_durably(self.path(key), hashlib.sha256(content).digest(), content)
        except OSError as error:
            raise no_room(self._folder, error) from None
        kept = _work(arrays, None if base is None else base[1])
        self._last = (key, kept)
        return kept

    def load(self, key: str) -> Work | None:
        """The work of a key, or None where it is absent or damaged."""
        try:
            stored = self.path(key).read_bytes()
        except OSError:
            return None
        # A damaged archive raises almost anything, or nothing at all: its digest is looked at.
        digest, content = stored[:_DIGEST_BYTES], stored[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            return None
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        below = None
        if "base" in arrays:
            below = self.load(arrays["base"].tobytes().decode())
            if below is None:
                return None
        work = _work(arrays, below)
        self._last = (key, work)
        return work

    def path(self, key: str) -> Path:
        """Where the work of a key lies, whether or not it is there."""
        return self._folder / key[:2] / f"{key}.work"


Arrays = dict[str, npt.NDArray[Any]]


def _found(work: Work) -> Arrays:
    arrays: Arrays = {
        "findings": np.frombuffer(json.dumps(dict(work.findings)).encode(), dtype=np.uint8)
    }
    if work.to_mni is not None:
        arrays["to_mni"] = work.to_mni
    return arrays


def _greys(work: Work) -> Arrays:
    voxels = work.image.voxels
    low, high = float(voxels.min()), float(voxels.max())
    # Not below what float32 holds with all its digits: a range that small is one grey.
    step = max((high - low) / _LEVELS, float(np.finfo(np.float32).tiny))
    levels = np.round((voxels - np.float32(low)) / np.float32(step))
    arrays: Arrays = {
        "greys": np.clip(levels, 0, _LEVELS).astype(np.uint16),
        "scale": np.array([low, step]),
        "affine": work.image.affine,
    }
    if work.brain is not None:
        arrays["brain"] = np.packbits(work.brain)
    return arrays


def _work(arrays: Arrays, base: Work | None) -> Work:
    if base is None:
        low, step = arrays["scale"]
        greys = arrays["greys"].astype(np.float32) * np.float32(step) + np.float32(low)
        image, brain = Image(greys, arrays["affine"]), _brain(arrays, greys.shape)
    else:
        image, brain = base.image, base.brain
    to_mni: Affine | None = arrays.get("to_mni")
    findings = json.loads(arrays["findings"].tobytes())
    return Work(image, brain, to_mni, findings=findings)


def _brain(arrays: Arrays, shape: tuple[int, ...]) -> Mask | None:
    if "brain" not in arrays:
        return None
    bits = np.unpackbits(arrays["brain"], count=int(np.prod(shape)))
    mask: Mask = bits.reshape(shape).astype(bool)
    return mask
