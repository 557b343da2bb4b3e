"""All items of the battery on all seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from simulations.battery.measures import Measured
from simulations.battery.private_alignment import (
    PRIVATE_ARMS,
    measure_private,
    private_results,
)
from simulations.battery.result import BatteryResult
from simulations.battery.seed import BatterySeed, load_seed
from simulations.battery.sensitivity import sensitivity_result
from simulations.battery.shuffled_sites import measure_shuffled, shuffled_result
from simulations.battery.site_alignment import CHOICES, alignment_results, measure_arms
from simulations.battery.site_secrets import wire_result
from simulations.battery.unseen_items import loso_gain, rare_disease, seeds_of
from simulations.battery.zero_shift import measure_zero, zero_result

ITEMS = ("alignment", "private", "zero", "wire", "sensitivity", "shuffled", "unseen")


def run_battery(
    out: Path,
    seeds: Sequence[int],
    scenarios: Sequence[str],
    patients: int,
    people: int,
    workers: int,
    progress: Callable[[str], None] = lambda _: None,
    items: Sequence[str] = ITEMS,
    arms_of_layer_b: Sequence[str] = CHOICES,
    folds: int = 4,
) -> list[BatteryResult]:
    """Items 1 and 2 for every arm of layer B.

    On the first scenario also the same with privacy, no harm at zero shift, and 7; on the first
    seed of it 5 and 6; items 3 and 4 on cohorts of their own.
    """
    results: list[BatteryResult] = []
    for scenario in scenarios if set(items) - {"unseen"} else ():
        arms: dict[int, dict[str, Measured]] = {}
        cohorts: list[BatterySeed] = []
        private: dict[int, dict[str, Measured]] = {}
        shuffled: dict[int, dict[str, Measured]] = {}
        for seed in seeds:
            progress(f"{scenario}, seed {seed}: patients and tokens")
            data = load_seed(scenario, seed, out, patients=patients, people=people, workers=workers)
            progress(f"{scenario}, seed {seed}: arms")
            first = scenario == scenarios[0]
            cohorts.append(data)
            if "alignment" in items:
                arms[seed] = measure_arms(data, ("off", *arms_of_layer_b), folds)
            if "private" in items and first:
                private[seed] = measure_private(data, arms_of_layer_b, folds)
            if "shuffled" in items and first:
                shuffled[seed] = measure_shuffled(data)
            if "wire" in items and first and seed == seeds[0]:
                results.append(wire_result(data, out / f"{scenario}-{seed}", out / "runs"))
            if "sensitivity" in items and first and seed == seeds[0]:
                results.append(sensitivity_result(data))
        if arms:
            for arm in arms_of_layer_b:
                results += alignment_results(scenario, arms, arm)
        if private:
            for arm in [name for name in PRIVATE_ARMS if name in arms_of_layer_b]:
                results += private_results(cohorts[0], private, arm)
        if "zero" in items and len(seeds) > 1 and scenario == scenarios[0]:
            scanners = measure_zero(cohorts, arms_of_layer_b, folds)
            results += [zero_result(seeds, scanners, arm) for arm in arms_of_layer_b]
        if shuffled:
            results.append(shuffled_result(scenario, shuffled))
    if "unseen" in items:
        views = seeds_of(out / "unseen", progress, ("none",), workers)["none"]
        results += [loso_gain(views), rare_disease(views)]
    return results
