"""No harm where hospitals do not differ: one scanner's patients of several cohorts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from simulations.battery.measures import Measured
from simulations.battery.result import BatteryResult
from simulations.battery.seed import BatterySeed, with_adaptation
from simulations.battery.site_alignment import ZERO, alignment_results, measure_arms
from simulations.demo.settings import DemoSettings, demo_plan


def one_scanner(cohorts: Sequence[BatterySeed], site: str) -> BatterySeed:
    """Hospitals that differ in nothing: the patients of one site in each of K cohorts.

    The people differ and the scanner does not, so layer B has nothing to align. There are no
    travellers. Raises ValueError for fewer than two cohorts.
    """
    if len(cohorts) < 2:
        raise ValueError("one cohort gives one hospital with this scanner; name two seeds or more")
    hospitals = {
        f"site-{number}": replace(cohort.hospitals[site], name=f"site-{number}")
        for number, cohort in enumerate(cohorts, start=1)
    }
    sizes = {name: len(h.train) + len(h.test) for name, h in hospitals.items()}
    first = cohorts[0]
    plan = with_adaptation(demo_plan(DemoSettings(seed=first.seed), sizes, "none"))
    return replace(first, plan=plan, hospitals=hospitals, travellers={}, again={})


def measure_zero(
    cohorts: Sequence[BatterySeed], arms: Sequence[str], folds: int
) -> dict[str, dict[str, Measured]]:
    """Every arm among the hospitals of each scanner, by the site whose scanner it is."""
    return {
        site: measure_arms(one_scanner(cohorts, site), ("off", *arms), folds)
        for site in cohorts[0].hospitals
    }


def zero_result(
    seeds: Sequence[int], scanners: Mapping[str, Mapping[str, Measured]], arm: str
) -> BatteryResult:
    """Balanced accuracy lost where there was nothing to gain; means over the scanners."""
    found = alignment_results(ZERO, dict(enumerate(scanners.values())), arm)[0]
    tested = sum(len(measured["off"].label) for measured in scanners.values())
    return found.model_copy(
        update={
            "name": f"no harm at zero shift, {arm}",
            "note": f"for each of {len(scanners)} scanners, its patients of seeds "
            f"{', '.join(map(str, seeds))} as one hospital each; {tested} patients, tested once "
            f"each; chance of the probe is {1 / len(seeds):.2f}",
        }
    )
