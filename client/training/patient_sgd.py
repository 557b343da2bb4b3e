"""Patient-level DP-SGD: Opacus's clipping of whole patients, noise that nobody can seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn

from client.privacy.secure_random import RandomStream
from client.training.examples import PatientExamples
from client.training.flat_parameters import FlatParameters
from client.training.patient_gradients import PatientGradients

# Opacus clips to a bound this much (relative) below C, so that rounding never exceeds C: neither
# that of the sum in float64, nor what one patient more does to the float32 gradients of the others,
# which come from the same products and may be added up in another order (measured: 1e-8 of C each).
CLIPPING_MARGIN = 1e-4
# The noised sum is rounded to a grid of about sigma * C / 1024: the low-order bits, which would
# tell floating-point sums apart, are gone (Mironov 2012; "interval refining", Haney et al. 2022).
_GRID_BITS = 10


class PatientOptimizer(DPOptimizer):  # type: ignore[misc]
    """Opacus's optimiser as its ``grad_sample_mode="no_op"`` uses it, with another source of noise.

    Clipping, accumulation, scaling and the guard against using a gradient twice are Opacus's; each
    patient is one row of a ``(n, P)`` per-sample gradient in float64. Only :meth:`add_noise`
    differs: normals of standard deviation ``sigma * C`` come from ``random`` in float64, and the
    noised sum is rounded to a grid. No Opacus accountant is attached: the hospital's ledger has
    counted the step before it was taken.
    """

    def __init__(
        self,
        master: nn.Parameter,
        *,
        noise_multiplier: float,
        clipping_norm: float,
        denominator: float,
        learning_rate: float,
        weight_decay: float,
        random: RandomStream,
    ) -> None:
        super().__init__(
            torch.optim.SGD([master], lr=learning_rate, weight_decay=weight_decay),
            noise_multiplier=noise_multiplier,
            max_grad_norm=clipping_norm * (1 - CLIPPING_MARGIN),
            expected_batch_size=denominator,
        )
        self.noise_std = noise_multiplier * clipping_norm
        self.grid = 2.0 ** (math.floor(math.log2(self.noise_std)) - _GRID_BITS)
        self.random = random

    def add_noise(self) -> None:
        """Noise the clipped sum once, round it to the grid, and make it the gradient."""
        for p in self.params:
            normals = torch.from_numpy(self.random.normal(p.numel())).to(p.device).view_as(p)
            noised = p.summed_grad + self.noise_std * normals
            p.grad = torch.round(noised / self.grid) * self.grid
            p.summed_grad = None


class PatientSGD:
    """Noisy SGD steps over Poisson-sampled patients.

    Guarantee: every :meth:`step` is one use of the Poisson-subsampled Gaussian mechanism with
    ``sampling_rate`` and ``noise_multiplier``, under add-or-remove-one-patient (all scans and
    visits); its result, the parameters, may be released. The denominator ``sampling_rate *
    declared_patients`` is public. Assumes that ``gradients`` computes each patient on
    its own (:mod:`client.training.self_test`) and that nothing it reads was fitted to patients.

    Limit: the number of scans shows in the time a step takes.

    Args:
        flat: the parameters that train; all others must not require gradients.
        gradients: how the gradient of a patient is computed.
        random: the source of sampling and noise; ``SecureRandom`` outside tests.
    """

    def __init__(
        self,
        flat: FlatParameters,
        gradients: PatientGradients,
        *,
        sampling_rate: float,
        declared_patients: int,
        noise_multiplier: float,
        clipping_norm: float,
        learning_rate: float,
        weight_decay: float,
        random: RandomStream,
    ) -> None:
        if not noise_multiplier > 0 or not clipping_norm > 0:
            raise ValueError("private training needs noise and a clipping norm")
        self._flat = flat
        self._gradients = gradients
        # Opacus keeps its sums as attributes of the parameter.
        self._master: Any = self._flat.master
        self._sampling_rate = sampling_rate
        self._random = random
        self.optimizer = PatientOptimizer(
            self._flat.master,
            noise_multiplier=noise_multiplier,
            clipping_norm=clipping_norm,
            denominator=sampling_rate * declared_patients,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            random=random,
        )
        #: Patients whose gradient was not finite and counted as zero; stays at the hospital.
        self.zeroed_patients = 0

    def step(self, patients: Sequence[PatientExamples]) -> None:
        """Draw patients, add up their clipped gradients, noise the sum, step.

        An empty draw is a step like any other: noise over the fixed denominator.
        """
        drawn = self._random.select(len(patients), self._sampling_rate)
        self._accumulate([patients[index] for index in drawn])
        # An empty per-sample batch ends the logical batch: Opacus adds the noise once and steps.
        self._submit(self._master.new_zeros(0, len(self._master)), last=True)
        self._flat.publish()

    def clipped_sum(self, patients: Sequence[PatientExamples]) -> Tensor:
        """``(P,)`` sum of the clipped gradients of exactly these patients, before the noise.

        For self-tests on public inputs; releasing it for patients would void the guarantee.
        """
        self._accumulate(patients)
        total: Tensor | None = self._master.summed_grad
        self._master.summed_grad = None
        return torch.zeros_like(self._flat.master.detach()) if total is None else total

    def close(self) -> None:
        """Detach from the model."""
        self._flat.close()

    def _accumulate(self, patients: Sequence[PatientExamples]) -> None:
        for samples in self._gradients(patients):
            finite = torch.isfinite(samples.sum(dim=1, keepdim=True))
            self.zeroed_patients += len(samples) - int(finite.sum())
            self._submit(torch.where(finite, samples, 0.0), last=False)

    def _submit(self, sample: Tensor, *, last: bool) -> None:
        self._master.grad_sample = sample
        self.optimizer.signal_skip_step(not last)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
