"""A site's part of a round in modes ``distributed`` and ``central``: integers for a secure sum."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from client.privacy.composition import refuse_unsound, site_moves_in_rounds
from client.training.augmentation.patients import AugmentedPatients
from client.training.augmentation.views import PlannedViews
from client.training.deterministic import secret_draws
from client.training.examples import PatientExamples
from client.training.flat_parameters import FlatParameters
from client.training.integer_sum import IntegerPatientSum
from client.training.patient_gradients import patient_gradients
from client.training.site_loss import site_loss
from client.training.site_model import SiteModel
from shared_model.adaptation.moments import SiteMoments
from shared_model.aggregation.secure_section import MOST_NUMBERS
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.privacy.discrete_gaussian import DiscreteGaussian
from shared_model.privacy.secure_random import SecureRandom, Words
from shared_model.privacy.summed_noise import section_of, share_variance

_log = logging.getLogger(__name__)


class SumRandom(Protocol):
    """What a site's part needs of a source of randomness."""

    def select(self, count: int, rate: float) -> npt.NDArray[np.intp]:
        """Indices out of ``count`` that each joined independently with probability ``rate``."""
        ...

    def words(self, count: int) -> Words:
        """``(count,)`` independent uniform 64-bit words."""
        ...


def shared_sum(
    site_model: SiteModel,
    examples: Sequence[PatientExamples],
    plan: FederationPlan,
    site_name: str,
    round_number: int,
    run_id: str,
    moments: Mapping[str, SiteMoments] | None = None,
    random: SumRandom | None = None,
) -> dict[str, npt.NDArray[np.int64]]:
    """The clipped patient-sum at the shared parameters that ``site_model`` holds, int64, by name.

    Numbers are gradients times ``2^fraction_bits`` (unit ``hospital``: the hospital's mean). Mode
    ``distributed``: this site's share of the discrete Gaussian noise is in them; mode ``central``:
    none is. Either way they may leave **masked only**
    (:mod:`shared_model.secure_aggregation`): the sum of at least ``min_survivors`` sites, noised,
    is as private as :func:`shared_model.privacy.summed_noise` says, and
    ``release_use(plan, "train")`` is what the caller reserves in the ledger first; a share alone
    protects nobody. An empty draw gives noise like any other. Nothing else leaves: no loss, count,
    norm or size of the draw.

    ``random`` is for tests; none: the operating system's. Raises SMR-E104 (site not in the plan),
    SMR-E304 (the plan voids its own guarantee) and SMR-E317 (too many parameters for one sum).
    """
    refuse_unsound(plan)
    section, entry = section_of(plan), plan.site(site_name)
    names = site_model.groups["shared"]
    sizes = [parameter.numel() for parameter in site_model.parameters(names)]
    require_summable(sum(sizes))
    if not site_moves_in_rounds(plan):
        # The composition rule: what was fitted to patients without noise must not steer a release.
        site_model.reset_site()
    site_model.train_only(names)
    site_model.model.train()
    random = SecureRandom() if random is None else random
    views = PlannedViews.of(plan)
    seen = examples if views is None else AugmentedPatients(examples, views, round_number, 0)
    drawn = random.select(len(seen), plan.training.sampling_rate)
    patients = [seen[index] for index in drawn]
    flat = FlatParameters(site_model.parameters(names))
    try:
        sums = IntegerPatientSum(
            patient_gradients(site_model, names, flat, site_loss(plan, site_name, moments)),
            sum(sizes),
            clipping_norm=plan.privacy.clipping_norm,
            fraction_bits=section.fraction_bits,
        )
        with secret_draws(site_model.device):
            if plan.privacy.unit == "hospital":
                denominator = plan.training.sampling_rate * entry.declared_patients
                total = sums.of_hospital(patients, denominator)
            else:
                total = sums.of_patients(patients)
    finally:
        flat.close()
    if sums.zeroed_patients:
        _log.warning(
            "run %s, round %d: %d patient gradients were not finite and counted as zero",
            run_id, round_number, sums.zeroed_patients,
        )  # fmt: skip
    if plan.privacy.mode == "distributed":
        DiscreteGaussian(share_variance(plan), random).add_to(total)
    parts = np.split(total, np.cumsum(sizes)[:-1])
    shapes = site_model.shared_shapes
    return {name: part.reshape(shapes[name]) for name, part in zip(names, parts, strict=True)}


def require_summable(numbers: int) -> None:
    """Raise SMR-E317 when a model has more shared parameters than a secure sum may hold."""
    if numbers > MOST_NUMBERS:
        raise SmrfedError(
            "SMR-E317",
            "the model has more shared parameters than a secure sum may hold",
            expected=f"at most {MOST_NUMBERS:,}",
            found=f"{numbers:,}",
            remedy="freeze more of the model in the plan's [groups], or take privacy mode 'local'",
        )
