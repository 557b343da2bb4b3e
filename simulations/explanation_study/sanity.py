"""Do the maps change when the weights do, and only then?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np

from shared_model.explanation.figures import Sameness
from shared_model.explanation.methods import METHODS
from shared_model.explanation.randomise import cascade, independently, parts_from_top
from shared_model.explanation.relevance import Case, Map, Mask
from shared_model.explanation.similarity import Similarity, similarity
from shared_model.smrnet.model import SMRNet

ALL = "everything"


@dataclass
class Pairs:
    """Similarities of one comparison, over the scans of all seeds."""

    found: list[Similarity] = field(default_factory=list)

    def add(self, first: Map, second: Map, brain: Mask) -> None:
        """Compare the two maps of one scan."""
        self.found.append(similarity(first, second, brain))

    def sameness(self, what: str) -> Sameness:
        """Means over the scans."""
        return Sameness(
            what=what,
            scans=len(self.found),
            spearman=float(np.mean([one.spearman for one in self.found])),
            ssim=float(np.mean([one.ssim for one in self.found])),
        )


def shuffle_weights(
    cases: Sequence[Case],
    method: str,
    brain: Mask,
    seed: int,
    *,
    stepwise: bool,
    add: Callable[[str, str, Map, Map, Mask], None],
) -> None:
    """Compare the maps of all cases with those of models whose weights were shuffled.

    ``add`` gets ("cascade" or "independent", the part that came last, both maps, the brain). The
    target stays what the whole model predicted. ``stepwise=False`` shuffles everything at once, for
    methods that take long.
    """
    make = METHODS[method].make
    model = cast(SMRNet, cases[0].model)
    before = [make(case).voxels for case in cases]
    parts = parts_from_top(model)
    steps = [("cascade", one) for one in cascade(model, parts, seed)]
    if stepwise:
        steps += [("independent", one) for one in independently(model, parts, seed)]
    else:
        steps = steps[-1:]
    for kind, step in steps:
        last = step.parts[-1]
        for case, original in zip(cases, before, strict=True):
            found = make(replace(case, model=step.model)).voxels
            add(kind, ALL if len(step.parts) == len(parts) else last, original, found, brain)
