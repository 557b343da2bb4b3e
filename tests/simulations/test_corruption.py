from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bids_fixture import brain
from small_site import GRID, small_model, small_plan

from client.agent.evaluation import probabilities
from client.archive.patients import Patient, Scan
from client.prepared.intensity import BACKGROUND, standardise
from client.training.augmentation.stream import augmentation_stream
from client.training.examples import patient_examples
from simulations.evaluation.corruption import (
    KINDS,
    SEVERITIES,
    STRENGTHS,
    CorruptedVolumes,
    Kind,
    _shift_while_scanning,
    corrupt,
)
from simulations.evaluation.robustness import corrupted_predictions


class Memory:
    """Prepared scans in memory."""

    def __init__(self, volumes: dict[Path, np.ndarray]) -> None:
        self.volumes = volumes

    def volume(self, scan: Scan) -> np.ndarray:
        return self.volumes[scan.path]


def _hospital(count: int, folder: str = "/a") -> tuple[list[Patient], Memory]:
    volumes, patients = {}, []
    for number in range(count):
        scans = []
        for visit in range(1 + number % 2):
            path = Path(folder) / f"{number}-{visit}"
            volumes[path] = standardise(brain((number, visit)))
            scans.append(Scan(f"{visit}", path, number % 3, 70.0))
        patients.append(Patient(f"{number:02d}", "F", tuple(scans)))
    return patients, Memory(volumes)


def _worse(volume: np.ndarray, kind: Kind, severity: int, key: int = 0) -> np.ndarray:
    return corrupt(volume, kind, severity, augmentation_stream("test", key), GRID.spacing_mm)


def test_every_kind_has_rising_strengths() -> None:
    assert set(STRENGTHS) == set(KINDS)
    for values in STRENGTHS.values():
        assert len(values) == len(SEVERITIES)
        assert list(values) == sorted(values)


@pytest.mark.parametrize("kind", KINDS)
def test_a_corruption_is_a_prepared_scan_and_grows_with_severity(kind: Kind) -> None:
    clean = standardise(brain(0))
    before = clean.copy()
    away = []
    for severity in (0, *SEVERITIES):
        worse = _worse(clean, kind, severity)
        assert worse.dtype == np.float32
        assert worse.shape == clean.shape
        assert (worse[clean == BACKGROUND] == BACKGROUND).all()
        assert worse.min() >= -4
        assert worse.max() <= 4
        seen = worse[worse > BACKGROUND]
        quartiles = np.quantile(seen, [0.25, 0.5, 0.75])
        assert quartiles[1] == pytest.approx(0, abs=0.1)
        assert quartiles[2] - quartiles[0] == pytest.approx(1.349, abs=0.2)
        away.append(float(np.sqrt(((worse - clean) ** 2).mean())))
    assert (clean == before).all()
    assert away[0] == 0
    # Slices of 3 and 4 mm are no thicker than this grid's voxels.
    first = 3 if kind == "resolution" else 1
    assert all(b > a + 1e-4 for a, b in zip(away[first - 1 :], away[first:], strict=False))
    assert away[-1] > 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_the_pattern_follows_from_its_key_alone(kind: Kind) -> None:
    clean = standardise(brain(1))
    assert (_worse(clean, kind, 3, 5) == _worse(clean, kind, 3, 5)).all()
    assert (_worse(clean, kind, 5, 5) != _worse(clean, kind, 5, 6)).any()


def test_motion_moves_energy_and_makes_none() -> None:
    greys = np.abs(np.random.default_rng(0).normal(size=(12, 13, 14))).astype(np.float32)
    for axis in range(3):
        stream = np.random.default_rng(axis)
        moved = _shift_while_scanning(greys, axis, 3.0, stream)
        assert (moved**2).sum() == pytest.approx((greys**2).sum(), rel=1e-4)
        assert moved.mean() != pytest.approx(greys.mean(), rel=1e-3)
        still = _shift_while_scanning(greys, axis, 0.0, np.random.default_rng(axis))
        assert still == pytest.approx(greys, abs=1e-5)


def test_ghosts_of_a_point_lie_along_the_phase_encoding() -> None:
    point = np.zeros((32, 32, 32), dtype=np.float32)
    point[16, 16, 16] = 1
    moved = _shift_while_scanning(point, 1, 2.0, np.random.default_rng(3))
    far = (moved**2)[:, [0, 1, 2, 30, 31], :].sum()
    across = (moved**2)[[0, 1, 2, 30, 31]].sum()
    assert far > 2 * across


@pytest.mark.parametrize("severity", SEVERITIES)
def test_missing_slices_are_as_many_as_said_and_whole(severity: int) -> None:
    clean = standardise(brain(0))
    worse = _worse(clean, "missing_slices", severity)
    share = STRENGTHS["missing_slices"][severity - 1]
    found = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        had = (clean > BACKGROUND).any(axis=others)
        lost = had & ~(worse > BACKGROUND).any(axis=others)
        found.append(lost.sum() / had.sum())
    assert max(found) == pytest.approx(share, abs=0.03)


def test_an_empty_scan_stays_and_what_does_not_exist_is_refused() -> None:
    empty = np.full((5, 5, 5), BACKGROUND, dtype=np.float32)
    for kind in KINDS:
        assert (_worse(empty, kind, 5) == empty).all()
    with pytest.raises(ValueError, match="severity 6"):
        _worse(empty, "noise", 6)
    with pytest.raises(ValueError, match="'rain'"):
        _worse(empty, "rain", 1)  # type: ignore[arg-type]


def test_corruption_does_not_depend_on_where_the_archive_lies() -> None:
    out = []
    for folder in ("/a", "/elsewhere"):
        patients, source = _hospital(2, folder)
        keys = {s.path: (p.id, i) for p in patients for i, s in enumerate(p.scans)}
        worse = CorruptedVolumes(source, keys, "noise", 2, 7, GRID.spacing_mm, "zscore")
        out.append([worse.volume(s) for p in patients for s in p.scans])
    for a, b in zip(*out, strict=True):
        assert (a == b).all()
    assert not (out[0][1] == out[0][2]).all()


def test_predictions_for_every_kind_and_severity() -> None:
    patients, source = _hospital(3)
    model = small_model(small_plan("none"))
    found = list(
        corrupted_predictions(
            model, patients, source, kinds=("noise", "motion"), severities=(1, 5), seed=1
        )
    )
    assert [(f.kind, f.severity) for f in found] == [
        (kind, severity) for kind in ("noise", "motion") for severity in (0, 1, 5)
    ]
    y, p = probabilities(model, list(patient_examples(model, patients, source)))
    assert (found[0].probability == p).all()
    for one in found:
        assert one.label.tolist() == y.tolist() == [0, 1, 2]
        assert one.probability.sum(1) == pytest.approx(1)
    assert not np.allclose(found[2].probability, p, atol=1e-6)
    one_kind = {"kinds": ("noise",), "severities": (5,)}
    same = list(corrupted_predictions(model, patients, source, **one_kind, seed=1))[1]
    other = list(corrupted_predictions(model, patients, source, **one_kind, seed=2))[1]
    assert (same.probability == found[2].probability).all()
    assert (other.probability != found[2].probability).any()
