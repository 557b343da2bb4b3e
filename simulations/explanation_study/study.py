"""The whole study: every method on every seed, joined into one document of figures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np

from shared_model.explanation.faithfulness import Faithfulness, faithfulness
from shared_model.explanation.figures import (
    Control,
    Failure,
    MethodFigures,
    Sameness,
    StudyFigures,
)
from shared_model.explanation.measures import Localisation, localise
from shared_model.explanation.methods import METHODS, SHIPPED
from shared_model.explanation.region_table import region_table
from shared_model.explanation.relevance import Case, Map
from shared_model.explanation.shortcuts import EdgeShares, edge_shares
from shared_model.smrnet.model import SMRNet
from simulations.benchmarks.machine import Machine
from simulations.explanation_study.controls import INPUTS, brain_of, control
from simulations.explanation_study.localising import (
    FROM_TOKENS,
    baseline_maps,
    figures_of,
    interval,
    localisations,
)
from simulations.explanation_study.sanity import Pairs, shuffle_weights
from simulations.explanation_study.subjects import (
    StudyCohort,
    Subject,
    load_study_cohort,
    spread_out,
)
from simulations.explanation_study.trained import TrainedModels, train_models

Progress = Callable[[str], None]
RANDOM_ORDER = "random_order"
_FAILURES = 2
_CONTROL_TRAIN, _CONTROL_TEST = 150, 90
_TOP = 5


@dataclass(frozen=True)
class StudySettings:
    """How much is measured; the methods that pass scans through the network take most of it."""

    seeds: tuple[int, ...] = (1, 2)
    epsilon: float = 8.0
    volume_patients: int = 3
    shuffled_patients: int = 1
    controls: bool = True
    workers: int = 2


@dataclass
class _Gathered:
    """Everything measured so far, by what it is of."""

    local: dict[tuple[str, str], list[Localisation]] = field(
        default_factory=lambda: defaultdict(list)
    )
    pairs: dict[tuple[str, str, str], Pairs] = field(default_factory=lambda: defaultdict(Pairs))
    edge: dict[str, list[EdgeShares]] = field(default_factory=lambda: defaultdict(list))
    faithful: dict[str, list[Faithfulness]] = field(default_factory=lambda: defaultdict(list))
    failures: list[Failure] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    private: list[float] = field(default_factory=list)
    controls: list[Control] = field(default_factory=list)


def run_study(
    settings: StudySettings, folder: Path, command: str, progress: Progress
) -> StudyFigures:
    """Measure all methods on all seeds. Cohorts and tokens stay in ``folder`` for a second call."""
    gathered = _Gathered()
    study = None
    for seed in settings.seeds:
        study = load_study_cohort(seed, folder, settings.workers, progress)
        models = train_models(study, settings.epsilon, progress)
        gathered.accuracy.append(models.accuracy)
        gathered.private.append(models.accuracy_private)
        for method in METHODS:
            progress(f"seed {seed}: {method}")
            _measure(study, models, method, settings, gathered)
        _baselines(study, gathered)
        if settings.controls and seed == settings.seeds[0]:
            gathered.controls += _controls(study, progress)
    assert study is not None
    return _figures(settings, study, gathered, command)


def _measure(
    study: StudyCohort,
    models: TrainedModels,
    method: str,
    settings: StudySettings,
    gathered: _Gathered,
) -> None:
    cheap = method in FROM_TOKENS
    chosen = spread_out(study.patients_with_ad, settings.volume_patients)
    subjects = study.patients_with_ad if cheap else chosen
    make = METHODS[method].make
    network = study.network(models.trained)
    cases = [study.case(network, s, volume=not cheap) for s in subjects]
    targets = [case.target for case in cases]
    maps = [make(case).voxels for case in cases]
    gathered.local[method, "ad"] += [localise(m, study.truth, study.brain) for m in maps]
    for case, made in zip(cases, maps, strict=True):
        if not cheap:
            gathered.edge[method].append(edge_shares(made, brain_of(case.volume[0, 0].numpy())))
    if cheap:
        everybody = (study.case(network, s) for s in study.subjects)
        gathered.local[method, "everybody"] += localisations(study, method, everybody)
        for subject, made in zip(chosen, _maps(study, network, chosen, method), strict=True):
            gathered.edge[method].append(edge_shares(made, brain_of(subject.volume)))
    if method == SHIPPED:
        gathered.failures += _failures(study, subjects, cases, gathered.local[method, "ad"])
    for_chosen = _maps(study, network, chosen, method) if cheap else maps
    _faithful(study, network, chosen, for_chosen, method, gathered)
    few = chosen[: settings.shuffled_patients]
    shuffle_weights(
        [study.case(network, s, volume=True) for s in few],
        method,
        study.brain,
        study.cohort.plan.seed,
        stepwise=cheap,
        add=lambda kind, what, a, b, brain: gathered.pairs[method, kind, what].add(a, b, brain),
    )
    if not cheap:
        return
    networks: dict[str, Callable[[], SMRNet]] = {
        "random_labels": partial(study.network, models.random_labels),
        "private": partial(study.network, models.private),
        "repeated": partial(study.network, models.other_start),
        "reproduced": partial(_the, models.other_network),
    }
    for what, network_of in networks.items():
        _against(study, network_of(), subjects, targets, maps, method, what, gathered)


def _the(network: SMRNet) -> SMRNet:
    return network


def _maps(
    study: StudyCohort, network: SMRNet, subjects: Iterable[Subject], method: str
) -> list[Map]:
    return [METHODS[method].make(study.case(network, s)).voxels for s in subjects]


def _against(
    study: StudyCohort,
    network: SMRNet,
    subjects: Iterable[Subject],
    targets: Iterable[int],
    maps: Iterable[Map],
    method: str,
    what: str,
    gathered: _Gathered,
) -> None:
    """The same scans and classes with another model: where it points, and how alike."""
    for subject, target, original in zip(subjects, targets, maps, strict=True):
        case = study.case(network, subject, target)
        made = METHODS[method].make(case).voxels
        gathered.local[method, what].append(localise(made, study.truth, study.brain))
        gathered.pairs[method, what, what].add(original, made, study.brain)


def _faithful(
    study: StudyCohort,
    network: SMRNet,
    subjects: Iterable[Subject],
    maps: Iterable[Map],
    method: str,
    gathered: _Gathered,
) -> None:
    for number, (subject, made) in enumerate(zip(subjects, maps, strict=True)):
        case = study.case(network, subject, volume=True)
        gathered.faithful[method].append(faithfulness(case, made, number))
        if method == SHIPPED:
            nothing = np.ones_like(study.baseline)
            gathered.faithful[RANDOM_ORDER].append(faithfulness(case, nothing, number))


def _baselines(study: StudyCohort, gathered: _Gathered) -> None:
    for name, maps in baseline_maps(study, study.patients_with_ad).items():
        gathered.local[name, "ad"] += [localise(m, study.truth, study.brain) for m in maps]


def _controls(study: StudyCohort, progress: Progress) -> list[Control]:
    network = study.network(study.cohort.initial)
    out = []
    for what in INPUTS:
        progress(f"control: {what}")
        seen = [s for s in study.subjects if not s.held_out]
        out.append(
            control(
                what,
                network,
                spread_out(study.train, _CONTROL_TRAIN),
                spread_out(seen, _CONTROL_TEST),
                study.cohort.plan.seed,
            )
        )
    return out


def _failures(
    study: StudyCohort,
    subjects: Iterable[Subject],
    cases: Iterable[Case],
    found: list[Localisation],
) -> list[Failure]:
    rows = list(zip(subjects, cases, found[-len(list(study.patients_with_ad)) :], strict=True))
    rows.sort(key=lambda row: row[2].mass_over_chance)
    return [
        Failure(
            patient=f"seed {study.cohort.plan.seed}: {subject.name}",
            mass_over_chance=one.mass_over_chance,
            predicted=study.cohort.plan.task.labels[case.target],
            top_regions=tuple(
                row.name
                for row in region_table(METHODS[SHIPPED].make(case), study.cohort.atlas)[:_TOP]
            ),
        )
        for subject, case, one in rows[:_FAILURES]
    ]


def _figures(
    settings: StudySettings, study: StudyCohort, gathered: _Gathered, command: str
) -> StudyFigures:
    return StudyFigures(
        command=command,
        made=datetime.now(UTC).date().isoformat(),
        machine=str(Machine.now()),
        seeds=settings.seeds,
        truth=study.affected,
        chance=float(study.truth.sum() / study.brain.sum()),
        epsilon=settings.epsilon,
        shipped=SHIPPED,
        methods=tuple(_method(name, gathered) for name in METHODS),
        baselines=tuple(
            MethodFigures(method=name, localisation=figures_of(found))
            for (name, what), found in gathered.local.items()
            if what == "ad" and name not in METHODS
        ),
        random_deletion=interval([f.deletion for f in gathered.faithful[RANDOM_ORDER]]),
        random_insertion=interval([f.insertion for f in gathered.faithful[RANDOM_ORDER]]),
        controls=tuple(gathered.controls),
        failures=tuple(gathered.failures),
        balanced_accuracy=float(np.mean(gathered.accuracy)),
        balanced_accuracy_private=float(np.mean(gathered.private)),
    )


def _method(name: str, gathered: _Gathered) -> MethodFigures:
    def local(what: str) -> list[Localisation]:
        return gathered.local.get((name, what), [])

    def same(kind: str) -> tuple[Sameness, ...]:
        return tuple(
            pairs.sameness(what)
            for (method, found, what), pairs in gathered.pairs.items()
            if (method, found) == (name, kind)
        )

    def one(kind: str) -> Sameness | None:
        return next(iter(same(kind)), None)

    edges, faithful = gathered.edge[name], gathered.faithful[name]
    return MethodFigures(
        method=name,
        localisation=figures_of(local("ad")),
        everybody=figures_of(local("everybody")) if local("everybody") else None,
        random_labels=figures_of(local("random_labels")) if local("random_labels") else None,
        private=figures_of(local("private")) if local("private") else None,
        cascade=same("cascade"),
        independent=same("independent"),
        repeated=one("repeated"),
        reproduced=one("reproduced"),
        against_random_labels=one("random_labels"),
        against_private=one("private"),
        outside=float(np.mean([e.outside for e in edges])),
        edge=float(np.mean([e.edge for e in edges])),
        edge_chance=float(np.mean([e.edge_chance for e in edges])),
        deletion=interval([f.deletion for f in faithful]),
        insertion=interval([f.insertion for f in faithful]),
    )
