"""Synthetic scans and clinical values of which neither tells three classes alone.

Class 0 has no lesion. Classes 1 and 2 have the same bright ball in the volume, and differ in a
clinical number only: N(-1, 0.5) or N(1, 0.5); class 0 has N(0, 1.1). So a perfect reader of images
has a balanced accuracy of 2/3 and so has, about, a reader of the number; both together nearly 1.
Made to show that the fusion uses both branches; it says nothing about patients.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from client.training.examples import PatientExamples
from client.training.rounds import train_round
from client.training.site_model import SiteModel
from shared_model.atlas.atlas import Atlas
from shared_model.fusion.model import VolumeAndClinical
from shared_model.grid import ModelGrid
from shared_model.metrics import balanced_accuracy
from shared_model.plan import FederationPlan
from shared_model.registry import default_groups

CLASSES = ("none", "low", "high")
GRID = ModelGrid(spacing_mm=4.0)
_NUMBER = ((0.0, 1.1), (-1.0, 0.5), (1.0, 0.5))
_RADIUS, _BRIGHT = 5, 3.0
#: Arm: backbones, and whether the number is an input.
ARMS: dict[str, tuple[tuple[str, ...], bool]] = {
    "clinical alone": ((), True),
    "vgg16 alone": (("vgg16",), False),
    "resnet50 alone": (("resnet50",), False),
    "both networks alone": (("vgg16", "resnet50"), False),
    "fusion": (("vgg16", "resnet50"), True),
}
_NETWORKS = {
    "vgg_width": 8, "resnet_width": 8, "blocks": (1, 1, 1, 1), "slices": 3, "image_size": 64,
    "seeded": True, "dropout": 0.0,
}  # fmt: skip


def arm_plan(arm: str, seed: int, patients: int, *, private: bool) -> FederationPlan:
    """One site, all patients in every step."""
    backbones, clinical = ARMS[arm]
    number = {"name": "marker"}
    section = {"mode": "without-cognition", "variables": [number]} if clinical else {}
    privacy: dict[str, Any] = {"mode": "none"}
    if private:
        privacy = {"mode": "local", "noise_multiplier": 8.0, "clipping_norm": 1.0}
    return FederationPlan.parse(
        {
            "name": f"complementary - {arm}",
            "seed": seed,
            "task": {"labels": CLASSES},
            "input": {"grid": {"spacing_mm": GRID.spacing_mm}, "clinical": section},
            "model": {"name": "multimodal", "config": {**_NETWORKS, "backbones": backbones}},
            "groups": default_groups("multimodal", "off").model_dump(),
            "adaptation": {"site_norm": "off", "personalise": "never"},
            "privacy": privacy,
            "training": {"rounds": 1, "local_steps": 150, "learning_rate": 0.5},
            "federation": {"sites": [{"name": "a", "declared_patients": patients}]},
        }
    )


def draw(count: int, seed: int) -> tuple[VolumeAndClinical, torch.Tensor]:
    """``count`` scans with their number, and labels in turn; the number in two columns as encoded.

    Returns inputs, whose ``clinical`` is ``(count, 2)``: the value, and 0 for not missing.
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % len(CLASSES)
    volumes = rng.normal(0, 1, (count, 1, *GRID.shape)).astype(np.float32)
    middle = np.array(GRID.shape) // 2
    axes = np.indices(GRID.shape).reshape(3, -1)
    for row in np.flatnonzero(labels > 0):
        centre = middle + rng.integers(-3, 4, 3)
        ball = ((axes - centre[:, None]) ** 2).sum(0) <= _RADIUS**2
        volumes[row, 0].reshape(-1)[ball] += _BRIGHT
    mean, sd = np.array(_NUMBER)[labels].T
    number = np.stack([rng.normal(mean, sd), np.zeros(count)], 1).astype(np.float32)
    inputs = VolumeAndClinical(torch.from_numpy(volumes), torch.from_numpy(number))
    return inputs, torch.from_numpy(labels)


def accuracy(
    arm: str, atlas: Atlas, seed: int, train: int = 90, test: int = 90, *, private: bool = False
) -> float:
    """Balanced accuracy on ``test`` fresh scans after training on ``train``, one each a patient."""
    plan = arm_plan(arm, seed, train, private=private)
    torch.manual_seed(seed)  # of dropout, should a plan have it
    model = SiteModel.build(plan, atlas)
    has = ARMS[arm][1]

    def examples(count: int, number: int) -> list[PatientExamples]:
        inputs, labels = draw(count, number)
        if not has:
            inputs = VolumeAndClinical(inputs.volume, inputs.clinical[:, :0])
        return [
            PatientExamples(f"p{i}", model.tokenise(inputs[i : i + 1]), labels[i : i + 1])
            for i in range(count)
        ]

    train_round(model, examples(train, 2 * seed), plan, "a", 1, "study")
    held = examples(test, 2 * seed + 1)
    model.model.eval()
    with torch.no_grad():
        found = torch.cat([model.logits(p.inputs) for p in held])  # type: ignore[arg-type]
    label = np.concatenate([p.labels.numpy() for p in held])
    return balanced_accuracy(label, found.softmax(1).double().numpy())
