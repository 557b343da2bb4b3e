"""Synthetic heads: invertible, with the disease where it belongs and nowhere else."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from simulations.cohort.anatomy import anatomy_volume, build_head, measure, render
from simulations.cohort.atrophy import (
    affected_regions,
    atrophy_velocity,
    coefficients,
    log_volume_change,
)
from simulations.cohort.deformation import (
    FIELD_SHAPE,
    FIELD_SPACING_MM,
    compose,
    exponential,
    jacobian_determinant,
    potential_flow,
    smooth_noise,
)
from simulations.cohort.design import default_cohort, public_cohort
from simulations.cohort.spec import CohortSpec, EffectSpec
from simulations.cohort.subject import Subject, Visit, draw_subject
from simulations.cohort.template import load_template


def patient(index: int = 0, site: int = 0, spec: CohortSpec | None = None) -> Subject:
    chosen = spec or default_cohort(8, seed=3)
    return draw_subject(chosen, chosen.sites[site], index)


def at_severity(severity: float, age: float = 72.0) -> Visit:
    return Visit("01", age, severity, severity, severity)


def volumes_at(subject: Subject, visit: Visit) -> tuple[dict[str, float], float]:
    _, region_ml, icv_ml = anatomy_volume(subject, visit)
    return dict(zip(load_template().atlas.names, region_ml, strict=True)), icv_ml


def both(volumes: dict[str, float], region: str) -> float:
    return volumes[f"{region}_left"] + volumes[f"{region}_right"]


def test_potential_flow_has_the_divergence_asked_for() -> None:
    k = 3
    wave = np.cos(np.pi * k * (np.arange(FIELD_SHAPE[1]) + 0.5) / FIELD_SHAPE[1])
    divergence = np.broadcast_to(0.2 * wave[None, :, None], FIELD_SHAPE)
    velocity = potential_flow(divergence)
    found = sum(np.gradient(velocity[a], FIELD_SPACING_MM, axis=a) for a in range(3))
    inner = (slice(3, -3),) * 3
    assert np.abs(found - divergence)[inner].max() < 0.01
    assert np.abs(velocity[0]).max() < 1e-3


def test_constant_divergence_is_dropped() -> None:
    assert np.abs(potential_flow(np.ones(FIELD_SHAPE))).max() < 1e-3


def test_exponentials_of_opposite_velocities_are_inverse() -> None:
    velocity = smooth_noise(np.random.default_rng(0), ((20.0, 2.2), (8.0, 0.7)), 3)
    assert velocity.std() == pytest.approx(np.hypot(2.2, 0.7), rel=0.25)
    there_and_back = compose(exponential(-velocity), exponential(velocity))
    assert np.abs(there_and_back[:, 4:-4, 4:-4, 4:-4]).max() < 0.35
    assert np.abs(exponential(velocity)).max() > 3


def test_jacobian_of_a_known_scaling() -> None:
    grid = np.indices(FIELD_SHAPE).astype(np.float32) * FIELD_SPACING_MM
    assert jacobian_determinant(0.1 * grid) == pytest.approx(1.1**3, abs=1e-4)


@pytest.mark.parametrize("index", range(3))
def test_nothing_folds_even_in_the_oldest_and_sickest(index: int) -> None:
    template = load_template()
    subject = patient(index)
    change = log_volume_change(subject, at_severity(1.3, age=95), template.atlas.names)
    disease = exponential(atrophy_velocity(template, change))
    person = exponential(smooth_noise(subject.rng("anatomy"), ((20.0, 2.2), (8.0, 0.7)), 3))
    assert jacobian_determinant(disease).min() > 0.1
    assert jacobian_determinant(person).min() > 0.1


def test_hippocampus_shrinks_ventricles_grow_the_rest_stays() -> None:
    subject = patient(1)
    cn, mci, ad = (volumes_at(subject, at_severity(s)) for s in (0.1, 0.42, 0.8))
    for region in ("hippocampus", "entorhinal_zone", "amygdala", "parahippocampal_zone"):
        assert both(cn[0], region) > 1.05 * both(mci[0], region) > 1.1 * both(ad[0], region)
    ventricles = [both(v, "lateral_ventricle") for v, _ in (cn, mci, ad)]
    assert ventricles[0] * 1.1 < ventricles[1] < ventricles[2] / 1.1
    for region in ("precentral", "putamen", "calcarine"):
        assert both(ad[0], region) == pytest.approx(both(cn[0], region), rel=0.05)
    # What the brain loses becomes CSF: the head keeps its size.
    assert ad[1] == pytest.approx(cn[1], rel=0.015)


def test_age_alone_shrinks_the_hippocampus() -> None:
    subject = patient(2)
    young, old = (volumes_at(subject, at_severity(0.1, age))[0] for age in (55, 90))
    assert both(old, "hippocampus") < 0.95 * both(young, "hippocampus")
    assert both(old, "lateral_ventricle") > 1.1 * both(young, "lateral_ventricle")


def test_affected_regions_are_those_with_an_alpha() -> None:
    names = load_template().atlas.names
    affected = set(affected_regions(names, EffectSpec()))
    assert {"hippocampus_left", "lateral_ventricle_right", "angular_left"} <= affected
    assert not affected & {"precentral_left", "brainstem", "putamen_right", "calcarine_left"}
    flat = EffectSpec(alpha={})
    assert affected_regions(names, flat) == ()


def test_longest_key_names_the_region() -> None:
    table = {"": 1.0, "temporal": 2.0, "temporal_pole": 3.0}
    found = coefficients(("temporal_pole_middle_left", "temporal_inferior_left", "vermis"), table)
    assert found.tolist() == [3.0, 2.0, 1.0]
    assert coefficients(("vermis",), {"temporal": 2.0}).tolist() == [0.0]


def test_pair_signal_lives_in_the_product_only() -> None:
    spec = default_cohort(8).model_copy(
        update={
            "effect": EffectSpec(alpha={}, beta={}, pair=0.3, region_sd=0, ventricle_region_sd=0)
        }
    )
    names = load_template().atlas.names
    a, b = names.index("angular_left"), names.index("frontal_middle_left")
    rows = []
    for i in range(300):
        subject = patient(i, spec=spec)
        change = log_volume_change(subject, subject.visits[0], names)
        rows.append((subject.diagnosis, np.sign(change[a]), np.sign(change[b])))
    for diagnosis, agreement in (("AD", 1.0), ("CN", -1.0)):
        own = [(x, y) for d, x, y in rows if d == diagnosis]
        assert {x * y for x, y in own} == {agreement}
        assert abs(np.mean([x for x, _ in own])) < 0.35
    assert abs(np.mean([x * y for d, x, y in rows if d == "MCI"])) < 0.35


def test_texture_fades_with_the_fine_severity_only() -> None:
    subject = patient(0)
    healthy, ill = (
        build_head(subject, dataclasses.replace(at_severity(0.3), fine=fine)) for fine in (0.0, 1.0)
    )
    assert np.array_equal(healthy.inverse, ill.inverse)
    assert healthy.texture.std() > 3 * ill.texture.std() > 0


def test_visits_share_the_person() -> None:
    subject = patient(0)
    first, later = Visit("01", 70, 0.3, 0.3, 0.3), Visit("02", 72, 0.5, 0.5, 0.5)
    a, b = volumes_at(subject, first)[0], volumes_at(subject, later)[0]
    other = volumes_at(patient(5), first)[0]
    names = [n for n in a if a[n] > 2]
    drift = np.mean([abs(np.log(a[n] / b[n])) for n in names])
    between = np.mean([abs(np.log(a[n] / other[n])) for n in names])
    assert 0 < drift < between / 2


def test_same_head_on_any_grid() -> None:
    subject = patient(3)
    head = build_head(subject, subject.visits[0])
    found = []
    for voxel in ((2.0, 2.0, 2.0), (1.5, 2.0, 3.0)):
        shape = tuple(round(s / v) for s, v in zip((176, 208, 176), voxel, strict=True))
        affine = np.diag([*voxel, 1.0])
        affine[:3, 3] = np.asarray((-88, -120, -82)) + np.asarray(voxel) / 2
        image, labels, brain = render(head, affine, shape)
        region_ml, icv_ml = measure(head, labels, brain, float(np.prod(voxel)))
        found.append((region_ml, icv_ml, image[brain].mean()))
    large = found[0][0] > 8  # a thin sheet of cortex is a matter of luck on coarse voxels
    assert large.sum() > 50
    assert found[0][0][large] == pytest.approx(found[1][0][large], rel=0.06)
    assert found[0][1] == pytest.approx(found[1][1], rel=0.01)
    assert found[0][2] == pytest.approx(found[1][2], rel=0.02)


def test_head_fits_the_model_grid() -> None:
    for index in range(4):
        image, _, icv_ml = anatomy_volume(patient(index, spec=public_cohort(4, seed=9)))
        assert image.dtype == np.float32
        assert image.shape == (88, 104, 88)
        assert np.isfinite(image).all()
        assert image.min() == 0
        assert 0.9 < image.max() < 1.4
        edge = np.ones(image.shape, bool)
        edge[1:-1, 1:-1, 1:-1] = False
        assert not image[edge].any()
        assert 1400 < icv_ml < 2900
