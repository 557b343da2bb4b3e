"""Do the maps change when the weights do, and only then?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
from torch import nn

from shared_model.explanation.figures import Sameness
from shared_model.explanation.methods import METHODS
from shared_model.explanation.randomise import (
    Shuffled,
    cascade,
    independently,
    parts_from_top,
    shuffled,
)
from shared_model.explanation.region_map import region_means, spread
from shared_model.explanation.relevance import Case, Map, Mask
from shared_model.explanation.similarity import Similarity, similarity, structural_similarity
from shared_model.smrnet.model import SMRNet
from simulations.explanation_study.localising import interval

ALL = "everything"
# Far apart, so that no scan of one cohort is shuffled like a scan of another.
_SHUFFLES_PER_COHORT = 1000


@dataclass
class Pairs:
    """Similarities of one comparison, over the scans of all seeds."""

    found: list[Similarity] = field(default_factory=list)
    elsewhere: list[float] = field(default_factory=list)

    def add(self, first: Map, second: Map, brain: Mask) -> None:
        """Compare the two maps of one scan."""
        self.found.append(similarity(first, second, brain))

    def add_elsewhere(self, first: Map, second: Map, case: Case, seed: int) -> None:
        """SSIM with the second map's values on other regions, if it has one value per region."""
        means = region_means(second, case.labels, case.regions)
        if not np.allclose(spread(means, case.labels), second, rtol=1e-4, atol=0):
            return
        order = np.random.default_rng(seed).permutation(case.regions)
        moved = spread(means[order], case.labels)
        self.elsewhere.append(structural_similarity(first, moved, case.labels > 0))

    def sameness(self, what: str) -> Sameness:
        """Means over the scans with their intervals."""
        return Sameness(
            what=what,
            scans=len(self.found),
            spearman=interval([one.spearman for one in self.found]),
            ssim=interval([one.ssim for one in self.found]),
            elsewhere=self._chance(),
        )

    def _chance(self) -> float | None:
        """Of a method whose maps all have one value per region: an empty map has it by accident."""
        whole = bool(self.elsewhere) and len(self.elsewhere) == len(self.found)
        return float(np.mean(self.elsewhere)) if whole else None


def shuffle_weights(
    cases: Sequence[Case],
    method: str,
    brain: Mask,
    seed: int,
    *,
    stepwise: bool,
    pairs: Callable[[str, str], Pairs],
) -> None:
    """Compare the maps of all cases with those of models whose weights were shuffled.

    Every scan meets a shuffle of its own: a single shuffle says as much about its luck as about the
    method. ``pairs`` gets ("cascade" or "independent", the part that came last) and returns where
    the comparison is kept. The target stays what the whole model predicted. ``stepwise=False``
    shuffles everything at once, for methods that take long.
    """
    make = METHODS[method].make
    parts = parts_from_top(cast(SMRNet, cases[0].model))
    for number, case in enumerate(cases):
        own = seed * _SHUFFLES_PER_COHORT + number
        before = make(case).voxels
        for kind, step in _steps(case.model, parts, own, stepwise=stepwise):
            whole = len(step.parts) == len(parts)
            kept = pairs(kind, ALL if whole else step.parts[-1])
            after = make(replace(case, model=step.model)).voxels
            kept.add(before, after, brain)
            if whole:
                kept.add_elsewhere(before, after, case, own)


def _steps(
    model: nn.Module, parts: Sequence[str], seed: int, *, stepwise: bool
) -> Iterator[tuple[str, Shuffled]]:
    if not stepwise:
        yield "cascade", shuffled(model, parts, seed)
        return
    yield from (("cascade", one) for one in cascade(model, parts, seed))
    yield from (("independent", one) for one in independently(model, parts, seed))
