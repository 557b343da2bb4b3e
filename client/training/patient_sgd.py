"""Patient-level DP-SGD: clipped sums over drawn patients, noised once a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from client.privacy.gaussian_release import noise_grid
from client.training.adaptive_clip import AdaptiveClip
from client.training.data_free import DataFreeGradient
from client.training.examples import PatientExamples
from client.training.flat_parameters import FlatParameters
from client.training.layered_rates import shorten_steps
from client.training.patient_gradients import PatientGradients
from client.training.patient_optimizer import PatientOptimizer
from shared_model.privacy.secure_random import RandomStream


class PatientSGD:
    """Noisy SGD steps over Poisson-sampled patients.

    Guarantee: every :meth:`step` is one use of the Poisson-subsampled Gaussian mechanism with
    ``sampling_rate`` and ``noise_multiplier``, under add-or-remove-one-patient (all scans and
    visits); its results, the parameters and the next clipping norm, may steer what is released.
    The denominator ``sampling_rate * declared_patients`` is public. Assumes that ``gradients``
    computes each patient on its own (:mod:`client.training.self_test`) and that nothing it reads
    was fitted to patients.

    Limit: the number of scans shows in the time a step takes.

    Args:
        flat: the parameters that train; all others must not require gradients.
        gradients: how the gradient of a patient is computed.
        clipping_norm: bound of one patient's gradient; with ``adaptive`` the norm to start with.
        random: the source of sampling and noise; ``SecureRandom`` outside tests.
        adaptive: how the norm follows the patients; none: it is fixed.
        data_free: added to the noised gradient; it reads the parameters and no patient.
        rate_factors: ``(P,)`` public factors of the learning rate (:func:`rate_vector`); none: 1.
            They scale the step that the noised sum gives, after clip and noise.
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
        adaptive: AdaptiveClip | None = None,
        data_free: DataFreeGradient | None = None,
        rate_factors: Tensor | None = None,
    ) -> None:
        if not noise_multiplier > 0 or not clipping_norm > 0:
            raise ValueError("private training needs noise and a clipping norm")
        if adaptive is not None and clipping_norm > adaptive.bound:
            raise ValueError("the clipping norm exceeds its public bound")
        self._flat = flat
        self._gradients = gradients
        # Opacus keeps its sums as attributes of the parameter.
        self._master: Any = self._flat.master
        self._sampling_rate = sampling_rate
        self._denominator = sampling_rate * declared_patients
        self._random = random
        self._adaptive = adaptive
        self._data_free = data_free
        self._rate_factors = rate_factors
        self._learning_rate = learning_rate
        self._noise_multiplier = noise_multiplier
        of_the_sum = (
            noise_multiplier if adaptive is None else adaptive.sum_multiplier(noise_multiplier)
        )
        self.optimizer = PatientOptimizer(
            self._flat.master,
            noise_multiplier=of_the_sum,
            clipping_norm=clipping_norm,
            denominator=self._denominator,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            random=random,
        )

    @property
    def clipping_norm(self) -> float:
        """The norm that the next step clips to: public, or computed from noised counts only."""
        return float(self.optimizer.clipping_norm)

    @property
    def zeroed_patients(self) -> int:
        """Patients whose gradient was not finite and counted as zero; stays at the hospital."""
        return int(self.optimizer.zeroed_patients)

    def step(self, patients: Sequence[PatientExamples]) -> None:
        """Draw patients, add up their clipped gradients, noise the sum, step.

        An empty draw is a step like any other: noise over the fixed denominator.
        """
        drawn = self._random.select(len(patients), self._sampling_rate)
        self._accumulate([patients[index] for index in drawn])
        pull = None if self._data_free is None else self._data_free(self._flat.master.detach())
        before = self._flat.master.detach().clone() if self._rate_factors is not None else None
        # An empty per-sample batch ends the logical batch: Opacus adds the noise once and steps.
        self._submit(self._master.new_zeros(0, len(self._master)), last=True)
        if pull is not None:
            self._flat.master.data.sub_(pull, alpha=self._learning_rate)
        shorten_steps(self._flat, before, self._rate_factors)
        self._flat.publish()
        self._adapt()

    def clipped_sums(self, patients: Sequence[PatientExamples]) -> tuple[Tensor, float]:
        """``(P,)`` sum of the clipped gradients of exactly these patients, and their centred count.

        Before the noise: for self-tests on public inputs; releasing either for patients would void
        the guarantee.
        """
        self._accumulate(patients)
        total: Tensor | None = self._master.summed_grad
        count = self.optimizer.centred_count
        self._master.summed_grad, self.optimizer.centred_count = None, 0.0
        return torch.zeros_like(self._flat.master.detach()) if total is None else total, count

    def clipped_sum(self, patients: Sequence[PatientExamples]) -> Tensor:
        """The first of :meth:`clipped_sums`."""
        return self.clipped_sums(patients)[0]

    def close(self) -> None:
        """Detach from the model."""
        self._flat.close()

    def _accumulate(self, patients: Sequence[PatientExamples]) -> None:
        for samples in self._gradients(patients):
            self._submit(samples, last=False)

    def _submit(self, sample: Tensor, *, last: bool) -> None:
        self._master.grad_sample = sample
        self.optimizer.signal_skip_step(not last)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _adapt(self) -> None:
        count, self.optimizer.centred_count = self.optimizer.centred_count, 0.0
        if self._adaptive is None:
            return
        deviation = self._adaptive.count_noise(self._noise_multiplier)
        grid = noise_grid(deviation)
        noised = count + deviation * float(self._random.normal(1)[0])
        noised = round(noised / grid) * grid
        norm = self._adaptive.following(self.clipping_norm, noised, self._denominator)
        self.optimizer.clip_to(norm)
