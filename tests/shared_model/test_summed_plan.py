"""Plans with a secure sum: what they may not say, what they cost, and under which trust."""

from __future__ import annotations

import math
from typing import Any

import dp_accounting
import numpy as np
import pytest
from dp_accounting import pld
from scipy import integrate, stats
from summed_plans import signing_key, summed_plan

from shared_model.aggregation.update_bound import update_norm_bound
from shared_model.enrolment.addendum import require_addable
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.privacy.accounting import MechanismUse
from shared_model.privacy.discrete_gaussian import DiscreteGaussian
from shared_model.privacy.plan_cost import calibrate_plan_noise, plan_epsilon, release_use
from shared_model.privacy.secure_random import SeededRandom
from shared_model.privacy.signal_to_noise import patients_needed, signal_to_noise
from shared_model.privacy.summed_noise import grid_delta, largest_sum, share_variance, sum_variance
from shared_model.privacy.trust import neighbouring_in_words, trust_in_words, unit_in_words


def sites(count: int, **changes: Any) -> dict[str, Any]:
    entries = [
        {"name": f"s{k}", "declared_patients": 20, "signing_key": signing_key(k)} | changes
        for k in range(count)
    ]
    return {"sites": entries}


SECURE = {"threshold": 3, "min_survivors": 3, "colluding": 0}

CONTRADICTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "no key": ({"federation": sites(4, signing_key=None)}, "has no signing_key"),
    "a key twice": ({"federation": sites(4, signing_key=signing_key(9))}, "belongs to 4 sites"),
    "no hexadecimal key": ({"federation": sites(4, signing_key="abc")}, "signing_key"),
    "one site": ({"federation": sites(1)}, "2 to 64 sites"),
    "65 sites": ({"federation": sites(65)}, "2 to 64 sites"),
    "low threshold": ({"secure_aggregation": SECURE | {"threshold": 2}}, "set it to 3 or more"),
    "threshold among colluders": (
        {"secure_aggregation": SECURE | {"colluding": 2}}, "set it to 4 or more",
    ),
    "few survivors": ({"secure_aggregation": SECURE | {"min_survivors": 2}}, "at least threshold"),
    "many survivors": ({"secure_aggregation": SECURE | {"min_survivors": 5}}, "every round is"),
    "nobody honest": (
        {"secure_aggregation": {"threshold": 4, "min_survivors": 4, "colluding": 4}},
        "found 4: a coordinator",
    ),
    "larger quorum": ({"federation": {"min_sites": 4}}, "federation.min_sites 4 exceeds"),
    "two steps": ({"training": {"local_steps": 2}}, "local_steps must be 1"),
    "adaptive": ({"privacy": {"clipping": "adaptive"}}, "clipping must be 'fixed'"),
    "median": (
        {"aggregation": {"rule": "median"}, "federation": {"weighting": "equal", "min_sites": 3}},
        "rule must be 'mean'",
    ),
    "norm bound": ({"aggregation": {"norm_bound": 1.0}}, "norm_bound must be left out"),
    "equal weights": ({"federation": {"weighting": "equal"}}, "must be 'declared_patients'"),
    "scaffold": (
        {"aggregation": {"control_variates": True}, "training": {"local_steps": 2}}, "local_steps",
    ),
    "fedprox": (
        {"aggregation": {"proximal_mu": 0.1}, "training": {"local_steps": 2}}, "local_steps",
    ),
    "mr-mtl": (
        {"aggregation": {"multi_task_lambda": 0.1}, "adaptation": {"personalise": "never"}},
        "MR-MTL",
    ),
    "private residual": ({"adaptation": {"personalise": "private"}}, "personalise 'private'"),
    "local norm": ({"adaptation": {"site_norm": "local"}}, "site_norm 'local'"),
    "no noise": ({"privacy": {"noise_multiplier": 0.0}}, "needs noise_multiplier > 0"),
    "coarse grid": ({"secure_aggregation": SECURE | {"fraction_bits": 24}}, "too few"),
    "no room": (
        {"secure_aggregation": SECURE | {"fraction_bits": 52}, "privacy": {"clipping_norm": 64.0}},
        "too many",
    ),
    "hospitals evaluated": (
        {
            "privacy": {"unit": "hospital"},
            "evaluation": {"release_every": 2, "release_noise_multiplier": 5.0},
        },
        "hides one patient",
    ),
    "hospitals by patients": (
        {"privacy": {"unit": "hospital"}, "federation": {"weighting": "declared_patients"}},
        "must be 'equal'",
    ),
    "small draws": (
        {"privacy": {"unit": "hospital"}, "training": {"sampling_rate": 0.01}}, "at least 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mode", ["distributed", "central"])
@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_contradictions_are_refused_with_field_found_and_remedy(mode: str, case: str) -> None:
    sections, said = CONTRADICTIONS[case]
    with pytest.raises(SmrfedError, match="SMR-E102") as refused:
        summed_plan(mode, **sections)
    assert said in str(refused.value.found)


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"secure_aggregation": SECURE}, "secure_aggregation has no meaning"),
        ({"federation": {"sites": [
            {"name": "a", "declared_patients": 5, "signing_key": signing_key(1)}]}},
         "signing_key has no meaning"),
        ({"privacy": {"noise_multiplier": 1.0, "unit": "hospital"}}, "unit 'hospital'"),
    ],
)  # fmt: skip
def test_what_other_modes_have_no_use_for_is_refused(sections: dict[str, Any], said: str) -> None:
    base = {
        "name": "local",
        "privacy": {"noise_multiplier": 1.0},
        "federation": {"sites": [{"name": "a", "declared_patients": 5}]},
    }
    with pytest.raises(SmrfedError, match="SMR-E102") as refused:
        FederationPlan.parse(base | sections)
    assert said in str(refused.value.found)
    base["privacy"] = {"mode": "central", "noise_multiplier": 1.0}
    with pytest.raises(SmrfedError, match="needs a section secure_aggregation"):
        FederationPlan.parse(base)


@pytest.mark.parametrize("mode", ["distributed", "central"])
@pytest.mark.parametrize(
    "sections",
    [
        {"aggregation": {"server_optimizer": "adam"}, "training": {"server_learning_rate": 0.01}},
        {"aggregation": {"server_optimizer": "yogi"}, "training": {"server_learning_rate": 0.01}},
        {"training": {"ema_decay": 0.9, "weight_decay": 0.01}},
        {"adaptation": {"site_moments": "shift", "moments_noise_multiplier": 3.0}},
        {"evaluation": {"release_every": 2, "release_noise_multiplier": 5.0}},
        {"calibration": {"rule": "prior_free", "noise_multiplier": 4.0}},
        {"privacy": {"unit": "hospital"}},
    ],
)
def test_what_comes_after_the_noise_or_has_its_own_is_allowed(
    mode: str, sections: dict[str, Any]
) -> None:
    plan = summed_plan(mode, **sections)
    assert FederationPlan.parse(plan.model_dump(mode="json")).digest == plan.digest


@pytest.mark.parametrize("mode", ["distributed", "central"])
@pytest.mark.parametrize("rate", [1.0, 0.3])
def test_the_cost_is_that_of_the_subsampled_gaussian_by_another_calculation(
    mode: str, rate: float
) -> None:
    plan = summed_plan(mode, training={"rounds": 12, "sampling_rate": rate})
    assert release_use(plan, "train") == MechanismUse(2.0, rate, 1)
    event = dp_accounting.SelfComposedDpEvent(
        dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(2.0)), 12
    )
    oracle = pld.PLDAccountant(value_discretization_interval=1e-4).compose(event)
    assert plan_epsilon(plan) == pytest.approx(oracle.get_epsilon(1e-5), rel=3e-3)
    noise = calibrate_plan_noise(plan, target_epsilon=3.0)
    private = plan.privacy.model_copy(update={"noise_multiplier": noise})
    assert 2.9 < plan_epsilon(plan.model_copy(update={"privacy": private})) <= 3.0


def test_a_hospital_is_in_every_round() -> None:
    plan = summed_plan(privacy={"unit": "hospital"}, training={"sampling_rate": 0.3})
    assert release_use(plan, "train") == MechanismUse(2.0, 1.0, 1)
    assert plan_epsilon(plan) > plan_epsilon(summed_plan(training={"sampling_rate": 0.3}))


def test_shares_of_the_fewest_honest_survivors_carry_the_whole_noise() -> None:
    secure = {"threshold": 4, "min_survivors": 4, "colluding": 1}
    plan = summed_plan(sites=5, secure_aggregation=secure, privacy={"clipping_norm": 0.5})
    assert sum_variance(plan) == (2.0 * 0.5 * 2.0**40) ** 2 + 16
    assert share_variance(plan) * 3 == pytest.approx(sum_variance(plan), rel=1e-15)
    central = summed_plan("central", sites=5, secure_aggregation=secure)
    assert share_variance(central) == sum_variance(central)
    # Chi-square of the released noise with shares of just those survivors: the bar.
    draws = sum(
        DiscreteGaussian(share_variance(plan), SeededRandom("survivor", k)).draw(100_000)
        for k in range(3)
    )
    deviation = plan.privacy.noise_multiplier * 0.5 * 2.0**40
    squares = float(np.square(draws / deviation).sum())
    assert 1e-3 < stats.chi2(100_000).cdf(squares) < 1 - 1e-3
    edges = stats.norm.ppf(np.linspace(0, 1, 101)) * deviation
    observed, _ = np.histogram(draws / 1.0, edges)
    assert stats.chisquare(observed).pvalue > 1e-3


def test_the_discrete_gaussian_is_a_rounded_gaussian_of_less_variance() -> None:
    """The lemma of summed_noise, integrated: N(0, s^2 - r^2), then discrete noise on the coset."""
    r2, s2 = 1.5**2, 6.0
    k = np.arange(-60, 61)

    def rounded(z: int) -> float:
        def integrand(x: float) -> float:
            weights = np.exp(-((k - x) ** 2) / (2 * r2))
            return float(
                stats.norm.pdf(x, scale=math.sqrt(s2 - r2))
                * math.exp(-((z - x) ** 2) / (2 * r2))
                / weights.sum()
            )

        return float(integrate.quad(integrand, -25, 25, epsabs=1e-14, epsrel=1e-12, limit=400)[0])

    density = np.exp(-(k**2) / (2 * s2))
    for z in (0, 1, 3, 7):
        exact = float(density[k == z][0] / density.sum())
        assert rounded(z) == pytest.approx(exact, rel=1e-9, abs=1e-15)


def test_the_grid_adds_next_to_nothing_to_delta() -> None:
    plan = summed_plan(sites=16, training={"rounds": 1000})
    assert 0 < grid_delta(plan, 8.0) < 1e-13
    assert grid_delta(plan, 8.0, 50_000) < grid_delta(plan, 8.0)
    assert largest_sum(plan) < 2.0**63


def test_one_noise_on_the_sum_beats_one_at_every_site_by_the_root_of_their_number() -> None:
    count, numbers = 16, 10_000
    secure = {"threshold": 16, "min_survivors": 16}
    plan = summed_plan(sites=count, secure_aggregation=secure)
    private = plan.privacy.model_copy(update={"mode": "local"})
    local = plan.model_copy(update={"privacy": private})
    summed, each = signal_to_noise(plan, numbers), signal_to_noise(local, numbers)
    assert summed is not None
    assert each is not None
    assert summed.federation / each.federation == pytest.approx(math.sqrt(count))
    assert summed.sites == each.sites
    needed = patients_needed(plan, numbers, target=summed.federation)
    assert needed == 20
    fewer = summed_plan(sites=count, secure_aggregation=secure | {"min_survivors": 16})
    assert signal_to_noise(fewer, numbers) == summed


def test_no_hospital_is_added_to_a_running_sum() -> None:
    with pytest.raises(SmrfedError, match="SMR-E594"):
        require_addable(summed_plan())


def test_no_bound_is_claimed_for_what_nobody_sees() -> None:
    assert update_norm_bound(summed_plan(), "a", 100) == math.inf


def test_the_trust_is_said() -> None:
    secure = {"threshold": 4, "min_survivors": 4, "colluding": 1}
    plan = summed_plan(sites=5, secure_aggregation=secure)
    said = trust_in_words(plan)
    assert "at most 1 of the hospitals may collude" in said
    assert "at least 3 honest hospitals" in said
    central = summed_plan("central", privacy={"unit": "hospital"})
    assert "trusted" in trust_in_words(central)
    assert "hospital" in unit_in_words(central)
    assert "patients of one hospital" in neighbouring_in_words(central)
    assert trust_in_words(plan) != trust_in_words(central)
