"""Opacus's optimiser over whole patients, with noise that nobody can seed."""

from __future__ import annotations

import torch
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn

from client.privacy.gaussian_release import noise_grid
from shared_model.privacy.clipping_margin import CLIPPING_MARGIN as CLIPPING_MARGIN
from shared_model.privacy.secure_random import RandomStream


class PatientOptimizer(DPOptimizer):  # type: ignore[misc]
    """Opacus's optimiser as its ``grad_sample_mode="no_op"`` uses it, for one flat parameter.

    Accumulation, scaling and the order of a step are Opacus's; each patient is one row of an
    ``(n, P)`` per-sample gradient. Two methods differ. :meth:`clip_and_accumulate` clips to the
    same factor, with norms and sums in float64, without float64 copies of float32 gradients, and
    counts a gradient that is not finite as zero. :meth:`add_noise` takes normals of standard
    deviation ``noise_multiplier * clipping_norm`` from ``random``, in float64, and rounds the
    noised sum to a grid. No Opacus accountant is attached: the hospital's ledger has counted the
    step before it was taken.

    Attributes:
        centred_count: ``sum_i (b_i - 1/2)`` over the patients since the last step, where b_i is 1
            when patient i was within the norm: un-noised, for :mod:`client.training.adaptive_clip`.
        zeroed_patients: whose gradient was not finite; stays at the hospital.
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
            max_grad_norm=clipping_norm,
            expected_batch_size=denominator,
        )
        self.random = random
        self.centred_count = 0.0
        self.zeroed_patients = 0
        self.clip_to(clipping_norm)

    def clip_to(self, clipping_norm: float) -> None:
        """Clip from now on to another norm; the noise follows it."""
        self.clipping_norm = clipping_norm
        self.max_grad_norm = clipping_norm * (1 - CLIPPING_MARGIN)
        self.noise_std = self.noise_multiplier * clipping_norm
        self.grid = noise_grid(self.noise_std)

    def clip_and_accumulate(self) -> None:
        """Add the clipped rows of the per-sample gradient ``(n, P)`` to the sum."""
        (p,) = self.params
        rows: Tensor = p.grad_sample
        if p.summed_grad is None:
            p.summed_grad = torch.zeros_like(p, dtype=torch.float64, requires_grad=False)
        if not len(rows):
            return
        norms = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
        finite = torch.isfinite(norms)
        if not bool(finite.all()):
            rows = torch.where(finite[:, None], rows, 0.0)
            self.zeroed_patients += len(rows) - int(finite.sum())
        # As Opacus: 1e-6 is added to the norm before it divides.
        factors = torch.where(finite, (self.max_grad_norm / (norms + 1e-6)).clamp(max=1.0), 0.0)
        if len(rows) == 1:
            p.summed_grad.add_(rows[0], alpha=float(factors))
        else:
            p.summed_grad.addmv_(rows.double().T, factors)
        self.centred_count += float((norms <= self.clipping_norm).sum()) - len(rows) / 2

    def add_noise(self) -> None:
        """Noise the clipped sum once, round it to the grid, and make it the gradient."""
        (p,) = self.params
        normals = torch.from_numpy(self.random.normal(p.numel())).to(p.device).view_as(p)
        noised = p.summed_grad.add_(normals, alpha=self.noise_std)
        p.grad = noised.div_(self.grid).round_().mul_(self.grid)
        p.summed_grad = None
