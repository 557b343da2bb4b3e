"""Verdicts: every limit, the site's outliers, and what a person may decide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quality_heads import HEADER, SHA, good_measures

from client.quality.admission import refusal
from client.quality.catalogue import BY_NAME, CATALOGUE
from client.quality.limits import Bounds, QualityLimits
from client.quality.outliers import judge_site, robust_z, site_outliers
from client.quality.overrides import Override
from client.quality.scan_measures import ScanMeasures
from client.quality.verdict import Reason, Verdict, count_results, judge_scan

LIMITS = QualityLimits()
BOUNDED = {
    name: bounds
    for name in QualityLimits.model_fields
    if isinstance(bounds := getattr(LIMITS, name), Bounds)
}
DOCS = Path(__file__).parents[2] / "docs" / "quality.md"


def changed(name: str, value: float) -> ScanMeasures:
    header = {
        "thickest_mm": {"spacing_mm": (1.0, 1.0, value), "shape": (176, 208, 300)},
        "finest_mm": {"spacing_mm": (1.0, 1.0, value), "shape": (176, 208, 3000)},
        "shortest_field_mm": {"spacing_mm": (1.0, 1.0, 1.0), "shape": (176, 208, int(value))},
        "grey_levels": {"grey_levels": int(value)},
    }
    if name in header:
        return good_measures(header=HEADER.model_copy(update=header[name]))
    return good_measures(**{name: value})


@pytest.mark.parametrize("name", BOUNDED)
def test_each_limit_divides_pass_review_and_fail(name: str) -> None:
    bounds = BOUNDED[name]
    cases = [
        (bounds.fail_below, -1, "fail"),
        (bounds.review_below, -1, "review"),
        (bounds.review_above, 1, "review"),
        (bounds.fail_above, 1, "fail"),
    ]
    for limit, side, result in cases:
        if limit is None:
            continue
        beyond = limit + side * max(0.01 * abs(limit), 1 if name in ("grey_levels",) else 1e-3)
        if name == "shortest_field_mm":
            beyond = limit + side
        verdict = judge_scan(changed(name, beyond), LIMITS)
        assert verdict.result == result
        reason = next(r for r in verdict.reasons if r.measure == name)
        assert reason.limit == limit
        assert reason.value == pytest.approx(beyond)
        assert reason.final == (bounds.final and result == "fail")
        assert BY_NAME[name].title in reason.text
        assert judge_scan(changed(name, limit), LIMITS).result != "fail"


def test_a_usual_scan_passes_without_a_reason() -> None:
    assert judge_scan(good_measures(), LIMITS) == Verdict(result="pass")
    stripped = good_measures(noise_percent=None, fber=None, already_stripped=True)
    assert judge_scan(stripped, LIMITS).result == "pass"


def test_the_phantom_fails_for_good() -> None:
    # What registration measured on a GE phantom in which deepbet finds 1624 ml of brain.
    verdict = judge_scan(good_measures(dice=0.64, correlation=0.24, brain_ml=1624), LIMITS)
    assert verdict.result == "fail"
    assert verdict.final
    assert [reason.id for reason in verdict.reasons] == ["dice-low", "correlation-low"]


def test_a_mirroring_registration_and_an_empty_grid_fail() -> None:
    assert judge_scan(good_measures(determinant=-1.2), LIMITS).final
    empty = good_measures(centre_shift_mm=None, lost_share=None)
    assert [r.id for r in judge_scan(empty, LIMITS).reasons] == ["outside-grid"]


def test_a_header_that_does_not_know_left_is_reviewed() -> None:
    header = HEADER.model_copy(update={"handedness_disagrees": True})
    verdict = judge_scan(good_measures(header=header), LIMITS)
    assert (verdict.result, verdict.reasons[0].id) == ("review", "left-right-unknown")


def test_limits_must_rise() -> None:
    with pytest.raises(ValueError, match="rise"):
        Bounds(fail_below=2, review_below=1)
    assert QualityLimits.model_validate_json(LIMITS.model_dump_json()) == LIMITS


def test_every_measure_has_a_title_and_a_place_in_the_docs() -> None:
    assert set(BOUNDED) <= set(BY_NAME)
    other = {"version", "header", "already_stripped", "background_zero_share", "edge_faces"}
    other |= {"absent"}
    derived = {"thickest_mm", "finest_mm", "shortest_field_mm", "grey_levels"}
    assert set(BY_NAME) == (set(ScanMeasures.model_fields) - other) | derived
    text = DOCS.read_text(encoding="utf-8")
    for name in (*BY_NAME, *other, *QualityLimits.model_fields):
        assert f"`{name}`" in text, name


def test_every_measure_says_what_is_bad() -> None:
    for measured in CATALOGUE:
        assert measured.hint
        assert measured.shown(None) == "n/a"


# --- outliers within a site -----------------------------------------------------------------------


def site(count: int, **odd: float) -> dict[str, ScanMeasures]:
    rng = np.random.default_rng(0)
    scans = {
        f"s{i}": good_measures(snr_white=14 + rng.normal(), efc=0.5 + 0.02 * rng.normal())
        for i in range(count)
    }
    scans["odd"] = good_measures(**odd)
    return scans


def test_a_scan_far_from_its_site_is_noted_and_still_passes() -> None:
    # One patient must not decide whether another is trained on: differential privacy.
    verdicts = judge_site(site(20, snr_white=7.0), LIMITS)
    (note,) = verdicts["odd"].reasons
    assert (note.id, note.level) == ("snr-white-outlier", "note")
    assert count_results(verdicts) == {"pass": 21, "review": 0, "fail": 0}
    # Better than the others is no reason.
    assert judge_site(site(20, snr_white=30.0), LIMITS)["odd"].reasons == ()


def test_few_scans_are_not_compared() -> None:
    assert site_outliers(site(6, snr_white=6.0), LIMITS) == {}
    assert "odd" in site_outliers(site(7, snr_white=6.0), LIMITS)


def test_failing_scans_do_not_move_the_median() -> None:
    scans = site(9, snr_white=7.0)
    failing = {f"f{i}": good_measures(dice=0.1, snr_white=6.0) for i in range(30)}
    verdicts = judge_site({**scans, **failing}, LIMITS)
    assert [r.id for r in verdicts["odd"].reasons] == ["snr-white-outlier"]
    assert [r.id for r in verdicts["f0"].reasons] == ["dice-low"]


def test_what_pairs_of_scans_gave_is_added() -> None:
    reason = Reason(id="same-brain", level="review", text="Alike.")
    verdicts = judge_site({"a": good_measures(), "b": good_measures()}, LIMITS, {"a": [reason]})
    assert verdicts["a"].reasons == (reason,)
    assert verdicts["b"].result == "pass"


@given(
    st.lists(st.floats(1, 100), min_size=3, max_size=40),
    st.floats(0.1, 50),
    st.sampled_from([0.0, 0.05]),
)
@settings(deadline=None)
def test_robust_z_does_not_depend_on_the_unit(
    values: list[float], unit: float, least: float
) -> None:
    named = {str(i): value for i, value in enumerate(values)}
    scores, median, spread = robust_z(named, least)
    assert spread >= least * median
    other, _, _ = robust_z({k: v * unit for k, v in named.items()}, least)
    if spread > 1e-9:
        for key, score in scores.items():
            assert other[key] == pytest.approx(score, rel=1e-6, abs=1e-6)


def test_a_very_even_site_has_no_outliers_by_a_hair() -> None:
    scans = {f"s{i}": good_measures(dice=0.9600 + 0.0001 * i) for i in range(12)}
    scans["odd"] = good_measures(dice=0.955)
    assert site_outliers(scans, LIMITS) == {}


# --- what may be used -----------------------------------------------------------------------------


def decision(kind: str, seen: str) -> Override:
    return Override.model_validate(
        {
            "number": 1, "time": "2026-01-01T00:00:00+00:00", "source_sha256": SHA,
            "decision": kind, "seen": seen, "who": "MTA", "why": "seen",
            "previous": "", "digest": "",
        }
    )  # fmt: skip


PASS = Verdict(result="pass")
REVIEW = judge_scan(good_measures(cnr=1.0), LIMITS)
SOFT_FAIL = judge_scan(good_measures(cnr=0.6), LIMITS)
HARD_FAIL = judge_scan(good_measures(dice=0.5), LIMITS)


@pytest.mark.parametrize(
    ("verdict", "override", "use", "code"),
    [
        (PASS, None, "pass", None),
        (PASS, decision("reject", "pass"), "pass", "SMR-E276"),
        (PASS, decision("reject", "pass"), "approved", "SMR-E276"),
        (REVIEW, None, "approved", "SMR-E275"),
        (REVIEW, decision("accept", "review"), "approved", None),
        (REVIEW, decision("accept", "review"), "pass", "SMR-E275"),
        (SOFT_FAIL, None, "approved", "SMR-E274"),
        (SOFT_FAIL, decision("accept", "fail"), "approved", None),
        # Accepted when it looked better than it does now.
        (SOFT_FAIL, decision("accept", "review"), "approved", "SMR-E274"),
        (HARD_FAIL, decision("accept", "fail"), "approved", "SMR-E274"),
    ],
)
def test_what_training_may_use(
    verdict: Verdict, override: Override | None, use: str, code: str | None
) -> None:
    refused = refusal(verdict, override, use)  # type: ignore[arg-type]
    assert (refused.code if refused else None) == code
