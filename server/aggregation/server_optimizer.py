"""The server's step on the aggregated update: plain, FedAdam or FedYogi."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from server.aggregation.finite import require_finite
from server.aggregation.robust import Centre
from shared_model.aggregation.section import AggregationSection
from shared_model.protocol.arrays import Arrays

Floats = dict[str, npt.NDArray[np.float32]]


def plain_step(parameters: Arrays, centre: Centre, learning_rate: float) -> Floats:
    """``theta + eta * centre``, computed in float64 and rounded once; raises SMR-E521."""
    return _rounded({n: v + learning_rate * centre[n] for n, v in _wide(parameters).items()})


def adaptive_step(
    parameters: Arrays,
    centre: Centre,
    moments: tuple[Arrays, Arrays] | None,
    section: AggregationSection,
    learning_rate: float,
) -> tuple[Floats, tuple[Floats, Floats]]:
    """One step of FedAdam or FedYogi, and the moments that the next one starts from.

    Reddi et al. 2021 (arXiv:2003.00295, algorithm 2), without bias correction as there::

        m <- beta1 m + (1 - beta1) d
        v <- beta2 v + (1 - beta2) d^2              Adam
        v <- v - (1 - beta2) d^2 sign(v - d^2)      Yogi
        theta <- theta + eta m / (sqrt(v) + tau)

    with d the aggregated update, m from zero and v from ``tau^2``. ``moments`` (m and v) are
    float32, as they are checkpointed; all is computed in float64 and rounded once, so a resumed
    run has the same bits. Raises SMR-E521.
    """
    first, second, new = {}, {}, {}
    for name, theta in _wide(parameters).items():
        d = centre[name]
        m = np.zeros_like(d) if moments is None else moments[0][name].astype(np.float64)
        v = np.full_like(d, section.tau**2) if moments is None else _wide(moments[1])[name]
        m = section.beta1 * m + (1 - section.beta1) * d
        if section.server_optimizer == "yogi":
            v = v - (1 - section.beta2) * d**2 * np.sign(v - d**2)
        else:
            v = section.beta2 * v + (1 - section.beta2) * d**2
        first[name], second[name] = m, v
        new[name] = theta + learning_rate * m / (np.sqrt(v) + section.tau)
    return _rounded(new), (_rounded(first), _rounded(second))


def _wide(arrays: Arrays) -> dict[str, npt.NDArray[np.float64]]:
    return {name: value.astype(np.float64) for name, value in arrays.items()}


def _rounded(arrays: dict[str, npt.NDArray[np.float64]]) -> Floats:
    out = {}
    for name, value in arrays.items():
        with np.errstate(over="ignore"):
            out[name] = value.astype(np.float32)
        require_finite(name, out[name])
    return out
