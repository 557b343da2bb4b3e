"""Explanations are set beside the truth as a brute-force count does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import pytest
import torch
from small_site import GRID, small_atlas

from shared_model.atlas.seeded import seeded_atlas
from shared_model.registry import build_model
from shared_model.smrnet.model import SMRNet
from shared_model.smrnet.output import SMRNetOutput
from shared_model.smrnet.tokens import PLANES, Tokens
from simulations.cohort.atrophy import affected_regions
from simulations.cohort.spec import EffectSpec
from simulations.evaluation.explanations import explain, strongly_affected
from simulations.report.results import Explanations, Ratio

ATLAS = small_atlas()
REGIONS = len(ATLAS.names)
STRIDE = 2
COUNTS = tuple(size // STRIDE for size in ATLAS.labels.shape)


@dataclass(frozen=True)
class Patient:
    """What the model says about one scan: ``(R,)``, and per plane ``(L_plane,)``."""

    importance: np.ndarray
    attention: tuple[np.ndarray, np.ndarray, np.ndarray]


class FixedAnswers:
    """A model whose explanations are given; the region token of a scan is its number."""

    strides = (STRIDE, 2 * STRIDE, 4 * STRIDE)

    def __init__(self, patients: list[Patient]) -> None:
        self.patients = patients

    def reason(self, tokens: Tokens) -> SMRNetOutput:
        patient = self.patients[int(tokens.regions[0, 0, 0, 0])]
        return SMRNetOutput(
            logits=torch.zeros(1, 3),
            fusion_regions=torch.tensor([0.5, 0.3, 0.2]).expand(1, REGIONS, 3),
            fusion_slices=torch.full((1, sum(COUNTS), 3), 1 / 3),
            slice_attention={
                plane: torch.from_numpy(values)[None]
                for plane, values in zip(PLANES, patient.attention, strict=True)
            },
            region_importance=torch.from_numpy(patient.importance)[None],
            # Every region says the same, so what it adds is its importance.
            region_evidence=torch.tensor([1.0, 0.0, 0.0]).expand(1, REGIONS, 3),
            embedding=torch.zeros(1, 1),
        )


def explained(patients: list[Patient], atrophied: list[str], seed: int = 0) -> Explanations:
    tokens = [
        Tokens(torch.full((1, 1, 1, 1), float(number)), torch.zeros(1, 1, 1, 1))
        for number in range(len(patients))
    ]
    model = cast(SMRNet, FixedAnswers(patients))
    return explain(model, tokens, ATLAS, GRID, atrophied, seed)


def distribution(rng: np.random.Generator, count: int) -> np.ndarray:
    values = rng.random(count)
    return values / values.sum()


def random_patient(rng: np.random.Generator) -> Patient:
    x, y, z = (distribution(rng, count) for count in COUNTS)
    return Patient(distribution(rng, REGIONS), (x, y, z))


def slice_ratio_by_counting(patient: Patient, atrophied: list[str]) -> float:
    """Voxel by voxel: mass on atrophied tissue over mass on brain, over the share of voxels."""
    chosen = [ATLAS.names.index(name) + 1 for name in atrophied]
    mass = {True: 0.0, False: 0.0}
    voxels = {True: 0, False: 0}
    x, y, z = patient.attention
    for i, j, k in np.argwhere(ATLAS.labels > 0):
        hit = int(ATLAS.labels[i, j, k]) in chosen
        mass[hit] += x[i // STRIDE] * y[j // STRIDE] * z[k // STRIDE]
        voxels[hit] += 1
    return (mass[True] / sum(mass.values())) / (voxels[True] / sum(voxels.values()))


def value(ratio: Ratio | None) -> float:
    assert ratio is not None
    assert ratio.low is not None
    assert ratio.high is not None
    assert ratio.low <= ratio.value + 1e-12
    assert ratio.value <= ratio.high + 1e-12
    return ratio.value


def one_hot(count: int, chosen: list[int]) -> np.ndarray:
    out = np.zeros(count)
    out[chosen] = 1 / len(chosen)
    return out


def in_brain(axis: int) -> np.ndarray:
    """Brain voxels per slice, as a distribution."""
    others = tuple(a for a in range(3) if a != axis)
    counts = (ATLAS.labels > 0).sum(others).reshape(-1, STRIDE).sum(1)
    return np.asarray(counts / counts.sum())


def test_maps_without_information_are_at_chance() -> None:
    flat = Patient(np.full(REGIONS, 1 / REGIONS), (in_brain(0), in_brain(1), in_brain(2)))
    found = explained([flat, flat], ["octant 2", "octant 5"])
    assert value(found.region_mass_ratio) == pytest.approx(1)
    # The brain of this atlas is a box, so the product over planes is flat inside it.
    assert value(found.slice_mass_ratio) == pytest.approx(1)
    for plane in found.planes:
        assert plane.weight == pytest.approx(plane.chance)


def test_the_slice_ratio_is_that_of_counting_voxels() -> None:
    rng = np.random.default_rng(2)
    atrophied = ["octant 0", "octant 3", "octant 6"]
    patients = [random_patient(rng) for _ in range(2)]
    counted = [slice_ratio_by_counting(patient, atrophied) for patient in patients]
    found = explained(patients, atrophied)
    assert value(found.slice_mass_ratio) == pytest.approx(np.mean(counted))
    masses = [p.importance[[0, 3, 6]].sum() / (3 / REGIONS) for p in patients]
    assert value(found.region_mass_ratio) == pytest.approx(np.mean(masses))
    inside = np.isin(ATLAS.labels, [1, 4, 7])
    painted = [np.append(0, p.importance)[ATLAS.labels] for p in patients]
    shares = [
        (m[inside].sum() / m.sum()) / (inside.sum() / (ATLAS.labels > 0).sum()) for m in painted
    ]
    assert value(found.evidence_mass_ratio) == pytest.approx(np.mean(shares))


def test_all_attention_on_what_is_affected_gives_the_maximum_and_elsewhere_nothing() -> None:
    target = 5
    inside = ATLAS.labels == target + 1
    planes = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        cut = inside.sum(others).reshape(-1, STRIDE).sum(1)
        planes.append(one_hot(len(cut), np.flatnonzero(cut).tolist()))
    patient = Patient(one_hot(REGIONS, [target]), (planes[0], planes[1], planes[2]))
    hit = explained([patient], [f"octant {target}"])
    assert value(hit.region_mass_ratio) == pytest.approx(REGIONS)
    assert value(hit.slice_mass_ratio) == pytest.approx((ATLAS.labels > 0).sum() / inside.sum())
    miss = explained([patient], ["octant 2"])
    assert value(miss.region_mass_ratio) == 0
    assert value(miss.slice_mass_ratio) == 0


def test_profiles_are_means_over_patients_at_their_place_in_mm() -> None:
    rng = np.random.default_rng(4)
    patients = [random_patient(rng) for _ in range(3)]
    found = explained(patients, ["octant 7"])
    assert found.patients == 3
    assert found.scales_mm == (8, 16, 32)
    assert [region.is_atrophied for region in found.regions] == [False] * 7 + [True]
    assert [region.importance for region in found.regions] == pytest.approx(
        np.mean([p.importance for p in patients], axis=0).tolist()
    )
    assert all(row == pytest.approx((0.5, 0.3, 0.2)) for row in found.fusion_regions)
    upper = found.regions[7].centre_mm
    lower = found.regions[0].centre_mm
    assert all(high > low for high, low in zip(upper, lower, strict=True))
    for axis, plane in enumerate(found.planes):
        assert plane.plane == PLANES[axis]
        assert plane.weight == pytest.approx(
            np.mean([p.attention[axis] for p in patients], axis=0).tolist()
        )
        assert np.diff(plane.position_mm) == pytest.approx(STRIDE * GRID.spacing_mm)
        assert plane.truth is not None
        assert sum(plane.truth) == pytest.approx(1)
        # The profile of one region has its centre of mass at the region's centre.
        centre = float(np.dot(plane.truth, plane.position_mm))
        assert centre == pytest.approx(upper[axis])


def test_the_interval_is_that_of_patients() -> None:
    rng = np.random.default_rng(6)
    patients = [random_patient(rng) for _ in range(12)]
    found = explained(patients, ["octant 1"], seed=1)
    again = explained(patients, ["octant 1"], seed=1)
    assert found == again
    alone = explained(patients[:1] * 4, ["octant 1"]).slice_mass_ratio
    assert alone is not None
    assert alone.low == pytest.approx(alone.high)
    many = found.slice_mass_ratio
    assert many is not None
    assert many.low is not None
    assert many.high is not None
    assert many.high - many.low > 0.01


def test_a_network_without_scores_is_at_chance() -> None:
    model = build_model(
        "smrnet",
        {"width": 4},
        GRID,
        torch.from_numpy(ATLAS.labels.astype(np.int64)),
        torch.from_numpy(ATLAS.adjacency.copy()),
        3,
        0,
    )
    assert isinstance(model, SMRNet)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("score.query"):
                parameter.zero_()
        tokens = [
            model.tokenise(
                torch.randn(1, 1, *GRID.shape, generator=torch.Generator().manual_seed(i))
            )
            for i in range(2)
        ]
    found = explain(model, tokens, ATLAS, GRID, ["octant 4"], 0)
    assert value(found.region_mass_ratio) == pytest.approx(1, rel=1e-5)
    for axis, plane in enumerate(found.planes):
        assert sum(plane.weight) == pytest.approx(1, rel=1e-5)
        brain = in_brain(axis)
        assert all((w == 0) == (b == 0) for w, b in zip(plane.weight, brain, strict=True))


def test_strongly_affected_regions_are_those_that_shrink_or_grow_by_a_third() -> None:
    names = ("alpha_left", "alpha_deep_left", "beta", "gamma_right", "delta")
    effect = EffectSpec(alpha={"alpha": -0.6, "alpha_deep": -0.1, "beta": 1.5, "gamma": -0.2})
    assert strongly_affected(names, effect) == ("alpha_left", "beta")


def test_the_cohort_affects_the_medial_temporal_lobe_and_the_ventricles_strongly() -> None:
    names, effect = seeded_atlas().names, EffectSpec()
    strong = strongly_affected(names, effect)
    assert {"hippocampus_left", "hippocampus_right", "amygdala_left"} <= set(strong)
    assert set(strong) < set(affected_regions(names, effect))
    assert not any(name.startswith(("frontal", "cerebellum", "brainstem")) for name in strong)
    assert list(strong) == [name for name in names if name in strong]
