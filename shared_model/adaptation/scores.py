"""The scores that layer C adapts: log probabilities of a patient, and how far the scan deviates.

The offset of a site must act where the corrected prediction is well defined. SMR-Net's logits are
linear neither in its embedding nor in its tokens, but every model has logits: of a patient with
mean probabilities p, the scores are the C - 1 coordinates of ``log p`` in a fixed orthonormal basis
of the vectors that sum to zero. They lose nothing of p, and subtracting b gives
``p_c exp(-(basis b)_c)``, normalised. Where the model reads tokens, one more score is the log size
of the patient's tokens: deviations from a public reference, which a scan that is no T1 of an
aligned brain has everywhere. It takes part in the estimate and in the distance, not in predictions.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: Brings the spread of the log size of the tokens near that of log probabilities.
_DEVIATION_SCALE = 5.0
_SMALLEST = 1e-12


def basis(classes: int) -> Floats:
    """``(C, C - 1)`` orthonormal columns that sum to zero (Helmert), fixed by C alone."""
    out = np.zeros((classes, classes - 1))
    for k in range(1, classes):
        out[:k, k - 1] = 1.0
        out[k, k - 1] = -k
        out[:, k - 1] /= np.sqrt(k * (k + 1))
    return out


def scores(p: Floats, deviation: Floats | None, radius: float) -> Floats:
    """``(N, D)`` scores, cut to L2 norm ``radius``; D is C - 1, or C with deviations.

    Args:
        p: ``(N, C)`` mean probabilities of each patient.
        deviation: ``(N,)`` mean log root mean square of each patient's tokens; none: no tokens.
        radius: the plan's ``calibration.scores_radius``.

    Every row depends on its own patient alone. A row that is not finite stays so.
    """
    # Not np.maximum: NaN, of a model that diverges on one patient, must stay visible.
    safe = np.where(p < _SMALLEST, _SMALLEST, p)
    columns = [np.log(safe) @ basis(p.shape[1])]
    if deviation is not None:
        columns.append(_DEVIATION_SCALE * np.asarray(deviation, dtype=np.float64)[:, None])
    z = np.concatenate(columns, axis=1)
    norms = np.linalg.norm(z, axis=1, keepdims=True)
    cut: Floats = z * np.minimum(1.0, radius / np.maximum(norms, 1e-300))
    return cut


def without_offset(p: Floats, offset: Floats) -> Floats:
    """``(N, C)`` probabilities whose scores are those of ``p`` less the offset ``(D,)``.

    The offset's part along the deviation of tokens has no influence on predictions.
    """
    classes = p.shape[1]
    log = np.log(np.where(p < _SMALLEST, _SMALLEST, p)) - basis(classes) @ offset[: classes - 1]
    return _normalised(log)


def with_prevalence(p: Floats, prevalence: Floats, training: Floats) -> Floats:
    """``p_c pi_c / pi_train_c``, normalised: what a site with that prevalence should believe."""
    log = np.log(np.where(p < _SMALLEST, _SMALLEST, p)) + np.log(
        np.maximum(prevalence, _SMALLEST) / training
    )
    return _normalised(log)


def _normalised(log: Floats) -> Floats:
    weight = np.exp(log - log.max(axis=1, keepdims=True))
    out: Floats = weight / weight.sum(axis=1, keepdims=True)
    return out
