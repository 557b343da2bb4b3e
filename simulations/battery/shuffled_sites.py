"""Item 7, negative control: with patients dealt to sites at random, layer B has nothing to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from client.training.examples import PatientExamples
from simulations.battery.aligned_rounds import aligned_rounds
from simulations.battery.measures import Measured, measure
from simulations.battery.result import BatteryResult
from simulations.battery.seed import BatterySeed, with_adaptation
from simulations.battery.site_alignment import ARMS, paired_loss
from simulations.cohort.subject import named_rng

Sides = tuple[Sequence[PatientExamples], Sequence[PatientExamples]]
_MOST_GAINED = 0.01


def dealt(data: BatterySeed) -> dict[str, Sides]:
    """Training and test patients of all hospitals, dealt to sites of the same sizes at random."""
    rng = named_rng(data.seed, "battery", "shuffled-sites")
    out: dict[str, list[Sequence[PatientExamples]]] = {name: [] for name in data.hospitals}
    for side in ("train", "test"):
        everybody = [
            replace(patient, id=f"{name}/{patient.id}")
            for name, hospital in data.hospitals.items()
            for patient in getattr(hospital, side)
        ]
        order, start = rng.permutation(len(everybody)), 0
        for name, hospital in data.hospitals.items():
            size = len(getattr(hospital, side))
            out[name].append([everybody[i] for i in order[start : start + size]])
            start += size
    return {name: (train, test) for name, (train, test) in out.items()}


def measure_shuffled(data: BatterySeed, arm: str = "shift") -> dict[str, Measured]:
    """Without layer B and with it, on the sites that chance made."""
    sites = dealt(data)
    train = {name: sides[0] for name, sides in sites.items()}
    return {
        name: measure(
            data,
            aligned_rounds(
                data.model, dict(data.initial), train, with_adaptation(data.plan, **ARMS[name])
            ),
            sites,
            travel=False,
        )
        for name in ("off", arm)
    }


def shuffled_result(
    scenario: str, seeds: Mapping[int, Mapping[str, Measured]], arm: str = "shift"
) -> BatteryResult:
    """The gain over no layer B, with an interval over patients."""
    before, after = ([seed[name] for seed in seeds.values()] for name in ("off", arm))
    lost, low, high = paired_loss(before, after)
    return BatteryResult(
        name=f"shuffled sites, {scenario} scanners, {arm}",
        bar=f"balanced accuracy gained: at most {_MOST_GAINED}, or an interval around zero",
        figures={
            "gained": -lost,
            "gained, low": -high,
            "gained, high": -low,
            "probe before": sum(m.probe for m in before) / len(before),
            "probe after": sum(m.probe for m in after) / len(after),
        },
        passed=-lost <= _MOST_GAINED or -high <= 0,
        note=f"seeds {', '.join(map(str, seeds))}; patients dealt to sites at random",
    )
