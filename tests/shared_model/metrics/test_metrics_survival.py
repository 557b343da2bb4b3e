"""Kaplan-Meier and log-rank against scipy, a published example, and their laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import CensoredData, ecdf, logrank

from shared_model.metrics.survival import kaplan_meier, log_rank

# Freireich et al. 1963: weeks of remission under 6-MP; censored at the second list.
SEEN = [6, 6, 6, 7, 10, 13, 16, 22, 23]
LOST = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
PLACEBO = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]


def test_the_remission_times_of_the_textbook() -> None:
    time = SEEN + LOST
    event = [True] * len(SEEN) + [False] * len(LOST)
    found = kaplan_meier(time, event)
    assert found.at_risk.tolist() == [21, 17, 15, 12, 11, 7, 6]
    expected = [0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448]
    assert found.survival == pytest.approx(expected, abs=6e-4)
    assert found.at(5) == 1
    assert found.at(40) == pytest.approx(0.448, abs=6e-4)
    both, events = time + PLACEBO, event + [True] * len(PLACEBO)
    chi, p = log_rank(both, events, [True] * 21 + [False] * 21)
    assert chi == pytest.approx(16.79, abs=0.01)
    assert p == pytest.approx(4.17e-5, rel=0.01)


people = st.lists(st.tuples(st.integers(1, 12), st.booleans(), st.booleans()), min_size=4)


@settings(max_examples=60, deadline=None)
@given(people)
def test_it_is_scipys(drawn: list[tuple[int, bool, bool]]) -> None:
    time = np.asarray([t for t, _, _ in drawn], dtype=float)
    event = np.asarray([e for _, e, _ in drawn])
    if event.any():
        found = kaplan_meier(time, event)
        theirs = ecdf(CensoredData(uncensored=time[event], right=time[~event])).sf
        for at in found.time:
            assert found.at(at) == pytest.approx(float(theirs.evaluate(at)))
        inner = np.isfinite(found.low)
        assert (found.low[inner] <= found.survival[inner] + 1e-12).all()
        assert (found.high[inner] >= found.survival[inner] - 1e-12).all()
    group = np.asarray([g for _, _, g in drawn])
    chi, p = log_rank(time, event, group)
    if np.isfinite(chi) and group.any() and not group.all():
        parts = [
            CensoredData(uncensored=time[g & event], right=time[g & ~event])
            for g in (group, ~group)
        ]
        theirs = logrank(*parts)
        assert chi == pytest.approx(float(theirs.statistic) ** 2, abs=1e-8)
        assert p == pytest.approx(float(theirs.pvalue), abs=1e-8)


def test_without_events_nobody_is_lost_and_nothing_differs() -> None:
    assert kaplan_meier([3, 4], [False, False]).at(10) == 1
    assert np.isnan(log_rank([3, 4], [False, False], [True, False])[0])
    with pytest.raises(ValueError, match="finite"):
        kaplan_meier([float("nan")], [True])
