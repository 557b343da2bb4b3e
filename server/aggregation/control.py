"""SCAFFOLD at the server: the common control variate, from updates that it has anyway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from server.aggregation.robust import Centre
from server.rounds.records import RoundRecord
from shared_model.protocol.arrays import Arrays


def updated_control(
    control: Arrays | None, mean_update: Centre, share: float, steps_times_rate: float
) -> dict[str, npt.NDArray[np.float32]]:
    """``c`` after a round: ``(1 - P) c - P mean(dy) / (E eta)``, float32, by name.

    A site of option II (Karimireddy et al. 2020) that starts at x with c and c_k and arrives at
    ``y = x + dy`` keeps ``c_k+ = c_k - c + (x - y) / (E eta)``, so the change of its control is

        dc_k = c_k+ - c_k = -c - dy / (E eta):

    a function of what the coordinator has, the update and c. So sites send nothing but updates.
    With p_k the public weights, which add up to one over all sites, and P their sum over the sites
    S of the round, ``c + sum_S p_k dc_k = (1 - P) c - P mean_S(dy) / (E eta)``, in which the mean
    is that of the aggregation (option II's ``c + |S| / N mean dc`` for equal weights). Nobody needs
    to know a single c_k but its site. By induction ``c = sum_k p_k c_k`` up to rounding, where c_k
    is the control that site k had after its newest *counted* update.

    Args:
        control: c by name; none before the first round, when it is zero.
        mean_update: weighted mean of the accepted updates dy.
        share: P; 1 when every site of the plan was accepted.
        steps_times_rate: local steps E times the local learning rate eta.
    """
    out = {}
    for name, mean in mean_update.items():
        before = 0.0 if control is None else (1 - share) * control[name].astype(np.float64)
        out[name] = (before - share * mean / steps_times_rate).astype(np.float32)
    return out


def counted_rounds(history: Sequence[RoundRecord]) -> Mapping[str, int]:
    """Site -> its newest round whose update was accepted, and so is part of c."""
    return {site: record.round for record in history for site in record.accepted}
