"""The gate of the build: the real engine passes, and engines with known mistakes do not.

Mistakes are made here, around the installed engine; there is no switch for them anywhere.
An honest engine fails this file with probability below 1e-4 (simulations/audit/verdict.py): each
attack has to refute its claim twice, independently, at error sqrt(1e-4 / number of attacks).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from small_site import small_model, small_plan

from client.training import patient_gradients, patient_sgd, rounds
from client.training.examples import PatientExamples
from client.training.flat_parameters import FlatParameters
from client.training.patient_optimizer import PatientOptimizer
from client.training.patient_sgd import PatientSGD
from shared_model.errors import SmrfedError
from shared_model.privacy.secure_random import SecureRandom
from simulations.audit.canary_model import canary_patients, orthonormal_directions
from simulations.audit.engine_audit import audit_engine, engine_attacks, gate
from simulations.audit.gradient_game import GradientGame, canary_plan, play
from simulations.audit.repeated_game import RepeatedGame, draw
from simulations.audit.verdict import FALSE_ALARM, Attack, judge, stop_if_refuted


class NoiseOff(SecureRandom):
    def normal(self, count: int) -> np.ndarray:
        return 0 * super().normal(count)


class ThirdOfTheNoise(SecureRandom):
    def normal(self, count: int) -> np.ndarray:
        return super().normal(count) / 3


class NoiseOncePerRound(SecureRandom):
    drawn = False

    def normal(self, count: int) -> np.ndarray:
        found = super().normal(count) * (not self.drawn)
        self.drawn = True
        return found


class FiveTimesTheRate(SecureRandom):
    def select(self, count: int, rate: float) -> np.ndarray:
        return super().select(count, min(1.0, 5 * rate))


class CountWithoutNoise(SecureRandom):
    def normal(self, count: int) -> np.ndarray:
        return super().normal(count) * (count > 1)


class ClipOff(PatientOptimizer):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.max_grad_norm = 1e9


class ClipPerScan(PatientSGD):
    def step(self, patients: Sequence[PatientExamples]) -> None:
        super().step(
            [
                PatientExamples(p.id, p.inputs[i : i + 1], p.labels[i : i + 1])  # type: ignore[index]
                for p in patients
                for i in range(len(p.labels))
            ]
        )


class DivideByWhoCame(PatientSGD):
    def step(self, patients: Sequence[PatientExamples]) -> None:
        self.optimizer.expected_batch_size = max(1, len(patients))
        super().step(patients)


class SkipEmptyDraws(PatientSGD):
    def step(self, patients: Sequence[PatientExamples]) -> None:
        if len(patients):
            super().step(patients)


class SkipWhatIsNotANumber(PatientSGD):
    def step(self, patients: Sequence[PatientExamples]) -> None:
        if all(torch.isfinite(p.inputs).all() for p in patients):  # type: ignore[arg-type]
            super().step(patients)


def attack_called(part: str) -> Attack:
    (found,) = [attack for attack in engine_attacks() if part in attack.title]
    return found


WAYS = {
    "loop": patient_gradients.LoopGradients,
    "mapped": patient_gradients.MappedGradients,
    "own": patient_gradients.OwnCopyGradients,
}


def spied_ways(monkeypatch: pytest.MonkeyPatch) -> set[type]:
    """Fills with the engines that rounds compute gradients with."""
    taken: set[type] = set()
    choose = patient_gradients.patient_gradients

    def spied(*args: Any, **options: Any) -> Any:
        way = choose(*args, **options)
        taken.add(type(way))
        return way

    monkeypatch.setattr(rounds, "patient_gradients", spied)
    return taken


def test_the_gate_attacks_the_way_in_which_smrnet_is_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site_model = small_model(small_plan())
    names = site_model.groups["shared"]
    flat = FlatParameters(site_model.parameters(names))
    default = type(patient_gradients.patient_gradients(site_model, names, flat))
    flat.close()
    taken = spied_ways(monkeypatch)
    for attack in engine_attacks()[:2]:
        attack.play(0, lambda _share: None)
    assert taken == {default, patient_gradients.LoopGradients}


def test_the_engine_passes_its_gate() -> None:
    verdicts = audit_engine(seed=1)
    assert not any(verdict.refuted for verdict in verdicts)
    for verdict in verdicts:
        assert verdict.epsilon_at_least < verdict.claimed_epsilon
    # The attacks do see something: an audit that can see nothing would pass as well.
    assert sum(verdict.profile_epsilon_at_least > 0 for verdict in verdicts) >= 2


def slow(*values: Any) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.slow  # quieter mistakes than these are seen below in the default suite
@pytest.mark.parametrize(
    ("where", "name", "mutant"),
    [(rounds, "SecureRandom", NoiseOff), (patient_sgd, "PatientOptimizer", ClipOff)],
    ids=["noise off", "clip off"],
)
def test_the_gate_stops_an_engine_without_noise_or_clip(
    where: Any, name: str, mutant: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(where, name, mutant)
    with pytest.raises(SmrfedError, match="SMR-E650") as caught:
        gate(seed=2, attacks=engine_attacks()[:3])
    # Not by a hair: each of these three sees it.
    assert str(caught.value.expected).count("epsilon") == 3


@pytest.mark.parametrize(
    ("where", "name", "mutant", "part"),
    [
        slow(rounds, "SecureRandom", ThirdOfTheNoise, "four scans"),
        slow(rounds, "SecureRandom", NoiseOncePerRound, "four scans"),
        slow(rounds, "SecureRandom", FiveTimesTheRate, "rate 0.1"),
        (rounds, "SecureRandom", CountWithoutNoise, "adaptive"),
        slow(rounds, "PatientSGD", ClipPerScan, "four scans"),
        (rounds, "PatientSGD", DivideByWhoCame, "crowd"),
        slow(rounds, "PatientSGD", SkipEmptyDraws, "four scans"),
        (rounds, "PatientSGD", SkipWhatIsNotANumber, "not a number"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_quieter_mistakes_are_seen_by_the_attack_made_for_them(
    where: Any, name: str, mutant: type, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(where, name, mutant)
    verdict = judge(attack_called(part), len(engine_attacks()), seed=3)
    assert verdict.refuted
    assert verdict.runs == 2
    assert verdict.profile_epsilon_at_least > verdict.claimed_epsilon
    with pytest.raises(SmrfedError, match="SMR-E650"):
        stop_if_refuted([verdict])


def test_two_independent_refutations_keep_the_false_alarms_below_the_limit() -> None:
    attacks = len(engine_attacks())
    error = math.sqrt(FALSE_ALARM / attacks)
    assert attacks * error**2 == pytest.approx(FALSE_ALARM)


@pytest.mark.parametrize("way", ["loop", "mapped", "own"])
def test_a_canary_moves_the_update_by_its_direction_and_the_clipping_norm(
    way: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attacker's model is what it says: clipped by the engine, equal in all ways."""
    taken = spied_ways(monkeypatch)
    monkeypatch.setattr(rounds, "SecureRandom", NoiseOff)
    plan = canary_plan(0.01, rounds=3, local_steps=2, clipping_norm=0.5)
    played = play(plan, GradientGame(canaries=12, scans=3, way=way, seed=5))
    # Without noise the cosine of a member is one over the square root of their number.
    members = played.included.sum()
    assert played.cosines[played.included] == pytest.approx(members**-0.5, abs=1e-3)
    assert played.cosines[~played.included] == pytest.approx(0, abs=1e-3)
    drawn = draw(canary_plan(0.01, rounds=1), RepeatedGame(draws=2, crowd=3, way=way))
    assert drawn.outside["direction"] == pytest.approx(-3, abs=0.01)
    assert drawn.inside["direction"] == pytest.approx(-2, abs=0.01)
    assert taken == {WAYS[way]}


def test_directions_are_orthonormal_and_canaries_keep_their_scans() -> None:
    directions = orthonormal_directions(7, 20, 1)
    assert torch.allclose(directions @ directions.T, torch.eye(7, dtype=torch.float64))
    with pytest.raises(ValueError, match="dimensions"):
        orthonormal_directions(21, 20, 1)
    (patient,) = canary_patients([4], 3, tokens=False)
    assert len(patient.labels) == 3
