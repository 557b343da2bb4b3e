"""Small real BIDS archives of brain-like volumes in MNI space, for the tests of a hospital.

::

    write_bids(tmp_path / "archive", *people(12))
    write_bids(root, Person("01", (Visit("CN"), Visit("MCI", "M12", age=71.0)), orientation="LAS"))
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import nibabel
import numpy as np
import numpy.typing as npt
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from scipy.ndimage import affine_transform

from shared_model.atlas.tissue import load_tissue_maps
from shared_model.grid import ModelGrid

LABELS = ("CN", "MCI", "AD")
Image = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Visit:
    """One session; without ``session`` the image lies directly below the subject."""

    diagnosis: str = "CN"
    session: str | None = None
    age: float | None = 70.0


@dataclass(frozen=True)
class Person:
    """A subject ``sub-{id}``; ``orientation`` names the stored axes."""

    id: str
    visits: tuple[Visit, ...] = (Visit(),)
    sex: str = "F"
    orientation: str = "RAS"


def people(count: int, labels: Sequence[str] = LABELS) -> tuple[Person, ...]:
    """Labels in turn, every third stored as LAS, every fourth with two sessions (M00, M12)."""
    out = []
    for number in range(count):
        label, age = labels[number % len(labels)], 60.0 + number
        visits = (
            (Visit(label, "M00", age), Visit(label, "M12", age + 1))
            if number % 4 == 3
            else (Visit(label, None, age),)
        )
        orientation = "LAS" if number % 3 == 2 else "RAS"
        out.append(Person(f"{number:02d}", visits, "FM"[number % 2], orientation))
    return tuple(out)


@functools.cache
def template(spacing_mm: float = 4.0) -> Image:
    """``(X, Y, Z)`` the public MNI152 T1 on the model grid, greys 0 to 255, 0 outside the brain."""
    maps, grid = load_tissue_maps(), ModelGrid(spacing_mm=spacing_mm)
    offset = grid.affine[:3, 3] - maps.affine[:3, 3]
    # Voxels of 1 mm, the nearest one: aliasing does no harm here.
    sampled = affine_transform(
        maps.t1, np.full(3, spacing_mm), offset, output_shape=grid.shape, order=0
    )
    return sampled.astype(np.float32)


def brain(seed: int | Sequence[int], spacing_mm: float = 4.0, noise: float = 8.0) -> Image:
    """The template with Rician-like noise inside the brain, exact 0 outside."""
    clean, rng = template(spacing_mm), np.random.default_rng(seed)
    real, imaginary = (rng.normal(0, noise, clean.shape).astype(np.float32) for _ in range(2))
    return np.hypot(clean + real, imaginary) * (clean > 0)


def save_nifti(path: Path, volume: npt.NDArray[np.generic], orientation: str = "RAS") -> None:
    """Write a RAS+ array on the model grid's field of view with its axes stored as asked.

    Arrays of another shape than a model grid keep the grid's corner and fill its width.
    """
    spacing = 176.0 / volume.shape[0]
    affine = ModelGrid(spacing_mm=spacing).affine
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(orientation))
    stored = nibabel.orientations.apply_orientation(volume, turn)
    image = nibabel.Nifti1Image(stored, affine @ inv_ornt_aff(turn, volume.shape[:3]))
    image.set_sform(image.affine, 4)
    image.set_qform(image.affine, 4)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)


def image_path(root: Path, person: Person, visit: Visit) -> Path:
    """Where :func:`write_bids` puts a visit's T1w image."""
    subject = f"sub-{person.id}"
    if visit.session is None:
        return root / subject / "anat" / f"{subject}_T1w.nii.gz"
    session = f"ses-{visit.session}"
    return root / subject / session / "anat" / f"{subject}_{session}_T1w.nii.gz"


def write_bids(
    root: Path,
    *persons: Person,
    diagnosis_in: Literal["participants", "sessions"] = "participants",
    spacing_mm: float = 4.0,
    seed: int = 0,
) -> Path:
    """Write an archive with one image per visit; returns ``root``.

    With ``diagnosis_in="sessions"``, and for everybody with named sessions, the diagnosis of a
    visit stands in ``sub-XX_sessions.tsv``; participants.tsv then has that of the first visit only
    if ``diagnosis_in`` is "participants".
    """
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset_description.json").write_text(
        '{"Name": "small", "BIDSVersion": "1.10.0", "DatasetType": "raw"}\n'
    )
    in_participants = diagnosis_in == "participants"
    header = ["participant_id", "age", "sex", *(["diagnosis"] if in_participants else [])]
    rows = ["\t".join(header)]
    for number, person in enumerate(persons):
        first = person.visits[0]
        row = [f"sub-{person.id}", _cell(first.age), person.sex]
        rows.append("\t".join([*row, *([first.diagnosis] if in_participants else [])]))
        for visit_number, visit in enumerate(person.visits):
            volume = brain((seed, number, visit_number), spacing_mm)
            scan = np.rint(volume * 16).astype(np.int16)
            save_nifti(image_path(root, person, visit), scan, person.orientation)
        named = [visit for visit in person.visits if visit.session is not None]
        if named:
            lines = ["session_id\tage\tdiagnosis"]
            lines += [f"ses-{v.session}\t{_cell(v.age)}\t{v.diagnosis}" for v in named]
            table = root / f"sub-{person.id}" / f"sub-{person.id}_sessions.tsv"
            table.write_text("\n".join(lines) + "\n")
    (root / "participants.tsv").write_text("\n".join(rows) + "\n")
    return root


def _cell(age: float | None) -> str:
    return "n/a" if age is None else f"{age:g}"
