"""One arm on the draws of patients that all arms share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shared_model.evaluation.table import PredictionTable
from shared_model.metrics.arrays import Floats
from shared_model.metrics.bootstrap import draw_counts
from shared_model.metrics.classification import confusion_over, rates
from shared_model.metrics.ranking import auc_over, by_class
from simulations.evaluation.noise_repeats import mean_over_repeats

#: Whether the hospital was seen in training, and its name.
Place = tuple[bool, str]


class SharedDraws:
    """How often each bootstrap draw holds each test patient of a cohort, the same for all arms.

    The first of the ``1 + D`` rows holds everybody once: the estimate and its draws are one
    computation. Strata are site and class within a cohort.
    """

    def __init__(self, draws: int) -> None:
        self.draws = draws
        self._counts: dict[tuple[int, Place], tuple[tuple[str, ...], Floats]] = {}

    def counts(self, seed: int, table: PredictionTable) -> Floats:
        """``(1 + D, N)`` for a table of one site's patients; raises where they are others."""
        place = (bool(table.seen[0]), table.site[0])
        known = self._counts.get((seed, place))
        if known is None:
            stream = [seed, int(place[0]), *place[1].encode()]
            number = int(np.random.SeedSequence(stream).generate_state(1)[0])
            drawn = draw_counts(table.label, draws=self.draws, seed=number)
            known = table.patient, np.concatenate([np.ones((1, len(table))), drawn])
            self._counts[seed, place] = known
        if known[0] != table.patient:
            raise ValueError(f"arms were not tested on the same patients at {place[1]}")
        return known[1]


#: Per noise repeat, per federation, per model: what an arm predicted on one cohort.
Runs = Sequence[Sequence[Sequence[PredictionTable]]]


class ArmDraws:
    """Balanced accuracy and AUC of one arm over the draws, for every cohort.

    All methods give ``(1 + D,)`` with the estimate first. A value is the mean over cohorts, over
    the federations of each (who is left out) and over noise repeats; where several models answer
    for the same patients, as those of hospitals alone do at an unseen one, over the models. What
    lacks a class in one cohort is the mean over the others, for every arm alike.

    Args:
        runs: by seed.
        noise: which noise the repeats hold; arms with the same one share the resampled repeats.
    """

    def __init__(self, runs: Mapping[int, Runs], shared: SharedDraws, noise: int = 0) -> None:
        self.seeds = tuple(runs)
        self.patients: dict[Place, int] = defaultdict(int)
        self._noise = noise
        self._found = {
            seed: [[_federation(seed, models, shared) for models in run] for run in repeats]
            for seed, repeats in runs.items()
        }
        for repeats in runs.values():
            people = {
                (bool(table.seen[i]), table.site[i], table.patient[i])
                for models in repeats[0]
                for table in models
                for i in range(len(table))
            }
            for seen, site, _ in people:
                self.patients[seen, site] += 1

    def sites(self, seen: bool) -> tuple[str, ...]:
        """Hospitals where the arm was tested as seen, or as unseen."""
        places = [
            place
            for repeats in self._found.values()
            for federation in repeats[0]
            for place in federation.confusion
        ]
        return tuple(dict.fromkeys(name for was_seen, name in places if was_seen == seen))

    def pooled(self, seen: bool) -> Floats | None:
        """Balanced accuracy over all patients of a federation at such hospitals."""
        if not self.sites(seen):
            return None
        return _mean([self.cohort(seed, seen) for seed in self.seeds])

    def site(self, seen: bool, site: str) -> Floats:
        """Balanced accuracy at one hospital."""
        return _mean([self.cohort(seed, seen, site) for seed in self.seeds])

    def cohort(self, seed: int, seen: bool, site: str | None = None) -> Floats:
        """Balanced accuracy of one cohort, at all such hospitals or at one."""
        values = []
        for run in self._found[seed]:
            sums = [sum(own) for federation in run if (own := federation.at(seen, site))]
            values.append(_mean([rates(total).balanced_accuracy for total in sums]))
        return self._over_repeats(seed, np.stack(values))

    def worst(self, seen: bool) -> tuple[Floats, str] | None:
        """The worst hospital in each draw, and which one it is in the estimate."""
        names = self.sites(seen)
        if len(names) < 2:
            return None
        values = np.stack([self.site(seen, name) for name in names])
        if np.isnan(values[:, 0]).all():
            return None
        return np.nanmin(values, axis=0), names[int(np.nanargmin(values[:, 0]))]

    def auc(self, seen: bool) -> Floats | None:
        """Macro AUC over all patients of a federation at such hospitals."""
        if not self.sites(seen):
            return None
        return _mean(
            [
                self._over_repeats(
                    seed,
                    np.stack([_mean([f.auc[seen] for f in run if seen in f.auc]) for run in runs]),
                )
                for seed, runs in self._found.items()
            ]
        )

    def _over_repeats(self, seed: int, values: Floats) -> Floats:
        rng = np.random.default_rng([seed, self._noise])
        drawn = mean_over_repeats(values[:, 1:], rng)
        return np.concatenate([values[:, :1].mean(0), drawn])


@dataclass(frozen=True, eq=False)
class _Federation:
    """``(1 + D, C, C)`` confusion by place, summed over models, and ``(1 + D,)`` AUC."""

    confusion: dict[Place, Floats]
    auc: dict[bool, Floats]

    def at(self, seen: bool, site: str | None) -> list[Floats]:
        return [
            matrix
            for (was_seen, name), matrix in self.confusion.items()
            if was_seen == seen and site in (None, name)
        ]


def _federation(seed: int, models: Sequence[PredictionTable], shared: SharedDraws) -> _Federation:
    confusion: dict[Place, Floats] = {}
    homes: list[tuple[PredictionTable, Floats]] = []
    abroad: list[Floats] = []
    for table in models:
        away: list[tuple[PredictionTable, Floats]] = []
        for seen, site in _places(table):
            own = table.at(site)
            counts = shared.counts(seed, own)
            found = confusion_over(own.label, own.probability, counts)
            before = confusion.get((seen, site))
            confusion[seen, site] = found if before is None else before + found
            (homes if seen else away).append((own, counts))
        if away:
            abroad.append(_auc(away))
    # Hospitals alone know one home each: their homes are ranked together.
    auc = {True: _auc(homes)} if homes else {}
    return _Federation(confusion, auc | ({False: _mean(abroad)} if abroad else {}))


def _auc(parts: Sequence[tuple[PredictionTable, Floats]]) -> Floats:
    label = np.concatenate([table.label for table, _ in parts])
    probability = np.concatenate([table.probability for table, _ in parts])
    counts = np.concatenate([counts for _, counts in parts], axis=1)
    out: Floats = by_class(auc_over, label, probability, counts).mean(1)
    return out


def _mean(values: Sequence[Floats]) -> Floats:
    """Mean of ``(1 + D,)`` values; those that no class determines are left out, NaN if all are."""
    stacked = np.stack(values)
    known = ~np.isnan(stacked[:, 0])
    out: Floats = stacked[known].mean(axis=0) if known.any() else stacked[0]
    return out


def _places(table: PredictionTable) -> tuple[Place, ...]:
    return (*((True, s) for s in table.seen_sites), *((False, s) for s in table.unseen_sites))
