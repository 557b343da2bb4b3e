"""Small hospitals with brains that have a bright cube or two, and masks of them."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from bids_fixture import brain, image_path, people, save_nifti, write_bids

from client.archive.lesions import FOLDER
from shared_model.models.plan_sections import plan_sections
from shared_model.plan import FederationPlan
from shared_model.registry import model_entry
from shared_model.start_environment import start_environment

MODELS = ("unet", "unet-transformer", "lesion-detector")
LABELS = ("background", "lesion")


def stay_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands start anew where settings of the C library are missing: not in a test."""
    for name, value in start_environment(1).items():
        monkeypatch.setenv(name, value)


def mask_path(root: Path, image: Path, ending: str = "desc-lesion_mask") -> Path:
    name = image.name.replace("T1w", ending)
    return root / FOLDER / image.relative_to(root).parent / name


def write_lesions(root: Path, count: int, seed: int = 0, masks: int | None = None) -> Path:
    """``count`` patients; every fifth has no lesion; the first ``masks`` are marked (none: all)."""
    persons = people(count)
    write_bids(root, *persons, seed=seed)
    for number, person in enumerate(persons):
        rng = np.random.default_rng([seed, number])
        for visit in person.visits:
            scan = brain([seed, number, len(visit.session or "")])
            numbers = np.zeros(scan.shape, np.uint8)
            for _ in range(0 if number % 5 == 4 else 1 + number % 2):
                x, y, z = rng.integers((12, 14, 14), (26, 32, 26))
                numbers[x : x + 5, y : y + 5, z : z + 5] = 1
            path = image_path(root, person, visit)
            save_nifti(path, np.where(numbers, 400.0, scan).astype(np.float32), person.orientation)
            if masks is None or number < masks:
                save_nifti(mask_path(root, path), numbers, person.orientation)
    return root


def set_mask(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> None:
    """Replace the voxels of a mask, and perhaps where it lies."""
    image = nibabel.load(path)
    place = image.affine if affine is None else affine
    nibabel.save(nibabel.Nifti1Image(values, place), path)


def lesion_plan(
    model: str, *, private: bool = False, sites: tuple[str, ...] = ("a", "b"), rounds: int = 2
) -> FederationPlan:
    """The smallest model of a kind on the 4 mm grid."""
    of_model = plan_sections(model, model_entry(model).tiny)
    privacy = {"mode": "local", "epsilon": 8.0, "noise_multiplier": 3.0}
    return FederationPlan.parse(
        of_model
        | {
            "name": "lesions",
            "seed": 3,
            "input": {"grid": {"spacing_mm": 4.0}},
            "privacy": privacy if private else {"mode": "none"},
            "training": of_model["training"] | {"rounds": rounds, "sampling_rate": 0.6},
            "adaptation": {"site_norm": "residual", "personalise_steps": 1},
            "federation": {
                "sites": [{"name": name, "declared_patients": 4} for name in sites],
                "round_deadline_s": 240,
            },
            "evaluation": {"bootstrap_draws": 100, "test_fraction": 0.4},
        }
    )
