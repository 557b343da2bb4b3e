"""Measure the public cohort as a hospital measures its scans, each under a scanner of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from client.preprocessing.aligned_volumes import aligned_volumes
from shared_model.atlas.cache import write_atomically
from shared_model.atlas.seeded import seeded_atlas
from shared_model.atlas.select import DEFAULT_ATLAS
from shared_model.grid import ModelGrid
from shared_model.volumes.reference import VolumeReference
from simulations.cohort.cohort import generate_anatomy
from simulations.cohort.design import public_cohort
from simulations.cohort.scanner import apply_scanner, random_scanner

#: Another cohort than the one that the encoder was pretrained on.
SEED = 2
Progress = Callable[[int, int], None]


def make_reference(
    folder: Path, out: Path, subjects: int, workers: int, command: str, progress: Progress
) -> str:
    """Write the reference to ``out`` and return its digest; subjects are kept in ``folder``.

    ``progress`` is called with what is done of two looks at every subject: making and measuring.
    """
    atlas, grid = seeded_atlas(), ModelGrid()
    folders = generate_anatomy(
        public_cohort(subjects, SEED),
        folder,
        workers,
        lambda done, _: progress(done, 2 * subjects),
    )
    at_1_mm = atlas.resampled(ModelGrid(spacing_mm=1.0))
    ratios = []
    for number, path in enumerate(sorted(folders.volumes.glob("*.npz"))):
        rng = np.random.default_rng((SEED, number))
        with np.load(path) as data:
            clean = data["volume"].astype(np.float32)
        seen = apply_scanner(clean, random_scanner(rng), rng)
        ml, brain_ml = aligned_volumes(np.ascontiguousarray(seen), grid.affine, at_1_mm)
        ratios.append(np.log(ml / brain_ml))
        progress(subjects + number + 1, 2 * subjects)
    table = np.stack(ratios)
    reference = VolumeReference(
        atlas=DEFAULT_ATLAS,
        atlas_sha256=atlas.sha256,
        measured_on=f"{subjects} public synthetic subjects (seed {SEED}), a third each CN, MCI and "
        "AD, a random scanner for each",
        command=command,
        regions=atlas.names,
        mean=tuple(round(float(v), 4) for v in table.mean(axis=0)),
        sd=tuple(round(max(float(v), 0.02), 4) for v in table.std(axis=0, ddof=1)),
    )
    body = (reference.model_dump_json(indent=1) + "\n").encode()
    write_atomically(out, body)
    return hashlib.sha256(body).hexdigest()
