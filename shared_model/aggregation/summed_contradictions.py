"""What a plan in mode ``distributed`` or ``central`` may not say, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from shared_model.aggregation.secure_section import MOST_NUMBERS, SecureAggregationSection
from shared_model.privacy.clipping_margin import CLIPPING_MARGIN
from shared_model.privacy.summed_noise import (
    SMALLEST_SHARE,
    largest_sum,
    share_variance,
    sum_variance,
)
from shared_model.secure_aggregation.block import MOST_SITES, quorum_is_safe

if TYPE_CHECKING:
    from shared_model.plan import FederationPlan


def summed_contradictions(plan: FederationPlan) -> Iterator[str]:
    """Every contradiction, with field, found value and remedy."""
    section = plan.secure_aggregation
    if not plan.privacy.summed:
        mode = plan.privacy.mode
        if section is not None:
            yield (
                f"secure_aggregation has no meaning in privacy.mode {mode!r}: leave the section "
                "out, or set privacy.mode to 'distributed' or 'central'"
            )
        for site in plan.federation.sites:
            if site.signing_key is not None:
                yield (
                    f"federation.sites {site.name!r}: signing_key has no meaning in privacy.mode "
                    f"{mode!r}: leave it out"
                )
        return
    if section is None:
        yield (
            f"privacy.mode {plan.privacy.mode!r} needs a section secure_aggregation with "
            "threshold, min_survivors and colluding"
        )
        return
    yield from _sites(plan)
    yield from _thresholds(plan, section)
    yield from _one_sum(plan)
    yield from _own_terms(plan)
    yield from _hospital(plan)
    yield from _numbers(plan, section)


def _sites(plan: FederationPlan) -> Iterator[str]:
    sites = plan.federation.sites
    if not 2 <= len(sites) <= MOST_SITES:
        yield (
            f"federation.sites: a secure sum needs 2 to {MOST_SITES} sites; found {len(sites)}: "
            "alone, a site takes mode 'local'"
        )
    for site in sites:
        if site.signing_key is None:
            yield (
                f"federation.sites {site.name!r} has no signing_key: in mode "
                f"{plan.privacy.mode!r} every hospital accepts, with the plan, whose keys may "
                "certify masks; add the hospital's Ed25519 public key as 64 hexadecimal digits"
            )
    counts = Counter(site.signing_key for site in sites if site.signing_key is not None)
    for key, count in counts.items():
        if count > 1:
            yield (
                f"federation.sites: signing_key {key[:16]}... belongs to {count} sites; each has "
                "its own"
            )


def _thresholds(plan: FederationPlan, section: SecureAggregationSection) -> Iterator[str]:
    count, colluding = len(plan.federation.sites), section.colluding
    threshold, survivors = section.threshold, section.min_survivors
    if not quorum_is_safe(count, threshold, colluding):
        yield (
            f"secure_aggregation.threshold must be above (sites + colluding) / 2 = "
            f"({count} + {colluding}) / 2; found {threshold}: a coordinator that tells two groups "
            f"of sites two different sums would open both; set it to {_least(count, colluding)} "
            "or more"
        )
    if survivors < threshold:
        yield (
            f"secure_aggregation.min_survivors must be at least threshold {threshold}; found "
            f"{survivors}: fewer could not open the sum anyway"
        )
    if max(threshold, survivors) > count:
        yield (
            f"secure_aggregation: threshold {threshold} and min_survivors {survivors} must be at "
            f"most the {count} sites, or every round is void"
        )
    if section.honest_survivors < 1:
        yield (
            f"secure_aggregation.colluding must be below min_survivors {survivors}; found "
            f"{colluding}: nobody's noise could be counted on"
        )
    if plan.federation.min_sites > survivors:
        yield (
            f"federation.min_sites {plan.federation.min_sites} exceeds "
            f"secure_aggregation.min_survivors {survivors}, which is what makes a round void: set "
            "it to that or less"
        )


def _least(count: int, colluding: int) -> int:
    return (count + colluding) // 2 + 1


def _one_sum(plan: FederationPlan) -> Iterator[str]:
    """What leaves is one sum of clipped vectors; the server sees no update of one site."""
    mode, aggregation = plan.privacy.mode, plan.aggregation
    if plan.training.local_steps != 1:
        yield (
            f"training.local_steps must be 1 in privacy.mode {mode!r}; found "
            f"{plan.training.local_steps}: the second step would start from what one site's "
            "patients say without their full noise; take mode 'local', or more rounds"
        )
    if plan.privacy.clipping != "fixed":
        yield (
            f"privacy.clipping must be 'fixed' in privacy.mode {mode!r}; found "
            f"{plan.privacy.clipping!r}: a site's own count of clipped patients has no noise that "
            "protects it alone"
        )
    if aggregation.rule != "mean":
        yield (
            f"aggregation.rule must be 'mean' in privacy.mode {mode!r}; found "
            f"{aggregation.rule!r}: a robust rule looks at single updates, which nobody sees"
        )
    if aggregation.norm_bound is not None:
        yield (
            f"aggregation.norm_bound must be left out in privacy.mode {mode!r}; found "
            f"{aggregation.norm_bound:g}: nobody sees the norm of one site's update"
        )
    needed = "declared_patients" if plan.privacy.unit == "patient" else "equal"
    if plan.federation.weighting != needed:
        yield (
            f"federation.weighting must be {needed!r} in privacy.mode {mode!r} with unit "
            f"{plan.privacy.unit!r}; found {plan.federation.weighting!r}: in the sum every "
            f"{plan.privacy.unit} counts the same"
        )


def _own_terms(plan: FederationPlan) -> Iterator[str]:
    """What one site would keep for itself needs noise of its own, and there is a share only."""
    mode, aggregation, adaptation = plan.privacy.mode, plan.aggregation, plan.adaptation
    for field, on in (
        ("aggregation.control_variates (SCAFFOLD)", aggregation.control_variates),
        ("aggregation.multi_task_lambda (MR-MTL)", aggregation.multi_task_lambda is not None),
        ("aggregation.proximal_mu (FedProx)", aggregation.proximal_mu > 0),
    ):
        if on:
            yield (
                f"{field} must be left out in privacy.mode {mode!r}: it works on a site's own "
                "steps, and a site takes none; take mode 'local'"
            )
    if adaptation.personalise == "private":
        yield (
            f"adaptation.personalise 'private' is refused in privacy.mode {mode!r}: the site's "
            "residual would need the full noise of mode 'local'; set it to 'after' or 'never'"
        )
    if adaptation.site_norm == "local":
        yield (
            f"adaptation.site_norm 'local' is refused in privacy.mode {mode!r}: it would train "
            "without noise between releases; set it to 'off', 'shared' or 'residual'"
        )


def _hospital(plan: FederationPlan) -> Iterator[str]:
    if plan.privacy.unit != "hospital":
        return
    for field, on in (
        ("evaluation.release_every", plan.evaluation.release_every > 0),
        ("calibration", plan.calibration.releases),
        ("adaptation.site_moments", plan.adaptation.site_moments != "off"),
    ):
        if on:
            yield (
                f"{field} is refused with privacy.unit 'hospital': its noise hides one patient, "
                "not a hospital; leave it out, or set unit to 'patient'"
            )
    rate = plan.training.sampling_rate
    for site in plan.federation.sites:
        if rate * site.declared_patients < 1:
            yield (
                f"privacy.unit 'hospital' needs sampling_rate * declared_patients of at least 1; "
                f"found {rate:g} * {site.declared_patients} at {site.name!r}: raise sampling_rate"
            )


def _numbers(plan: FederationPlan, section: SecureAggregationSection) -> Iterator[str]:
    """The grid must be fine beside the noise and the clip, and the sum must fit in 64 bits."""
    if section.honest_survivors < 1:
        return
    bits, norm = section.fraction_bits, plan.privacy.clipping_norm
    least = MOST_NUMBERS**0.5 / 2 / CLIPPING_MARGIN
    if norm * 2.0**bits < least or (
        plan.privacy.noise_multiplier > 0 and share_variance(plan) < SMALLEST_SHARE**2
    ):
        yield (
            f"secure_aggregation.fraction_bits {bits} is too few for clipping_norm {norm:g} and "
            f"noise_multiplier {plan.privacy.noise_multiplier:g}: raise it"
        )
    if largest_sum(plan) >= 2.0**63 or sum_variance(plan) >= 2.0**96:
        yield (
            f"secure_aggregation.fraction_bits {bits} is too many: the sum of "
            f"{sum(s.declared_patients for s in plan.federation.sites)} declared patients and the "
            "noise would not fit in 64 bits; lower it"
        )
