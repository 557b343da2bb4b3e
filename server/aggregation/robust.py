"""Rules that withstand some sites sending anything: median, trimmed mean and Krum.

Each is a function of the set of updates, not of the order in which they came: updates are sorted by
site name first, so a resumed round has the same bits. All of them look at every site's own update,
already noised where the plan is private, which a secure aggregation would not show.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from server.aggregation.fixed_point import require_range, require_shapes
from shared_model.aggregation.section import AggregationRule
from shared_model.protocol.arrays import Arrays

Centre = dict[str, npt.NDArray[np.float64]]


def coordinate_median(updates: Sequence[Arrays]) -> Centre:
    """The median of each coordinate; of an even number, the mean of the middle two."""
    return {name: np.median(_stack(updates, name), axis=0) for name in updates[0]}


def trimmed_mean(updates: Sequence[Arrays], faulty: int) -> Centre:
    """Of each coordinate, the mean without the ``faulty`` largest and smallest (Yin et al. 2018).

    With more than ``2 * faulty`` updates every coordinate stays between values of honest sites,
    whatever ``faulty`` sites send.
    """
    kept = slice(faulty, len(updates) - faulty)
    if len(updates[kept]) == 0:
        raise ValueError(f"{len(updates)} updates cannot be trimmed by {faulty} at either end")
    return {name: np.sort(_stack(updates, name), axis=0)[kept].mean(axis=0) for name in updates[0]}


def krum(updates: Sequence[Arrays], faulty: int) -> Centre:
    """The update with the least sum of squared distances to its nearest ``K - faulty - 2`` others.

    Blanchard et al. 2017; of equal ones the first. Needs ``K >= 2 * faulty + 3``.
    """
    count = len(updates)
    if count < 2 * faulty + 3:
        raise ValueError(f"Krum needs {2 * faulty + 3} updates for {faulty} faulty sites")
    squares = np.zeros((count, count))
    for i in range(count):
        for j in range(i):
            squares[i, j] = squares[j, i] = _squared_distance(updates[i], updates[j])
    # Of each row the smallest is the distance to itself.
    scores = np.sort(squares, axis=1)[:, 1 : count - faulty - 1].sum(axis=1)
    chosen = updates[int(np.argmin(scores))]
    return {name: value.astype(np.float64) for name, value in chosen.items()}


class KeptUpdates:
    """Keeps every update until the round closes: ``4 K P`` bytes for K sites of P parameters.

    Args:
        shapes: name and shape of every parameter that an update must hold.
        rule: not the mean, which needs no update twice.
        faulty: sites that may send anything.
    """

    def __init__(
        self, shapes: Mapping[str, tuple[int, ...]], rule: AggregationRule, faulty: int
    ) -> None:
        rules: dict[str, Callable[[Sequence[Arrays]], Centre]] = {
            "median": coordinate_median,
            "trimmed_mean": lambda updates: trimmed_mean(updates, faulty),
            "krum": lambda updates: krum(updates, faulty),
        }
        self._rule = rules[rule]
        self._shapes = dict(sorted(shapes.items()))
        self._updates: dict[str, Arrays] = {}

    @property
    def weight(self) -> int:
        """Updates so far: every site counts once."""
        return len(self._updates)

    def add(self, site: str, update: Arrays) -> None:
        """Keep the update of a site; raises SMR-E510, SMR-E515 and SMR-E516 as the exact sum."""
        if site in self._updates:
            raise ValueError(f"site {site!r} was counted already")
        require_shapes(update, self._shapes)
        for name, values in update.items():
            require_range(name, values)
        self._updates[site] = {name: update[name] for name in self._shapes}

    def centre(self) -> Centre:
        """What the rule makes of the updates, float64, by name."""
        return self._rule([self._updates[site] for site in sorted(self._updates)])


def _stack(updates: Sequence[Arrays], name: str) -> npt.NDArray[np.float64]:
    """``(K, *)`` float64 values of one parameter."""
    return np.stack([update[name] for update in updates]).astype(np.float64)


def _squared_distance(one: Arrays, other: Arrays) -> float:
    return sum(
        float(np.square(one[name].astype(np.float64) - other[name].astype(np.float64)).sum())
        for name in one
    )
