"""The clipped gradients of drawn patients as one vector of integers, for a secure sum."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from client.training.examples import PatientExamples
from client.training.patient_gradients import PatientGradients
from shared_model.privacy.clipping_margin import CLIPPING_MARGIN

Integers = npt.NDArray[np.int64]


class IntegerPatientSum:
    """``sum_i rint(clip(g_i) 2^f)`` over patients, int64: exact, in whatever order.

    Guarantee: adding or removing one patient (all scans and visits) moves the sum by at most
    ``C 2^f`` in L2. A gradient is clipped in float64 to ``C (1 - CLIPPING_MARGIN)`` and rounded to
    the grid before the sum, which adds at most ``sqrt(P) / 2``: inside the margin for the P of a
    plan. A gradient that is not finite counts as zero. Assumes that ``gradients`` computes each
    patient alone (:mod:`client.training.self_test`). The sum has no noise: it must not leave
    without (:mod:`client.training.shared_sum`).

    Attributes:
        zeroed_patients: whose gradient was not finite; stays at the hospital.
    """

    def __init__(
        self,
        gradients: PatientGradients,
        numbers: int,
        *,
        clipping_norm: float,
        fraction_bits: int,
    ) -> None:
        if not clipping_norm > 0 or numbers**0.5 / 2 > (
            CLIPPING_MARGIN * clipping_norm * 2.0**fraction_bits
        ):
            raise ValueError("the grid is too coarse for this clipping norm")
        self._gradients = gradients
        self._numbers = numbers
        self._bound = clipping_norm * (1 - CLIPPING_MARGIN)
        self._scale = 2.0**fraction_bits
        self.zeroed_patients = 0

    def of_patients(self, patients: Sequence[PatientExamples]) -> Integers:
        """``(P,)`` of exactly these patients; zeros for nobody."""
        total: Tensor | None = None
        for rows in self._clipped(patients):
            # Rounded row by row: a patient's integers depend on nobody else.
            added = rows.mul_(self._scale).round_().to(torch.int64).sum(0)
            total = added if total is None else total.add_(added)
        return self._as_array(total)

    def of_hospital(self, patients: Sequence[PatientExamples], denominator: float) -> Integers:
        """``(P,)`` of the hospital as one user: the clipped patients' mean, cut to C as a whole.

        ``denominator`` is public: sampling rate times declared patients. Whatever the hospital
        holds, its integers have L2 norm at most ``C 2^f``; one patient moves them by at most that
        over ``denominator``, and ``sqrt(P)`` of rounding.
        """
        mean = torch.zeros(self._numbers, dtype=torch.float64)
        for rows in self._clipped(patients):
            mean += rows.sum(0).cpu()
        mean /= denominator
        norm = float(mean.norm())
        if norm > self._bound:
            mean *= self._bound / norm
        return self._as_array(mean.mul_(self._scale).round_().to(torch.int64))

    def _clipped(self, patients: Sequence[PatientExamples]) -> Iterator[Tensor]:
        """``(n, P)`` float64 copies, each row of norm at most ``C (1 - CLIPPING_MARGIN)``."""
        for rows in self._gradients(patients):
            rows = rows.to(torch.float64, copy=True)
            norms = torch.linalg.vector_norm(rows, dim=1)
            finite = torch.isfinite(norms)
            if not bool(finite.all()):
                rows = torch.where(finite[:, None], rows, 0.0)
                self.zeroed_patients += len(rows) - int(finite.sum())
            # As Opacus: 1e-6 is added to the norm before it divides.
            factors = torch.where(finite, (self._bound / (norms + 1e-6)).clamp(max=1.0), 0.0)
            yield rows.mul_(factors[:, None])

    def _as_array(self, total: Tensor | None) -> Integers:
        if total is None:
            return np.zeros(self._numbers, np.int64)
        out: Integers = total.cpu().numpy()
        return out
