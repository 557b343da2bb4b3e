"""How well the antisymmetric parts of brains tell a mirrored scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations, product

import numpy as np

from client.quality.fingerprint import asymmetry
from simulations.benchmarks.quality_calibration.likeness import AS_IT_IS, MIRRORED, SAME, Prints
from simulations.benchmarks.quality_calibration.span import Span

#: From so many others on a single scan is held against them.
_OTHERS = 20


@dataclass(frozen=True)
class LeftRight:
    """Correlations of asymmetries.

    Attributes:
        one_person: of scans of one head.
        one_mirrored: of a head's scans with the one that was mirrored in the file.
        different_people: of different heads, the right way round.
        against_others: of each head with the mean of the others.
        mirrored_against_others: the same for the mirrored heads.
        right_signs: heads for which both signs are as they should be.
        with_twenty: what ``against_others`` should be on average with 20 others, if people share
            as much as these heads do on average: r sqrt(n) / sqrt(1 + (n - 1) r). Not measured.
    """

    one_person: Span | None
    one_mirrored: Span | None
    different_people: Span | None
    against_others: Span | None
    mirrored_against_others: Span | None
    right_signs: int
    with_twenty: float | None


def left_right(prints: Sequence[Prints]) -> LeftRight:
    """Measure all of it; with one head, only what one head tells."""
    parts = [{name: asymmetry(print_) for name, print_ in each.items()} for each in prints]
    between = [
        float(a[k] @ b[m]) for a, b in combinations(parts, 2) for k, m in product(SAME, SAME)
    ]
    own, turned = [], []
    if len(parts) > 1:
        for index, each in enumerate(parts):
            others = sum(p[AS_IT_IS] for i, p in enumerate(parts) if i != index)
            mean = others / np.linalg.norm(others)
            own.append(float(each[AS_IT_IS] @ mean))
            turned.append(float(each[MIRRORED] @ mean))
    return LeftRight(
        one_person=Span.of(float(p[a] @ p[b]) for p in parts for a, b in combinations(SAME, 2)),
        one_mirrored=Span.of(float(p[MIRRORED] @ p[a]) for p in parts for a in SAME),
        different_people=Span.of(between),
        against_others=Span.of(own),
        mirrored_against_others=Span.of(turned),
        right_signs=sum(a > 0 > b for a, b in zip(own, turned, strict=True)),
        with_twenty=_expected([p[AS_IT_IS] for p in parts]),
    )


def _expected(parts: Sequence[np.ndarray]) -> float | None:
    if len(parts) < 2:
        return None
    shared = float(np.mean([a @ b for a, b in permutations(parts, 2)]))
    if shared <= 0:
        return None
    return round(float(shared * np.sqrt(_OTHERS / (1 + (_OTHERS - 1) * shared))), 3)
