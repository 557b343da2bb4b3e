"""Specs, patients and scanners."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_model.errors import SmrfedError
from simulations.cohort.design import UNSEEN_SITE, default_cohort, public_cohort
from simulations.cohort.scanner import apply_scanner, bias_field, random_scanner, tissue_curve
from simulations.cohort.spec import CohortSpec, ScannerModel, SiteSpec
from simulations.cohort.subject import draw_subject, named_rng
from simulations.cohort.template import CSF, GREY, WHITE


def ball() -> np.ndarray:
    x, y, z = np.indices((30, 34, 32)) - np.asarray((15, 16, 17)).reshape(3, 1, 1, 1)
    radius = np.sqrt(x**2 + y**2 + z**2)
    return np.select(
        [radius < 5, radius < 9, radius < 11, radius < 12], [CSF, WHITE, GREY, CSF], 0.0
    ).astype(np.float32)


@pytest.mark.parametrize("spec", [default_cohort(5, seed=7), public_cohort(6, seed=2)])
def test_toml_round_trip(tmp_path: Path, spec: CohortSpec) -> None:
    path = tmp_path / "cohort.toml"
    path.write_text(spec.to_toml())
    assert CohortSpec.load(path) == spec


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("seed = 0", "seed = -1"),
        ("seed = 0", "sead = 0"),
        ("0.45", "0.95"),
        ('"RAS"', '"RAR"'),
        ("csf = 0.15", "csf = 0.95"),
        ('"site-b"', '"site-a"'),
        ("name", "name ="),
    ],
)
def test_bad_cohort_files_are_refused(tmp_path: Path, old: str, new: str) -> None:
    text = default_cohort(5).to_toml()
    assert old in text
    path = tmp_path / "cohort.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(SmrfedError) as caught:
        CohortSpec.load(path)
    assert caught.value.code == "SMR-E630"


def test_missing_cohort_file_and_site_are_named(tmp_path: Path) -> None:
    with pytest.raises(SmrfedError, match="absent") as caught:
        CohortSpec.load(tmp_path / "absent.toml")
    assert caught.value.code == "SMR-E630"
    assert default_cohort(5).site(UNSEEN_SITE).name == UNSEEN_SITE
    with pytest.raises(SmrfedError, match="site-z") as caught:
        default_cohort(5).site("site-z")
    assert caught.value.code == "SMR-E631"


@given(
    st.integers(0, 2**40),
    st.integers(3, 200),
    st.tuples(*(3 * [st.integers(1, 20)])).map(lambda w: tuple(x / sum(w) for x in w)),
)
@settings(max_examples=60, deadline=None)
def test_every_prefix_of_a_site_has_its_prevalence(
    seed: int, patients: int, prevalence: tuple[float, float, float]
) -> None:
    site = SiteSpec(name="s", patients=patients, prevalence=prevalence)
    spec = CohortSpec(seed=seed, sites=(site,))
    found = [draw_subject(spec, site, i).diagnosis for i in range(patients)]
    for label, share in zip(("CN", "MCI", "AD"), prevalence, strict=True):
        # The discrepancy of the golden sequence grows with the logarithm of its length only.
        assert abs(found.count(label) - share * patients) <= 3


def test_a_patient_does_not_depend_on_how_many_there_are() -> None:
    few, many = default_cohort(4, seed=5), default_cohort(40, seed=5)
    for site_few, site_many in zip(few.sites, many.sites, strict=True):
        for i in range(4):
            a, b = draw_subject(few, site_few, i), draw_subject(many, site_many, i)
            assert (a.visits, a.sex, a.diagnosis, a.participant) == (
                b.visits,
                b.sex,
                b.diagnosis,
                b.participant,
            )


def test_seeds_sites_and_purposes_are_independent() -> None:
    draws = {
        float(named_rng(*path).random())  # type: ignore[arg-type]
        for path in (
            (1, "a", 0, "x"),
            (2, "a", 0, "x"),
            (1, "b", 0, "x"),
            (1, "a", 1, "x"),
            (1, "a", 0, "y"),
        )
    }
    assert len(draws) == 5
    public, private = public_cohort(9, seed=1), default_cohort(9, seed=1)
    own = {draw_subject(public, public.sites[0], i).visits[0] for i in range(9)}
    theirs = {draw_subject(private, s, i).visits[0] for s in private.sites for i in range(9)}
    assert not own & theirs
    assert all(
        draw_subject(public, public.sites[0], i).participant.startswith("pub") for i in range(9)
    )


def test_severity_overlaps_and_orders_the_diagnoses() -> None:
    spec = default_cohort(200, seed=11)
    subjects = [draw_subject(spec, s, i) for s in spec.sites for i in range(200)]
    by = {d: [s.visits[0] for s in subjects if s.diagnosis == d] for d in ("CN", "MCI", "AD")}
    mean = [np.mean([v.severity for v in by[d]]) for d in ("CN", "MCI", "AD")]
    assert mean == pytest.approx([0.10, 0.42, 0.80], abs=0.04)
    assert max(v.coarse for v in by["CN"]) > min(v.coarse for v in by["AD"])
    share = np.mean([len(s.visits) == 2 for s in subjects])
    assert 0.1 < share < 0.2
    for subject in subjects:
        if len(subject.visits) == 2:
            first, second = subject.visits
            assert second.age > first.age
            assert (second.severity > first.severity) == (subject.diagnosis != "CN")


def test_scanner_keeps_the_geometry() -> None:
    clean = ball()
    rng = np.random.default_rng(0)
    for _ in range(40):
        scan = apply_scanner(clean, random_scanner(rng), rng)
        assert scan.shape == clean.shape
        assert scan.dtype == np.float32
        assert np.isfinite(scan).all()
        assert not scan[clean == 0].any()
        assert (scan[clean > 0] > 0).mean() > 0.99
        white, csf = scan[clean == WHITE].mean(), scan[15, 16, 17]
        assert white > csf


def test_scanner_without_faults_is_the_tissue_curve() -> None:
    clean = ball()
    scanner = ScannerModel(
        csf=0.3, grey=0.7, white=0.9, gamma=1.0, bias=0, noise=0, scale=500, scale_spread=0
    )
    scan = apply_scanner(clean, scanner, np.random.default_rng(0))
    for level, expected in ((CSF, 150), (GREY, 350), (WHITE, 450)):
        assert scan[clean == np.float32(level)] == pytest.approx(expected, rel=0.01)


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_every_random_scanner_is_monotone(seed: int) -> None:
    scanner = random_scanner(np.random.default_rng(seed))
    curve = tissue_curve(np.linspace(0, 1.2, 200, dtype=np.float32), scanner)
    assert curve[0] == 0
    assert (np.diff(curve) >= 0).all()


def test_bias_has_the_strength_asked_for_and_is_smooth() -> None:
    scanner = ScannerModel(bias=0.2)
    field = bias_field((88, 104, 88), scanner, np.random.default_rng(1))
    assert field.std() == pytest.approx(0.2, rel=1e-3)
    assert max(np.abs(np.diff(field, axis=a)).max() for a in range(3)) < 0.06


def test_blur_is_in_mm_along_its_own_axis() -> None:
    clean = ball()
    still = {"bias": 0.0, "noise": 0.0, "scale_spread": 0.0}
    sharp = apply_scanner(clean, ScannerModel(**still), np.random.default_rng(0))
    blurred = apply_scanner(
        clean, ScannerModel(blur_fwhm_mm=(0, 0, 4), **still), np.random.default_rng(0)
    )
    edge = [np.abs(np.diff(x[:, 16, :], axis=1)).max() for x in (sharp, blurred)]
    assert edge[1] < 0.7 * edge[0]
    coarse = apply_scanner(
        clean, ScannerModel(blur_fwhm_mm=(0, 0, 4), **still), np.random.default_rng(0), (2, 2, 8)
    )
    assert np.abs(coarse - sharp).sum() < 0.5 * np.abs(blurred - sharp).sum()


def test_empty_volume_stays_empty() -> None:
    empty = np.zeros((8, 8, 8), dtype=np.float32)
    assert not apply_scanner(empty, ScannerModel(), np.random.default_rng(0)).any()
