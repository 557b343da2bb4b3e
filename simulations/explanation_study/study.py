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
    LocalisationFigures,
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
    mean_mass,
    mean_over_models,
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

    seeds: tuple[int, ...] = (1, 2, 4)
    epsilon: float = 8.0
    volume_patients: int = 6
    shuffled_patients: int = 24
    private_models: int = 4
    controls: bool = True
    workers: int = 2


@dataclass
class _Gathered:
    """Everything measured so far, by what it is of."""

    local: dict[tuple[str, str], list[Localisation]] = field(
        default_factory=lambda: defaultdict(list)
    )
    by_model: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    pairs: dict[tuple[str, str, str], Pairs] = field(default_factory=lambda: defaultdict(Pairs))
    edge: dict[str, list[EdgeShares]] = field(default_factory=lambda: defaultdict(list))
    faithful: dict[str, list[Faithfulness]] = field(default_factory=lambda: defaultdict(list))
    failures: list[Failure] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    private: list[float] = field(default_factory=list)
    controls: list[Control] = field(default_factory=list)

    def add(self, method: str, what: str, *models: list[Localisation]) -> None:
        """What the same patients' maps are worth, explained with one model or several."""
        self.local[method, what] += mean_over_models(models)
        self.by_model[method, what] += [mean_mass(found) for found in models]

    def localisation(self, method: str, what: str) -> LocalisationFigures | None:
        """Figures of one method and model, if they were measured."""
        found = self.local.get((method, what))
        return figures_of(found, self.by_model[method, what]) if found else None


def run_study(
    settings: StudySettings, folder: Path, command: str, progress: Progress
) -> StudyFigures:
    """Measure all methods on all seeds. Cohorts and tokens stay in ``folder`` for a second call."""
    gathered = _Gathered()
    study = None
    for seed in settings.seeds:
        study = load_study_cohort(seed, folder, settings.workers, progress)
        models = train_models(study, settings.epsilon, settings.private_models, progress)
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
    found = [localise(made, study.truth, study.brain) for made in maps]
    for case, made in zip(cases, maps, strict=True):
        if not cheap:
            gathered.edge[method].append(edge_shares(made, brain_of(case.volume[0, 0].numpy())))
    if cheap:
        everybody = (study.case(network, s) for s in study.subjects)
        gathered.add(method, "ad", found)
        gathered.add(method, "everybody", localisations(study, method, everybody))
        for subject, made in zip(chosen, _maps(study, network, chosen, method), strict=True):
            gathered.edge[method].append(edge_shares(made, brain_of(subject.volume)))
    else:
        # Too few scans for a mean per model.
        gathered.local[method, "ad"] += found
    if method == SHIPPED:
        gathered.failures += _failures(study, subjects, cases, found)
    for_chosen = _maps(study, network, chosen, method) if cheap else maps
    _faithful(study, network, chosen, for_chosen, method, gathered)
    most = settings.shuffled_patients if cheap else min(len(chosen), settings.shuffled_patients)
    shuffle_weights(
        [study.case(network, s, volume=True) for s in spread_out(study.patients_with_ad, most)],
        method,
        study.brain,
        study.cohort.plan.seed,
        stepwise=cheap,
        pairs=lambda kind, what: gathered.pairs[method, kind, what],
    )
    if not cheap:
        return
    networks: dict[str, list[Callable[[], SMRNet]]] = {
        "random_labels": [partial(study.network, models.random_labels)],
        "private": [partial(study.network, one) for one in models.private],
        "repeated": [partial(study.network, models.other_start)],
        "reproduced": [partial(_the, models.other_network)],
    }
    for what, of_models in networks.items():
        pairs = gathered.pairs[method, what, what]
        others = (
            _against(study, network_of(), subjects, targets, maps, method, pairs)
            for network_of in of_models
        )
        gathered.add(method, what, *others)


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
    pairs: Pairs,
) -> list[Localisation]:
    """The same scans and classes with another model: where it points, and how alike."""
    found = []
    for subject, target, original in zip(subjects, targets, maps, strict=True):
        case = study.case(network, subject, target)
        made = METHODS[method].make(case).voxels
        found.append(localise(made, study.truth, study.brain))
        pairs.add(original, made, study.brain)
    return found


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
    rows = list(zip(subjects, cases, found, strict=True))
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
            MethodFigures(method=name, localisation=found)
            for name, what in gathered.local
            if what == "ad"
            and name not in METHODS
            and (found := gathered.localisation(name, what)) is not None
        ),
        random_deletion=interval([f.deletion for f in gathered.faithful[RANDOM_ORDER]]),
        random_insertion=interval([f.insertion for f in gathered.faithful[RANDOM_ORDER]]),
        controls=tuple(gathered.controls),
        failures=tuple(gathered.failures),
        balanced_accuracy=float(np.mean(gathered.accuracy)),
        balanced_accuracy_private=float(np.mean(gathered.private)),
    )


def _method(name: str, gathered: _Gathered) -> MethodFigures:
    def same(kind: str) -> tuple[Sameness, ...]:
        return tuple(
            pairs.sameness(what)
            for (method, found, what), pairs in gathered.pairs.items()
            if (method, found) == (name, kind)
        )

    def one(kind: str) -> Sameness | None:
        return next(iter(same(kind)), None)

    edges, faithful = gathered.edge[name], gathered.faithful[name]
    local = gathered.localisation(name, "ad")
    assert local is not None
    return MethodFigures(
        method=name,
        localisation=local,
        everybody=gathered.localisation(name, "everybody"),
        random_labels=gathered.localisation(name, "random_labels"),
        private=gathered.localisation(name, "private"),
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
