"""Copies, repeat scans and mirrored sessions are found; different people are not confused."""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations

import numpy as np
import pytest
from quality_heads import GRID, person, rescanned
from scipy.ndimage import affine_transform, zoom

from client.quality.duplicates import KnownScan, compared, duplicate_reasons, similarity
from client.quality.fingerprint import Fingerprint, asymmetry, fingerprint, mirrored
from client.quality.flips import flip_reasons
from client.quality.limits import QualityLimits
from shared_model.grid import ModelGrid

LIMITS = QualityLimits()


@lru_cache(maxsize=32)
def made(seed: int, how: str = "plain") -> Fingerprint:
    volume, brain = person(seed)
    if how == "rescanned":
        volume = rescanned(volume, seed + 1000)
    if how == "shifted":
        # What registration leaves: half a millimetre and half a per cent.
        matrix, offset = np.eye(3) * 1.005, np.full(3, 0.25 - 0.0025 * 50)
        volume = affine_transform(volume, matrix, offset, order=1)
    if how == "mirrored":
        volume, brain = volume[::-1], brain[::-1]
    return fingerprint(volume, brain, GRID)


def scan(
    key: str, subject: str, session: str, print_: Fingerprint, voxels: str | None = None
) -> KnownScan:
    return KnownScan(key, subject, session, voxels or key, print_)


def ids(reasons: dict[str, tuple[object, ...]]) -> dict[str, list[str]]:
    return {key: [r.id for r in found] for key, found in reasons.items()}  # type: ignore[attr-defined]


def test_a_fingerprint_is_of_length_one_and_of_one_person() -> None:
    for seed in range(4):
        assert np.linalg.norm(made(seed).astype(np.float32)) == pytest.approx(1, abs=1e-2)
    table = similarity([scan(str(s), str(s), "", made(s)) for s in range(4)])
    assert max(table[a, b] for a, b in combinations(range(4), 2)) < LIMITS.other_brain
    for seed in range(4):
        for how in ("rescanned", "shifted"):
            alike = made(seed).astype(np.float32) @ made(seed, how).astype(np.float32)
            assert alike > 0.7, how


def test_the_scale_of_greys_and_what_surrounds_the_brain_do_not_matter() -> None:
    volume, brain = person(0)
    plain = fingerprint(volume, brain, GRID)
    other = np.where(brain, 300 * volume - 40, 7777).astype(np.float32)
    np.testing.assert_allclose(fingerprint(other, brain, GRID), plain, atol=1e-3)


@pytest.mark.parametrize("spacing_mm", [1.6, 4.0])
def test_other_grids_give_nearly_the_same_fingerprint(spacing_mm: float) -> None:
    volume, brain = person(1)
    grid = ModelGrid(spacing_mm=spacing_mm)
    matrix = np.linalg.inv(GRID.affine) @ grid.affine
    if spacing_mm > 2:
        on = zoom(volume, 0.5, order=1, grid_mode=True, mode="nearest")
        mask = zoom(brain.astype(np.float32), 0.5, order=1, grid_mode=True, mode="nearest") > 0.5
    else:
        on = affine_transform(volume, matrix, output_shape=grid.shape, order=1)
        mask = affine_transform(brain.astype(np.float32), matrix, output_shape=grid.shape) > 0.5
    alike = fingerprint(on, mask, grid).astype(np.float32) @ made(1).astype(np.float32)
    assert alike > 0.9


def test_mirroring_twice_is_nothing_and_turns_the_asymmetry_round() -> None:
    print_ = made(2)
    np.testing.assert_array_equal(mirrored(mirrored(print_)), print_)
    np.testing.assert_allclose(mirrored(print_), made(2, "mirrored"), atol=0.01)
    assert asymmetry(print_) @ asymmetry(mirrored(print_)) == pytest.approx(-1, abs=1e-3)


def test_copies_under_two_people_fail_and_repeat_scans_are_reviewed() -> None:
    scans = [
        scan("a", "sub-1", "", made(0)),
        scan("b", "sub-2", "", made(0), voxels="a"),
        scan("c", "sub-3", "", made(1)),
        scan("d", "sub-4", "", made(1, "rescanned")),
        scan("e", "sub-5", "", made(2)),
        scan("f", "sub-6", "", made(2, "mirrored")),
        scan("g", "sub-7", "", made(3)),
    ]
    reasons = duplicate_reasons(scans, LIMITS)
    assert ids(reasons) == {
        "a": ["copied-image"], "b": ["copied-image"],
        "c": ["same-brain"], "d": ["same-brain"],
        "e": ["copied-image"], "f": ["copied-image"],
    }  # fmt: skip
    assert reasons["a"][0].level == "fail"
    assert not reasons["a"][0].final
    assert "sub-2" in reasons["a"][0].text
    assert "mirrored" in reasons["e"][0].text


def test_sessions_of_one_person() -> None:
    scans = [
        scan("a", "sub-1", "ses-1", made(0)),
        scan("b", "sub-1", "ses-2", made(0, "rescanned")),
        scan("c", "sub-2", "ses-1", made(1)),
        scan("d", "sub-2", "ses-2", made(1)),
        scan("e", "sub-3", "ses-1", made(2)),
        scan("f", "sub-3", "ses-2", made(3)),
    ]
    assert ids(duplicate_reasons(scans, LIMITS)) == {
        "c": ["repeated-image"], "d": ["repeated-image"],
        "e": ["other-brain"], "f": ["other-brain"],
    }  # fmt: skip


def test_many_scans_are_compared_in_blocks() -> None:
    rng = np.random.default_rng(0)
    length = len(made(0))
    prints = rng.normal(size=(600, length)).astype(np.float32)
    prints /= np.linalg.norm(prints, axis=1, keepdims=True)
    prints[599] = prints[3]
    scans = [scan(str(i), f"sub-{i}", "", p.astype(np.float16)) for i, p in enumerate(prints)]
    pairs = list(compared(scans, 0.5))
    assert [(pair.first, pair.second) for pair in pairs] == [(3, 599)]
    assert list(compared(scans[:1], 0.5)) == []


def test_a_mirrored_session_is_found() -> None:
    scans = [
        scan("a", "sub-1", "ses-1", made(0)),
        scan("b", "sub-1", "ses-2", mirrored(made(0, "rescanned"))),
        scan("c", "sub-2", "ses-1", made(1)),
        scan("d", "sub-2", "ses-2", made(1, "rescanned")),
        scan("e", "sub-3", "", made(2)),
    ]
    reasons = flip_reasons(scans, LIMITS)
    assert ids(reasons) == {"a": ["mirrored-session"], "b": ["mirrored-session"]}
    assert "ses-2" in reasons["a"][0].text
    # It is the same brain all the same.
    assert duplicate_reasons(scans, LIMITS) == {}


def test_of_three_sessions_the_odd_one_is_named() -> None:
    scans = [
        scan("a", "sub-1", "ses-1", made(0)),
        scan("b", "sub-1", "ses-2", mirrored(made(0, "rescanned"))),
        scan("c", "sub-1", "ses-3", made(0, "shifted")),
    ]
    assert ids(flip_reasons(scans, LIMITS)) == {"b": ["mirrored-session"]}


def test_a_mirrored_scan_stands_out_among_many_people() -> None:
    # Asymmetries that agree by .06 between people, as in the seven public heads.
    rng = np.random.default_rng(0)
    length = len(made(0))
    shared = asymmetry(rng.normal(size=(1, length)).astype(np.float32))
    own = asymmetry(rng.normal(size=(40, length)).astype(np.float32))
    parts = np.sqrt(0.06) * shared + np.sqrt(0.94) * own
    parts[7] = mirrored(parts[7])
    scans = [scan(str(i), f"sub-{i}", "", p.astype(np.float16)) for i, p in enumerate(parts)]
    assert ids(flip_reasons(scans, LIMITS)) == {"7": ["mirrored-scan"]}
    # Fewer people say nothing.
    assert flip_reasons(scans[:19], LIMITS) == {}
    # Two visits of a mirrored person do not vouch for each other.
    twice = [*scans, scan("again", "sub-7", "ses-2", scans[7].fingerprint)]
    assert set(flip_reasons(twice, LIMITS)) == {"7", "again"}


def test_sessions_of_two_people_are_not_called_mirrored() -> None:
    scans = [scan(str(i), "sub-1", f"ses-{i}", made(i)) for i in range(4)]
    assert flip_reasons(scans, LIMITS) == {}
