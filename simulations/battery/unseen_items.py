"""Items 3 and 4 of the battery: what layer C gains at an unseen hospital, and whom it harms.

``python -m simulations.battery.unseen_items RUNS OUT.json`` makes the figures of
docs/unseen_hospital.md: cohorts and scans are kept in RUNS.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shared_model.adaptation.source import SourceMoments
from shared_model.atlas.cache import write_atomically
from shared_model.metrics.bootstrap import Interval
from shared_model.plan import FederationPlan, PrivacyMode
from shared_model.privacy.plan_cost import calibrate_plan_noise
from simulations.arms.train_rounds import train_rounds
from simulations.battery.result import BatteryResult
from simulations.battery.unseen_hospitals import (
    DESIGNED,
    MILD,
    ZERO,
    scan_unseen,
    unseen_cohort,
    unseen_scanners,
)
from simulations.battery.unseen_study import (
    CORRECTIONS,
    RARE,
    Correction,
    Outcome,
    Seen,
    balanced,
    gain,
    outcome,
    source_moments,
)
from simulations.demo.settings import SPARE_ROUNDS, DemoSettings, demo_plan
from simulations.experiments.recorded_run import PATIENTS, SEEDS, UNSEEN
from simulations.experiments.seed_cohort import SeedCohort, load_seed_cohort

SCANS = (8, 16, 32, 64)
UNSEEN_PATIENTS = 120
HARM = 0.01
_AD = 2
_FRESH = 3
_RADIUS, _PRIVATE_RADIUS, _PRIVATE_NOISE = 8.0, 4.0, 2.0


@dataclass(frozen=True)
class SeedViews:
    """What the model of one seed says at every unseen hospital, and what its sources released."""

    seed: int
    radius: float
    source: SourceMoments
    views: Mapping[str, Seen]


def with_moments(plan: FederationPlan) -> FederationPlan:
    """The plan, with the release that layer C needs; in a private one, within the same epsilon.

    Models trained under noise are less sure of themselves: their scores need less room.
    """
    data = plan.model_dump(mode="json")
    private = plan.privacy.mode != "none"
    data["calibration"] |= {
        "unseen_sites": True,
        "scores_radius": _PRIVATE_RADIUS if private else _RADIUS,
        "noise_multiplier": _PRIVATE_NOISE if private else 0.0,
    }
    asked = FederationPlan.parse(data)
    if private:
        noise = calibrate_plan_noise(asked, spare_rounds=SPARE_ROUNDS)
        data["privacy"] |= {"noise_multiplier": noise}
    return FederationPlan.parse(data)


def views_of_seed(
    cohort: SeedCohort,
    folder: Path,
    mode: PrivacyMode = "none",
    patients: int = UNSEEN_PATIENTS,
) -> SeedViews:
    """Train on the cohort's hospitals, and look at the unseen ones; rare: AD share 0.1."""
    plan = with_moments(demo_plan(cohort.settings, cohort.members, mode))
    model = cohort.model
    members = {h.name: h.train for h in cohort.hospitals if not h.held_out}
    shared = train_rounds(model, dict(cohort.initial), members, plan)
    source = source_moments(model, shared, members, plan)
    seed = cohort.settings.seed
    # Layer C was developed on the people of seeds 0 to 3: others are reported.
    people = seed + _FRESH
    examples = scan_unseen(
        unseen_cohort(patients, people), unseen_scanners(), model, folder / f"unseen-{people}"
    )
    views = {name: Seen.of(model, own) for name, own in examples.items()}
    rare = {f"{name}, rare": seen.with_rare(_AD, RARE) for name, seen in views.items()}
    return SeedViews(seed, plan.calibration.scores_radius, source, views | rare)


def outcomes(
    seeds: Sequence[SeedViews], hospital: str, correction: Correction, scans: int
) -> list[Outcome]:
    """Of every seed."""
    return [
        outcome(s.views[hospital], s.source, s.radius, correction, scans, s.seed) for s in seeds
    ]


def table(seeds: Sequence[SeedViews], scans: Sequence[int] = SCANS) -> list[dict[str, Any]]:
    """Every hospital, correction and number of scans: figures, and the paired gain over none."""
    rows = []
    for hospital in seeds[0].views:
        base = outcomes(seeds, hospital, "none", 0)
        rows.append(_row(hospital, "none", 0, base, None))
        for count in scans:
            for correction in CORRECTIONS[1:]:
                ours = outcomes(seeds, hospital, correction, count)
                rows.append(_row(hospital, correction, count, ours, gain(ours, base)))
    return rows


def loso_gain(seeds: Sequence[SeedViews], scans: int = SCANS[-1]) -> BatteryResult:
    """Item 3: a gain at the designed shift, no harm without one."""
    there, none = _em(seeds, DESIGNED, scans), _em(seeds, ZERO, scans)
    return BatteryResult(
        name="3. unseen site with layer C",
        bar=f"designed shift: paired interval of the gain above 0; zero shift: harm at most {HARM}",
        figures=_figures(designed=there, zero=none, mild=_em(seeds, MILD, scans)),
        passed=there.low > 0 and none.estimate >= -HARM,
        note=f"EM with {scans} unlabelled scans, balanced accuracy at the frozen threshold, "
        f"{len(seeds)} seeds; mild: the default cohort's unseen scanner, where the frozen encoder "
        "leaves little to correct",
    )


def rare_disease(seeds: Sequence[SeedViews], scans: int = SCANS[-1]) -> BatteryResult:
    """Item 4: a site where AD is rare is not mistaken for one with another scanner."""
    found = {name: _em(seeds, f"{name}, rare", scans) for name in (ZERO, MILD, DESIGNED)}
    full = gain(
        outcomes(seeds, f"{ZERO}, rare", "full", scans),
        outcomes(seeds, f"{ZERO}, rare", "none", 0),
    )
    return BatteryResult(
        name="4. prevalence 0.1 at the unseen site",
        bar=f"layer C not worse than none by more than {HARM}, whatever the scanner",
        figures=_figures(**found, recentring_at_zero=full),
        passed=all(interval.estimate >= -HARM for interval in found.values()),
        note=f"AD share {RARE}, {scans} unlabelled scans; recentring shows what the bar is against",
    )


def _em(seeds: Sequence[SeedViews], hospital: str, scans: int) -> Interval:
    return gain(outcomes(seeds, hospital, "em", scans), outcomes(seeds, hospital, "none", 0))


def _figures(**found: Interval) -> dict[str, float]:
    return {
        f"{name}_{part}": round(value, 4)
        for name, interval in found.items()
        for part, value in (
            ("gain", interval.estimate),
            ("low", interval.low),
            ("high", interval.high),
        )
    }


def _row(
    hospital: str, correction: str, scans: int, found: Sequence[Outcome], gained: Interval | None
) -> dict[str, Any]:
    out: dict[str, Any] = {
        "hospital": hospital,
        "correction": correction,
        "scans": scans,
        "patients": sum(len(o.label) for o in found),
        "balanced_accuracy": round(balanced(found), 4),
        "nll": round(float(np.concatenate([o.nll for o in found]).mean()), 4),
        "ece": round(float(np.mean([o.ece for o in found])), 4),
        "refused": sum(o.refused for o in found),
    }
    return out if gained is None else out | {k: round(v, 4) for k, v in asdict(gained).items()}


def seeds_of(
    folder: Path,
    progress: Callable[[str], None],
    modes: Sequence[PrivacyMode] = ("none", "local"),
    workers: int = 1,
    seeds: Sequence[int] = SEEDS,
) -> dict[PrivacyMode, list[SeedViews]]:
    """The cohorts of the recorded run with their unseen hospitals, by privacy mode."""
    out: dict[PrivacyMode, list[SeedViews]] = {mode: [] for mode in modes}
    for seed in seeds:
        settings = DemoSettings(
            patients_per_site=PATIENTS, unseen_patients=UNSEEN, seed=seed, workers=workers
        )
        cohort = load_seed_cohort(settings, folder, progress)
        progress(f"seed {seed}: unseen hospitals")
        for mode in modes:
            out[mode].append(views_of_seed(cohort, folder, mode))
    return out


def main(folder: Path, out: Path) -> None:
    """Measure everything and write it down."""
    seeds = seeds_of(folder, lambda text: print(text, file=sys.stderr, flush=True))
    content: dict[str, Any] = {}
    for mode, of_mode in seeds.items():
        items = [loso_gain(of_mode), rare_disease(of_mode)]
        rows = table(of_mode)
        content[mode] = {"items": [item.model_dump() for item in items], "rows": rows}
        for item in items:
            print("passed" if item.passed else "FAILED", mode, item.name, item.figures)
    write_atomically(out, (json.dumps(content, indent=1) + "\n").encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
