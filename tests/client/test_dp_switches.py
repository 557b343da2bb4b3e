"""Sensitivity for every combination of switches: one patient moves what is noised by at most C."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_site import GRID, small_model, small_plan
from torch import Tensor

from client.archive.patients import Patient, Scan
from client.training import precision
from client.training.augmentation.views import PlannedViews
from client.training.examples import PatientExamples, patient_examples
from client.training.patient_sgd import PatientSGD
from client.training.rounds import train_round
from client.training.self_test import sensitivity_self_test, synthetic_inputs
from client.training.site_model import SiteModel
from client.training.site_shift import shift_site
from shared_model.adaptation.dimensions import embedding_size
from shared_model.adaptation.moments import SiteMoments
from shared_model.plan import FederationPlan

CLIP = 1e-3

SWITCHES: dict[str, tuple[Any, ...]] = {
    "encoder": ("frozen", "shared"),
    "views": (0, 2),
    "clipping": ("fixed", "adaptive"),
    "site_norm": ("off", "shared", "residual"),
    "precision": ("float32", "bfloat16"),
    "standardise": (False, True),
    "site_moments": ("off", "confusion", "linear", "shift", "affine"),
    "personalise": ("after", "private"),
}


def name_of(switches: dict[str, Any]) -> str:
    return "-".join(str(value) for value in switches.values())


def admitted() -> list[dict[str, Any]]:
    """All combinations that a plan admits."""
    out = []
    for values in itertools.product(*SWITCHES.values()):
        chosen = dict(zip(SWITCHES, values, strict=True))
        sets = chosen["site_moments"] in ("shift", "affine")
        private = chosen["personalise"] == "private"
        residual = chosen["site_norm"] == "residual"
        if not (private and sets) if residual else not (private or sets):
            out.append(chosen)
    return out


def pairs(chosen: dict[str, Any]) -> set[object]:
    return set(itertools.combinations(chosen.items(), 2))


def combinations() -> list[Any]:
    """All that a plan admits; by default few, in which every admitted pair of values occurs."""
    every = admitted()
    missing, quick = set().union(*map(pairs, every)), []
    while missing:
        quick.append(max(every, key=lambda chosen: len(pairs(chosen) & missing)))
        missing -= pairs(quick[-1])
    return [
        pytest.param(c, id=name_of(c), marks=() if c in quick else pytest.mark.slow) for c in every
    ]


def released_moments(site_model: SiteModel) -> dict[str, SiteMoments] | None:
    """What two sites released before, far apart, for a plan that uses it."""
    if site_model.plan.adaptation.site_moments == "off":
        return None
    rng = np.random.default_rng(0)
    size, classes = embedding_size(site_model.plan), len(site_model.plan.task.labels)
    return {
        name: SiteMoments(
            means=0.3 * rng.normal(k, 1, (classes, size)),
            counts=np.full(classes, 9.0),
            variances=np.ones(size),
            means_sd=np.zeros(classes),
        )
        for k, name in enumerate("ab")
    }


class Heads:
    """A smooth volume of its own for every scan; that of the patient ``spoilt`` holds NaN."""

    def volume(self, scan: Scan) -> np.ndarray:
        seed = int.from_bytes(str(scan.path).encode()[-8:])
        generator = torch.Generator().manual_seed(seed % 2**63)
        blobs = torch.randn(1, 1, 4, 4, 4, generator=generator)
        smooth = torch.nn.functional.interpolate(blobs, GRID.shape, mode="trilinear")[0, 0].numpy()
        out = (smooth + scan.label).astype(np.float32)
        if "spoilt" in str(scan.path):
            out[out.shape[0] // 2] = math.nan
        return out


def somebody(name: str, label: int, scans: int) -> Patient:
    paths = [Path(f"{name}-{index}") for index in range(scans)]
    return Patient(name, None, tuple(Scan("", path, label, None) for path in paths))


PEOPLE = [somebody("ann", 0, 1), somebody("bob", 1, 2), somebody("spoilt", 2, 1)]


def plan_of(switches: dict[str, Any]) -> FederationPlan:
    plan = small_plan(
        site_norm=switches["site_norm"],
        encoder=switches["encoder"],
        privacy={"clipping_norm": CLIP, "clipping": switches["clipping"]},
        training={"precision": switches["precision"]},
        adaptation={
            "site_moments": switches["site_moments"],
            "moments_weight": 2.0,
            "moments_noise_multiplier": 1.0 if switches["site_moments"] != "off" else 0.0,
            "personalise": switches["personalise"],
        },
    )
    data = plan.model_dump(mode="json")
    data["model"]["config"]["weight_standardisation"] = switches["standardise"]
    if switches["views"]:
        data["augmentation"] |= {
            "enabled": True, "multiplicity": switches["views"], "views": 2, "noise_sd": 0.0,
        }  # fmt: skip
    return FederationPlan.parse(data)


def sums(
    site_model: SiteModel,
    examples: list[PatientExamples],
    plan: FederationPlan,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[Tensor, float, int]:
    """What a round of this plan would noise: its clipped sum and its centred count."""
    seen: list[tuple[Tensor, float, int]] = []

    def step(self: PatientSGD, people: Any) -> None:
        total, count = self.clipped_sums(people)
        seen.append((total, count, self.zeroed_patients))

    with monkeypatch.context() as patch:
        patch.setattr(PatientSGD, "step", step)
        moments = released_moments(site_model)
        if moments is not None and plan.adaptation.moments_set_the_residual:
            shift_site(site_model, "a", moments)
        train_round(site_model, examples, plan, "a", 1, "run", moments=moments)
    (found,) = seen
    return found


@pytest.mark.parametrize("switches", combinations())
def test_one_patient_moves_what_is_noised_by_at_most_c(
    switches: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The emulated bfloat16 rounds as the real one does.
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: True)
    view = PlannedViews._view

    def spoilt_view(self: PlannedViews, volume: Tensor, *key: str | int) -> Tensor:
        return view(self, volume, *key) * (math.nan if "spoilt" in key else 1.0)

    monkeypatch.setattr(PlannedViews, "_view", spoilt_view)  # augmenting would repair a NaN
    plan = plan_of(switches)
    site_model = small_model(plan)
    examples = list(patient_examples(site_model, PEOPLE, Heads(), training=True))
    everybody, count, zeroed = sums(site_model, examples, plan, monkeypatch)
    assert torch.isfinite(everybody).all()
    assert zeroed == 1
    assert float(everybody.norm()) > 0.1 * CLIP
    moves = []
    for left_out in range(len(PEOPLE)):
        rest = examples[:left_out] + examples[left_out + 1 :]
        others, fewer, _ = sums(site_model, rest, plan, monkeypatch)
        moves.append(float((everybody - others).norm()) / CLIP)
        assert abs(count - fewer) == 0.5
    assert max(moves) <= 1
    assert moves[0] > 0.99  # the clip is at work, and not needlessly below C
    assert moves[2] < 1e-4  # a gradient that is not finite counts as zero
    # An empty draw, and one patient in it.
    nobody, none, _ = sums(site_model, [], plan, monkeypatch)
    assert not nobody.any()
    assert none == 0
    alone, _, _ = sums(site_model, examples[1:2], plan, monkeypatch)
    assert float(alone.norm()) <= CLIP
    size = sum(p.numel() for p in site_model.parameters(site_model.groups["shared"]))
    if switches["personalise"] == "private":
        # Shared and site parameters are one vector under one clip.
        own = sum(p.numel() for p in site_model.parameters(site_model.groups["site"]))
        assert len(everybody) == size + own
        assert float(everybody[size:].norm()) > 0
    else:
        assert len(everybody) == size


@pytest.mark.parametrize("encoder", ["frozen", "shared"])
@pytest.mark.parametrize("kind", ["fixed", "adaptive"])
@pytest.mark.parametrize("numbers", ["float32", "bfloat16"])
def test_the_self_test_passes_with_every_engine(
    encoder: str, kind: str, numbers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: True)
    switches = {"encoder": encoder, "views": 2, "clipping": kind, "site_norm": "residual",
                "precision": numbers, "standardise": False, "site_moments": "off",
                "personalise": "after"}  # fmt: skip
    site_model = small_model(plan_of(switches))
    worst = sensitivity_self_test(site_model, synthetic_inputs(site_model))
    assert 0.99 < worst <= 1


def test_a_clip_that_knows_the_other_patients_would_be_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The mutant: each gradient is scaled to the mean norm of the batch instead of its own."""
    switches = {name: values[0] for name, values in SWITCHES.items()}
    original = PatientSGD._submit

    def submit(self: PatientSGD, sample: Tensor, *, last: bool) -> None:
        if len(sample):
            sample = sample / sample.norm(dim=1).nan_to_num().mean() * CLIP * len(sample)
        original(self, sample, last=last)

    monkeypatch.setattr(PatientSGD, "_submit", submit)
    monkeypatch.setattr("client.training.patient_optimizer.CLIPPING_MARGIN", -1e6)
    with pytest.raises(AssertionError):
        test_one_patient_moves_what_is_noised_by_at_most_c(switches, monkeypatch)
