"""The battery: travelling people, the search for secrets, paired losses; small runs are slow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from client.training.examples import PatientExamples
from simulations.arms.hospital import Hospital
from simulations.battery.cohorts import same_scanner, strong_scanners
from simulations.battery.folds import cross_fit
from simulations.battery.measures import Measured
from simulations.battery.site_alignment import alignment_results, paired_loss
from simulations.battery.site_secrets import secrets_in
from simulations.cohort.anatomy import build_head
from simulations.cohort.generate import acquire
from simulations.cohort.travellers import at_hospital, travellers


def test_a_traveller_is_the_same_person_in_every_scanner() -> None:
    spec = strong_scanners(12)
    person = travellers(spec, 3)[1]
    guests = [at_hospital(person, site) for site in spec.sites]
    assert len({guest.participant for guest in guests}) == 1
    heads = [build_head(guest, guest.visits[0]) for guest in guests[:2]]
    np.testing.assert_array_equal(heads[0].inverse, heads[1].inverse)
    np.testing.assert_array_equal(heads[0].texture, heads[1].texture)
    # The pose is that of the day, and the scanner that of the hospital.
    assert (heads[0].to_template != heads[1].to_template).any()
    scans = [acquire(guest, guest.visits[0]) for guest in guests[:2]]
    np.testing.assert_allclose(scans[0].region_ml.sum(), scans[1].region_ml.sum(), rtol=0.01)
    inside = (scans[0].image > 0) & (scans[1].image > 0)
    assert np.corrcoef(scans[0].image[inside], scans[1].image[inside])[0, 1] < 0.95


def test_no_traveller_is_a_patient_and_the_cohorts_differ_in_scanners_alone() -> None:
    strong, same = strong_scanners(12, 12, seed=3), same_scanner(12, 12, seed=3)
    assert [site.name for site in strong.sites] == [site.name for site in same.sites]
    assert len({site.scanner for site in strong.sites}) == 5
    assert len({site.scanner for site in same.sites}) == 1
    assert len({(s.prevalence, s.age_shift, s.voxel_mm) for s in strong.sites}) == 1
    assert travellers(strong, 2)[0].site.name not in {site.name for site in strong.sites}
    assert len(strong_scanners(12).sites) == 4


def test_a_planted_secret_is_found_and_zeros_are_none() -> None:
    own = {"a": {"x.site_shift": np.array([0.0, 0.5, -0.25, 0.0], np.float32)}}
    clean = [np.arange(100, dtype=np.float32).tobytes()]
    assert secrets_in(clean, own) == (1, 0)
    planted = [b"header" + own["a"]["x.site_shift"].tobytes()]
    assert secrets_in(clean + planted, own) == (1, 1)
    assert secrets_in(clean, {"a": {"x": np.zeros(9, np.float32)}}) == (0, 0)


def measured(right: float, probe: float, phantom: float, n: int = 300) -> Measured:
    label = np.arange(n) % 3
    hit = np.random.default_rng(0).random(n) < right
    p = np.where(hit[:, None], np.eye(3)[label], np.eye(3)[(label + 1) % 3])
    return Measured(probe, probe, probe, probe, phantom, 0.1, label, p)


def test_the_bars_hold_where_they_should() -> None:
    before = measured(0.6, 0.95, 0.8)
    assert paired_loss([before], [before]) == (0.0, 0.0, 0.0)
    good, worse = measured(0.6, 0.3, 0.39), measured(0.5, 0.3, 0.39)
    probe, phantom = alignment_results("strong", {1: {"off": before, "shift": good}})
    assert probe.passed
    assert phantom.passed
    assert phantom.figures["ratio"] == pytest.approx(0.39 / 0.8)
    probe, _ = alignment_results("strong", {1: {"off": before, "shift": worse}})
    assert not probe.passed
    assert probe.figures["lost, low"] > 0
    for spoilt in (replace(good, probe=0.36), replace(good, phantom=0.41)):
        results = alignment_results("strong", {1: {"off": before, "shift": spoilt}})
        assert not all(result.passed for result in results)
    # Without a shift there is nothing to hide, and only harm counts.
    weak = measured(0.6, 0.3, 0.2)
    same, _ = alignment_results("same", {1: {"off": weak, "shift": replace(weak, probe=0.4)}})
    assert same.passed
    assert not alignment_results("same", {1: {"off": weak, "shift": worse}})[0].passed
    assert not alignment_results("strong", {1: {"off": weak, "shift": weak}})[0].passed


def hospital_of(name: str, labels: list[int]) -> Hospital:
    people = [
        PatientExamples(f"p{i}", torch.zeros(1, 1), torch.tensor([label]))
        for i, label in enumerate(labels)
    ]
    return Hospital(name, False, (), (), tuple(people[::2]), tuple(people[1::2]))


@given(
    labels=st.lists(st.integers(0, 2), min_size=4, max_size=40),
    folds=st.integers(2, 4),
    seed=st.integers(0, 99),
)
def test_every_patient_is_tested_once_and_classes_are_spread(
    labels: list[int], folds: int, seed: int
) -> None:
    hospitals = {"a": hospital_of("a", labels), "b": hospital_of("b", labels[::-1])}
    tested: dict[str, list[str]] = {"a": [], "b": []}
    for sides in cross_fit(hospitals, folds, seed):
        for name, (train, test) in sides.items():
            ids = [[patient.id for patient in side] for side in (train, test)]
            assert not set(ids[0]) & set(ids[1])
            assert sorted(ids[0] + ids[1]) == sorted(f"p{i}" for i in range(len(labels)))
            tested[name] += ids[1]
            for label in set(labels):
                found = sum(int(patient.labels[0]) == label for patient in test)
                have = labels.count(label)
                assert have // folds <= found <= -(-have // folds)
    assert sorted(tested["a"]) == sorted(tested["b"]) == sorted(f"p{i}" for i in range(len(labels)))


def test_a_second_scan_is_another_day_in_the_same_scanner() -> None:
    spec = strong_scanners(12)
    person, site = travellers(spec, 1)[0], spec.sites[0]
    first, second = at_hospital(person, site), at_hospital(person, site, "again")
    assert first.visits[0].session != second.visits[0].session
    assert second.visits[0].session.isalnum()
    assert first.site.scanner == second.site.scanner
    heads = [build_head(guest, guest.visits[0]) for guest in (first, second)]
    np.testing.assert_array_equal(heads[0].inverse, heads[1].inverse)
    assert (heads[0].to_template != heads[1].to_template).any()


@pytest.mark.slow
def test_the_battery_at_small_size(tmp_path: Path) -> None:
    """Items 1, 2, 5, 6, 7 on a quarter of the patients; the bars themselves need all of them."""
    from simulations.battery.run import run_battery

    results = {r.name: r for r in run_battery(tmp_path, (31,), ("strong",), 40, 5, 2, folds=2)}
    probe = results["site probe, strong scanners, shift"]
    assert probe.figures["probe before"] > 0.8
    assert probe.figures["probe after"] < probe.figures["probe before"] - 0.3
    assert results["travelling phantom, strong scanners, shift"].figures["ratio"] < 0.75
    assert results["site parameters on the wire"].passed
    assert results["sensitivity of every switch"].passed
    control = results["shuffled sites, strong scanners, shift"]
    assert control.figures["gained, low"] <= 0.05
