"""From the opened sum of a round to its update: modes ``distributed`` and ``central``."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt

from server.aggregation.robust import Centre
from server.aggregation.server_optimizer import plain_step
from shared_model.plan import FederationPlan
from shared_model.privacy.discrete_gaussian import DiscreteGaussian
from shared_model.privacy.secure_random import SecureRandom, WordStream
from shared_model.privacy.summed_noise import section_of, sum_variance
from shared_model.protocol.arrays import Arrays
from shared_model.weighting import rate_factor_of

IntegerArrays = Mapping[str, npt.NDArray[np.int64]]


class SummedUpdate:
    """The update of a round whose sites sent one secure sum; stands for ``RoundUpdates``.

    ``d = -lr * factor * (S / (2^f q N) + weight_decay * theta)`` by name, float64: S the opened
    sum (integers, signed), N the declared patients of the survivors (unit ``hospital``: ``q N``
    becomes the number of survivors), ``factor`` the plan's layered learning rates. One step of
    SGD on all patients of all hospitals; weight decay looks at no patient and is applied here.

    Guarantee: mode ``distributed``: the sum came noised, all this is post-processing. Mode
    ``central``: discrete Gaussian noise of deviation ``sigma C`` is added here, from the operating
    system, before anything is computed; the coordinator that runs this is trusted, must show or
    store nothing of ``total`` but this object, and must not compute it twice for one round once
    anything computed from the first was released. A round with fewer than ``min_survivors`` is
    void: ValueError, nothing is computed.

    Args:
        total: the opened sum by name; left as it is.
        survivors: names of the sites whose sums are in it: public.
        parameters: theta, the round's parameters.
        random: of the central noise; none: the operating system's. For tests.
        noised: ``total`` is what :func:`noised_total` made, so that no noise is added here.
    """

    def __init__(
        self,
        plan: FederationPlan,
        total: IntegerArrays,
        survivors: Collection[str],
        parameters: Arrays,
        random: WordStream | None = None,
        *,
        noised: bool = False,
    ) -> None:
        section, training = section_of(plan), plan.training
        entries = [plan.site(name) for name in sorted(set(survivors))]
        if len(entries) < section.min_survivors:
            raise ValueError(f"{len(entries)} survivors of {section.min_survivors}: a void round")
        if {n: v.shape for n, v in total.items()} != {n: v.shape for n, v in parameters.items()}:
            raise ValueError("the sum does not fit the parameters")
        self.weight = sum(plan.weights[entry.name] for entry in entries)
        units: float = len(entries)
        if plan.privacy.unit == "patient":
            units = training.sampling_rate * sum(entry.declared_patients for entry in entries)
        noise = None if noised else _central_noise(plan, random)
        scale = 2.0**-section.fraction_bits / units
        self._centre: dict[str, npt.NDArray[np.float64]] = {}
        for name in sorted(total):
            value = np.array(total[name], np.int64)
            if noise is not None:
                flat = value.reshape(-1)
                noise.add_to(flat)
                value = flat.reshape(value.shape)
            gradient = value.astype(np.float64) * scale
            gradient += training.weight_decay * parameters[name].astype(np.float64)
            rate = training.learning_rate * rate_factor_of(name, training.rate_factors)
            self._centre[name] = -rate * gradient

    def centre(self) -> Centre:
        """The update, float64, by name."""
        return self._centre

    def step(self, parameters: Arrays, learning_rate: float) -> dict[str, npt.NDArray[np.float32]]:
        """``theta + server learning rate * d``, rounded once to float32; raises SMR-E521."""
        return plain_step(parameters, self._centre, learning_rate)


def noised_total(
    plan: FederationPlan, total: npt.NDArray[np.int64], random: WordStream | None = None
) -> None:
    """Mode ``central``: add the coordinator's noise to the flat sum (P,), in place.

    Mode ``distributed``: nothing, the sum came noised. Once a round: whoever calls this keeps the
    result durably before anything is computed of it, and never calls it again for the round.
    """
    noise = _central_noise(plan, random)
    if noise is not None:
        noise.add_to(total)


def _central_noise(plan: FederationPlan, random: WordStream | None) -> DiscreteGaussian | None:
    if plan.privacy.mode != "central":
        return None
    return DiscreteGaussian(sum_variance(plan), SecureRandom() if random is None else random)


def add_modulo(sums: IntegerArrays, more: IntegerArrays) -> dict[str, npt.NDArray[np.int64]]:
    """Two sites' integers added modulo 2^64, as masked vectors are."""
    return {
        name: (value.view(np.uint64) + more[name].view(np.uint64)).view(np.int64)
        for name, value in sums.items()
    }
