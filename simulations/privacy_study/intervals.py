"""Means over cohorts with intervals that hold the patients' and the noise's chance."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np

from shared_model.metrics import Interval, stratified_draws
from shared_model.metrics.bootstrap import percentile_interval
from simulations.evaluation.noise_repeats import mean_over_repeats
from simulations.privacy_study.predicted import Metric, Run, Where

_DRAWS = 1000

ArmName = TypeVar("ArmName", bound=str)
_Name = TypeVar("_Name", bound=str, covariant=True)


class NoisyRun(Protocol[_Name]):
    """One training on one cohort with one draw of the noise; no epsilon: without privacy."""

    @property
    def seed(self) -> int:
        """Of the cohort."""
        ...

    @property
    def arm(self) -> _Name:
        """What was trained."""
        ...

    @property
    def epsilon(self) -> float | None:
        """Its budget."""
        ...

    @property
    def run(self) -> Run:
        """What it predicted."""
        ...


class Utilities(Generic[ArmName]):
    """Utility of arms over all cohorts, and of one arm over another on the same patients.

    The estimate is the mean over cohorts and noise. For its 95 % interval every draw resamples the
    test patients of each cohort within their classes, and its noise repeats, both with replacement;
    arms share the patients of a draw. The cohorts are fixed: how much another cohort, or one single
    run, would differ is the range of single runs, not the interval. ``unbiased`` makes the part
    of the noise as wide as it is, however few the repeats (:func:`mean_over_repeats`).
    """

    def __init__(
        self,
        runs: Sequence[NoisyRun[ArmName]],
        seed: int = 0,
        draws: int = _DRAWS,
        *,
        unbiased: bool = False,
    ) -> None:
        self._by_arm: dict[tuple[ArmName, float | None], dict[int, list[NoisyRun[ArmName]]]] = {}
        for run in runs:
            cohorts = self._by_arm.setdefault((run.arm, run.epsilon), defaultdict(list))
            cohorts[run.seed].append(run)
        self._seed = seed
        self._count = draws
        self._unbiased = unbiased
        self._known: dict[tuple[ArmName, float | None, int, Where, Metric], np.ndarray] = {}

    @property
    def arms(self) -> tuple[tuple[ArmName, float | None], ...]:
        """Arms with their epsilon, in the order of the runs."""
        return tuple(self._by_arm)

    def single(
        self, arm: ArmName, epsilon: float | None, where: Where, metric: Metric
    ) -> tuple[float, ...]:
        """The utility of every single run."""
        cohorts = self._by_arm[arm, epsilon]
        return tuple(r.run[where].utility(metric) for runs in cohorts.values() for r in runs)

    def mean(self, arm: ArmName, epsilon: float | None, where: Where, metric: Metric) -> Interval:
        """Mean utility of an arm."""
        draws = self._draws(arm, epsilon, where, metric, stream=0)
        estimate = float(
            np.mean([np.mean(d) for d in self._estimates(arm, epsilon, where, metric)])
        )
        return percentile_interval(estimate, draws)

    def difference(
        self,
        arm: tuple[ArmName, float | None],
        reference: tuple[ArmName, float | None],
        where: Where,
        metric: Metric,
    ) -> Interval:
        """Mean utility of an arm minus that of a reference, on the same resampled patients."""
        ours = self._estimates(*arm, where, metric)
        theirs = self._estimates(*reference, where, metric)
        estimate = float(
            np.mean([np.mean(a) - np.mean(b) for a, b in zip(ours, theirs, strict=True)])
        )
        draws = self._draws(*arm, where, metric, stream=0)
        # The rule changes the decisions of the same models: their noise is one.
        same_models = {arm[0], reference[0]} == {"federated", "prior_free"}
        other = self._draws(*reference, where, metric, stream=0 if same_models else 1)
        return percentile_interval(estimate, draws - other)

    def _estimates(
        self, arm: ArmName, epsilon: float | None, where: Where, metric: Metric
    ) -> list[list[float]]:
        return [
            [r.run[where].utility(metric) for r in runs]
            for _, runs in sorted(self._by_arm[arm, epsilon].items())
        ]

    def _draws(
        self, arm: ArmName, epsilon: float | None, where: Where, metric: Metric, *, stream: int
    ) -> np.ndarray:
        """``(draws,)`` means over cohorts; another ``stream`` draws other noise repeats."""
        total = np.zeros(self._count)
        cohorts = self._by_arm[arm, epsilon]
        for seed, runs in sorted(cohorts.items()):
            key = (arm, epsilon, seed, where, metric)
            if key not in self._known:
                label = runs[0].run[where].label
                rows = stratified_draws(label, self._count, self._seed + 1000 * seed)
                self._known[key] = np.asarray(
                    [[r.run[where].utility(metric, some) for some in rows] for r in runs]
                )
            noise = np.random.default_rng([self._seed, seed, stream])
            total += mean_over_repeats(self._known[key], noise, unbiased=self._unbiased)
        return total / len(cohorts)
