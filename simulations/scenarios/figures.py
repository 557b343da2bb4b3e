"""From the records of all jobs to the figures of a scenario."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np

from shared_model.evaluation.results import Estimate
from shared_model.evaluation.table import PredictionTable
from shared_model.metrics.arrays import Floats
from shared_model.metrics.bootstrap import percentile_interval
from shared_model.metrics.tests import holm, paired_bootstrap_p
from simulations.cohort.spec import CohortSpec
from simulations.demo.assemble import commit_of_checkout, scanner_words
from simulations.scenarios.hospitals import folds
from simulations.scenarios.jobs import Job
from simulations.scenarios.load import NamedScenario
from simulations.scenarios.readings import readings
from simulations.scenarios.records import Record, Records
from simulations.scenarios.resampling import ArmDraws, SharedDraws
from simulations.scenarios.results import (
    ArmFigures,
    Difference,
    GroupFigure,
    HospitalRow,
    ScenarioResults,
    Verdict,
)

_SEEN = {"seen": True, "unseen": False}
# A difference is shown where its corrected p value is below this.
_LEVEL = 0.05


def scenario_results(
    named: NamedScenario, jobs: Sequence[Job], records: Records, command: str
) -> ScenarioResults:
    """All figures and comparisons; every job must have its record.

    The estimate is the mean over cohorts; its 95 % interval resamples the test patients of each
    cohort within hospital and class, and the noise repeats. The cohorts are fixed: how far others
    differ is what ``by_seed`` shows.
    """
    scenario = named.scenario
    shared = SharedDraws(scenario.draws)
    found = {job: _record(records, job) for job in jobs}
    draws = {name: _arm_draws(name, named, found, shared) for name in scenario.arms}
    differences = _differences(named, draws)
    first = jobs[0]
    return ScenarioResults(
        scenario=named.name,
        title=scenario.title,
        about=" ".join(scenario.about.split()),
        command=command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=commit_of_checkout(),
        smrfed=version("smrfed"),
        seeds=scenario.seeds,
        folds=folds(scenario),
        draws=scenario.draws,
        labels=first.plan.task.labels,
        hospitals=_hospital_rows(first),
        arms=tuple(_figures(name, named, found, draws[name]) for name in scenario.arms),
        differences=differences,
        readings=readings(
            differences, {name: arm.title or name for name, arm in scenario.arms.items()}
        ),
    )


def arm_tables(
    name: str, named: NamedScenario, found: dict[Job, Record]
) -> dict[int, list[list[list[PredictionTable]]]]:
    """Per seed, noise repeat and federation: the tables of an arm's models."""
    arm = named.scenario.arms[name]
    out: dict[int, list[list[list[PredictionTable]]]] = {}
    for job, record in found.items():
        if name in job.arms:
            repeats = out.setdefault(job.seed, [])
            while len(repeats) <= job.repeat:
                repeats.append([])
            repeats[job.repeat].append(list(record.tables(arm.view)))
    return out


def _record(records: Records, job: Job) -> Record:
    record = records.find(job)
    if record is None:
        raise ValueError(f"job {job.file_name} is not done")
    return record


def _arm_draws(
    name: str, named: NamedScenario, found: dict[Job, Record], shared: SharedDraws
) -> ArmDraws:
    keys = sorted(job.key for job in found if name in job.arms)
    return ArmDraws(arm_tables(name, named, found), shared, zlib.crc32("".join(keys).encode()))


def _figures(
    name: str, named: NamedScenario, found: dict[Job, Record], draws: ArmDraws
) -> ArmFigures:
    arm = named.scenario.arms[name]
    own = [(job, record) for job, record in found.items() if name in job.arms]
    groups: dict[str, GroupFigure] = {}
    for where, seen in _SEEN.items():
        pooled, auc = draws.pooled(seen), draws.auc(seen)
        if pooled is None or auc is None:
            continue
        groups[where] = GroupFigure(
            balanced_accuracy=_estimate(pooled),
            macro_auc=_estimate(auc),
            by_seed=tuple(_number(draws.cohort(s, seen)[0]) for s in draws.seeds),
            patients=sum(n for place, n in draws.patients.items() if place[0] == seen),
        )
        worst = draws.worst(seen)
        if worst is not None:
            values, site = worst
            groups[f"worst-{where}"] = _site_figure(draws, seen, site, values)
        for site in draws.sites(seen):
            groups[f"{where}:{site}"] = _site_figure(draws, seen, site, draws.site(seen, site))
    epsilons = [record.epsilon for _, record in own if record.epsilon is not None]
    return ArmFigures(
        name=name,
        title=arm.title or name,
        what=arm.what,
        kind=arm.kind,
        epsilon=max(epsilons, default=None),
        repeats=len({job.repeat for job, _ in own}),
        plan=own[0][0].plan.digest,
        groups=groups,
    )


def _site_figure(draws: ArmDraws, seen: bool, site: str, values: Floats) -> GroupFigure:
    return GroupFigure(
        balanced_accuracy=_estimate(values),
        macro_auc=None,
        by_seed=tuple(_number(draws.cohort(s, seen, site)[0]) for s in draws.seeds),
        patients=draws.patients[seen, site],
        site=site,
    )


def _differences(named: NamedScenario, draws: dict[str, ArmDraws]) -> tuple[Difference, ...]:
    rows: list[tuple[str, str, str, Floats, tuple[float | None, ...]]] = []
    for entry in named.scenario.compare:
        for other in entry.minus:
            ours, theirs = draws[entry.arm], draws[other]
            for where in _expanded(entry.where, ours, theirs):
                pair = [_values(where, d) for d in (ours, theirs)]
                if pair[0] is not None and pair[1] is not None:
                    single = _by_seed(where, ours, theirs)
                    rows.append((entry.arm, other, where, pair[0] - pair[1], single))
    p_values = [paired_bootstrap_p(values[1:]) for *_, values, _ in rows]
    out = []
    for (arm, other, where, values, single), p, adjusted in zip(
        rows, p_values, holm(p_values), strict=True
    ):
        estimate = _estimate(values)
        out.append(
            Difference(
                arm=arm,
                minus=other,
                where=where,
                difference=estimate,
                by_seed=single,
                p_value=_number(p),
                p_holm=_number(adjusted),
                verdict=_verdict(estimate, adjusted),
            )
        )
    return tuple(out)


def _expanded(where: Sequence[str], ours: ArmDraws, theirs: ArmDraws) -> list[str]:
    out: list[str] = []
    for group in where:
        if group.startswith("each-"):
            seen = group == "each-seen"
            both = [s for s in ours.sites(seen) if s in theirs.sites(seen)]
            out += [f"{group.removeprefix('each-')}:{site}" for site in both]
        else:
            out.append(group)
    return out


def _values(where: str, draws: ArmDraws) -> Floats | None:
    """``(1 + D,)`` of a group; None where the arm was not tested there."""
    group, _, site = where.partition(":")
    seen = group.removeprefix("worst-") == "seen"
    if site:
        return draws.site(seen, site)
    if group.startswith("worst-"):
        worst = draws.worst(seen)
        return None if worst is None else worst[0]
    return draws.pooled(seen)


def _by_seed(where: str, ours: ArmDraws, theirs: ArmDraws) -> tuple[float | None, ...]:
    group, _, site = where.partition(":")
    if group.startswith("worst-"):
        return ()
    seen = group == "seen"
    return tuple(
        _number(ours.cohort(s, seen, site or None)[0] - theirs.cohort(s, seen, site or None)[0])
        for s in ours.seeds
    )


def _verdict(estimate: Estimate, p_holm: float) -> Verdict:
    """What the difference bears after Holm's correction."""
    if estimate.value is None or not p_holm < _LEVEL:
        return "not shown"
    return "higher" if estimate.value > 0 else "lower"


def _estimate(values: Floats) -> Estimate:
    found = percentile_interval(float(values[0]), values[1:])
    return Estimate.of(found.estimate, found.low, found.high)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _hospital_rows(job: Job) -> tuple[HospitalRow, ...]:
    if isinstance(job.cohort, CohortSpec):
        return tuple(
            HospitalRow(
                name=site.name,
                patients=site.patients,
                prevalence=site.prevalence,
                age_shift=site.age_shift,
                scanner=scanner_words(site),
            )
            for site in job.cohort.sites
        )
    sizes = {entry.name: entry.declared_patients for entry in job.plan.federation.sites}
    return tuple(
        HospitalRow(
            name=name,
            patients=sizes.get(name, 0),
            prevalence=None,
            age_shift=None,
            scanner="archive",
        )
        for name in job.sites
    )
