"""The headline says only what the intervals allow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_fixture import score, tiny_report

from simulations.report.headline import Statement, contrast, statements
from simulations.report.results import Comparison, FederationReport

THOUSANDTHS = st.integers(-1000, 1000).map(lambda value: value / 1000)
INTERVALS = st.tuples(THOUSANDTHS, THOUSANDTHS, THOUSANDTHS).map(sorted)
SHARES = st.integers(0, 1000).map(lambda value: value / 1000)


def the(report: FederationReport, beginning: str) -> Statement:
    (found,) = [s for s in statements(report) if s.text.startswith(beginning)]
    return found


def with_gains(*gains: tuple[str, list[float]]) -> FederationReport:
    sizes = {"north": 60, "harbour": 54, "hill": 48}
    return tiny_report(
        comparisons=[
            Comparison(
                arm="private", reference="alone", where=where, low=v[0], difference=v[1],
                high=v[2], n=sizes[where],
            )
            for where, v in gains
        ]
    )  # fmt: skip


def with_headline_score(where: str, low: float, middle: float, high: float) -> FederationReport:
    base = tiny_report()
    arm = base.arm("private")
    n = arm.scores[where].n
    new = score(middle, n).model_copy(update={"low": low, "high": high})
    arms = [
        a.model_copy(update={"scores": a.scores | {where: new}}) if a.key == "private" else a
        for a in base.arms
    ]
    return tiny_report(arms=[a.model_dump() for a in arms])


@given(north=INTERVALS, harbour=INTERVALS, hill=INTERVALS)
def test_a_gain_is_claimed_only_where_its_interval_excludes_zero(
    north: list[float], harbour: list[float], hill: list[float]
) -> None:
    values = {"north": north, "harbour": harbour, "hill": hill}
    report = with_gains(*values.items())
    said = the(report, "Learning together")
    gains = [name for name, v in values.items() if v[0] > 0]
    losses = [name for name, v in values.items() if v[2] < 0]
    assert f"a gain is shown for {len(gains)} of 3 hospitals" in said.text
    assert ("a loss for" in said.text) == bool(losses)
    assert ("neither gain nor loss is shown" in said.text) == (len(gains) + len(losses) < 3)
    for name in values:
        assert (name in said.text) == (name in gains or name in losses)
    assert said.verdict == ("against" if losses else "shown" if gains else "not shown")


@pytest.mark.parametrize("where", ["seen", "unseen"])
@given(values=st.tuples(SHARES, SHARES, SHARES).map(sorted))
def test_better_than_guessing_needs_the_whole_interval_above(
    where: str, values: list[float]
) -> None:
    low, middle, high = values
    report = with_headline_score(where, low, middle, high)
    place = "At hospitals that took part" if where == "seen" else "At a hospital that took no part"
    said = the(report, place)
    # What is claimed must follow from the digits that are printed.
    above, below = round(100 * low, 1) > 33.3, round(100 * high, 1) < 33.3
    assert (said.verdict == "shown") == above
    assert ("That is better than guessing." in said.text) == above
    assert (said.verdict == "against") == below
    assert ("is not shown" in said.text) == (not above and not below)


@pytest.mark.parametrize("noise", [1e-17, -1e-17, 4e-4])
def test_rounding_noise_is_no_evidence(noise: float) -> None:
    said = the(with_gains(("north", [noise, noise, noise])), "Learning together")
    assert said.verdict == "not shown"
    constant = with_headline_score("seen", 1 / 3 + noise, 1 / 3 + noise, 1 / 3 + noise)
    assert the(constant, "At hospitals that took part").verdict == "not shown"


@given(values=INTERVALS)
def test_the_order_of_a_comparison_does_not_matter(values: list[float]) -> None:
    low, middle, high = values
    one = with_gains(("north", [low, middle, high]))
    flipped = Comparison(
        arm="alone", reference="private", where="north",
        low=-high, difference=-middle, high=-low, n=60,
    )  # fmt: skip
    other = tiny_report(comparisons=[flipped])
    private, alone = one.arm("private"), one.arm("alone")
    assert contrast(one, private, alone, "north") == contrast(other, private, alone, "north")


def test_without_paired_differences_overlapping_intervals_show_nothing() -> None:
    report = tiny_report(comparisons=())
    private, demographics = report.arm("private"), report.arm("demographics")
    assert private.scores["seen"].low > demographics.scores["seen"].high - 0.2
    apart = contrast(report, private, report.arm("prior"), "seen")
    assert apart is not None
    assert apart.verdict == "shown"
    overlapping = contrast(report, private, report.arm("federated"), "seen")
    assert overlapping is not None
    assert overlapping.verdict == "not shown"
    # Touching is overlapping, however large the difference of the middles.
    low = report.arm("alone").scores["seen"].high
    touching = with_headline_score("seen", low, 0.9, 0.95).model_copy(update={"comparisons": ()})
    found = contrast(touching, touching.arm("private"), touching.arm("alone"), "seen")
    assert found is not None
    assert found.verdict == "not shown"


def test_a_loss_to_privacy_is_said() -> None:
    loss = Comparison(
        arm="private", reference="federated", where="unseen",
        difference=-0.1, low=-0.15, high=-0.04, n=66,
    )  # fmt: skip
    said = the(tiny_report(comparisons=[loss]), "The price of privacy")
    assert said.verdict == "against"
    assert "−10.0 percentage points" in said.text
    assert "A loss of accuracy is shown" in said.text


def test_an_exceeded_budget_is_a_warning() -> None:
    report = tiny_report()
    spent = [s.model_dump() for s in report.privacy]
    spent[1]["spent_epsilon"] = 8.2
    said = the(tiny_report(privacy=spent), "The privacy budget was exceeded at harbour")
    assert said.verdict == "warning"
    assert the(report, "Every training patient").verdict == "stated"


def test_a_control_above_guessing_is_a_warning() -> None:
    report = tiny_report()
    leaky = [
        a.model_copy(update={"scores": {"seen": score(0.6, 162)}}) if a.role == "shuffled" else a
        for a in report.arms
    ]
    said = the(tiny_report(arms=[a.model_dump() for a in leaky]), "Control")
    assert said.verdict == "warning"
    assert the(report, "Control").verdict == "stated"


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [
        ({"value": 3.0, "low": 2.0, "high": 4.0}, "shown"),
        ({"value": 3.0, "low": 0.9, "high": 4.0}, "not shown"),
        ({"value": 3.0}, "not shown"),
        ({"value": 0.5, "low": 0.3, "high": 0.8}, "against"),
    ],
)
def test_importance_above_chance_needs_its_interval(ratio: dict[str, float], verdict: str) -> None:
    told = tiny_report().explanations
    assert told is not None
    data = told.model_dump() | {"region_mass_ratio": ratio}
    assert the(tiny_report(explanations=data), "The regions that drove").verdict == verdict
