"""The figures of a scenario against what the metrics say of the same patients by themselves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from shared_model.evaluation.estimate import Estimate
from shared_model.evaluation.table import PredictionTable
from shared_model.metrics import balanced_accuracy, macro_auc
from simulations.evaluation.noise_repeats import mean_over_repeats
from simulations.scenarios.readings import readings
from simulations.scenarios.resampling import ArmDraws, SharedDraws
from simulations.scenarios.results import Difference, Verdict

LABELS = ("CN", "MCI", "AD")
DRAWS = 300


def table(
    sites: dict[str, bool], seed: int, skill: float = 0.6, patients: int = 30
) -> PredictionTable:
    """Patients of some sites (seen or not); the model is right with probability ``skill``."""
    rng = np.random.default_rng([seed, int(100 * skill)])
    parts = []
    for site, seen in sites.items():
        label = np.arange(patients, dtype=np.int64) % 3
        probability = rng.dirichlet(np.ones(3), patients)
        right = rng.random(patients) < skill
        probability[right] = 0.1
        probability[right, label[right]] = 0.8
        parts.append(
            PredictionTable(
                LABELS,
                tuple(f"{site}/{i}" for i in range(patients)),
                (site,) * patients,
                label,
                probability,
                np.full(patients, seen),
            )
        )
    return PredictionTable.join(parts)


def arm(runs: dict[int, list[list[list[PredictionTable]]]], noise: int = 0) -> ArmDraws:
    return ArmDraws(runs, SharedDraws(DRAWS), noise)


def score(parts: Sequence[PredictionTable]) -> float:
    return balanced_accuracy(
        np.concatenate([t.label for t in parts]), np.concatenate([t.probability for t in parts])
    )


def test_a_federation_is_scored_over_its_hospitals_and_averaged_over_cohorts() -> None:
    sites = {"a": True, "b": True, "e": False}
    tables = {seed: table(sites, seed) for seed in (1, 2)}
    found = arm({seed: [[[t]]] for seed, t in tables.items()})
    seen, unseen, auc = found.pooled(True), found.pooled(False), found.auc(True)
    assert seen is not None
    assert unseen is not None
    assert auc is not None
    assert seen.shape == (1 + DRAWS,)
    assert seen[0] == pytest.approx(np.mean([score([t.at("a", "b")]) for t in tables.values()]))
    assert unseen[0] == pytest.approx(np.mean([score([t.at("e")]) for t in tables.values()]))
    home = [t.at("a", "b") for t in tables.values()]
    assert auc[0] == pytest.approx(np.mean([macro_auc(t.label, t.probability) for t in home]))
    by_site = {s: np.mean([score([t.at(s)]) for t in tables.values()]) for s in ("a", "b")}
    assert found.site(True, "a")[0] == pytest.approx(by_site["a"])
    worst = found.worst(True)
    assert worst is not None
    assert worst[0][0] == pytest.approx(min(by_site.values()))
    assert worst[1] == min(by_site, key=lambda s: by_site[s])
    assert found.worst(False) is None
    assert found.patients == {(True, "a"): 60, (True, "b"): 60, (False, "e"): 60}


def test_hospitals_alone_are_their_own_homes_and_the_mean_of_all_abroad() -> None:
    models = [table({home: True, "e": False}, seed) for seed, home in ((1, "a"), (2, "b"))]
    found = arm({7: [[models]]})
    seen, unseen, auc = found.pooled(True), found.pooled(False), found.auc(True)
    assert seen is not None
    assert unseen is not None
    assert auc is not None
    homes = [models[0].at("a"), models[1].at("b")]
    assert seen[0] == pytest.approx(score(homes))
    assert unseen[0] == pytest.approx(np.mean([score([m.at("e")]) for m in models]))
    joined = PredictionTable.join(homes)
    assert auc[0] == pytest.approx(macro_auc(joined.label, joined.probability))
    assert found.patients == {(True, "a"): 30, (True, "b"): 30, (False, "e"): 30}


def test_hospitals_that_are_left_out_in_turn_count_alike() -> None:
    names = ("a", "b", "c")
    federations = [[table({n: n != out for n in names}, seed)] for seed, out in enumerate(names)]
    found = arm({7: [federations]})
    unseen, seen = found.pooled(False), found.pooled(True)
    assert unseen is not None
    assert seen is not None
    alone = [score([m.at(out)]) for (m,), out in zip(federations, names, strict=True)]
    assert unseen[0] == pytest.approx(np.mean(alone))
    at_home = [score([m.rows(m.seen)]) for (m,) in federations]
    assert seen[0] == pytest.approx(np.mean(at_home))
    assert set(found.sites(False)) == set(found.sites(True)) == set(names)
    # Tested as seen in two federations, a patient is one patient.
    assert set(found.patients.values()) == {30}


def test_a_cohort_without_a_class_at_a_hospital_does_not_count_there() -> None:
    whole, other = table({"a": True, "b": True}, 1), table({"a": True, "b": True}, 2)
    lacking = other.rows([i for i in range(60) if other.site[i] == "b" or other.label[i] != 2])
    found = arm({1: [[[whole]]], 2: [[[lacking]]]})
    assert found.site(True, "a")[0] == pytest.approx(score([whole.at("a")]))
    both = np.mean([score([t.at("b")]) for t in (whole, other)])
    assert found.site(True, "b")[0] == pytest.approx(both)
    nowhere = arm({2: [[[lacking.at("a")]]]}).pooled(True)
    assert nowhere is not None
    assert np.isnan(nowhere).all()


def test_arms_share_draws_so_that_an_arm_never_differs_from_itself() -> None:
    shared = SharedDraws(DRAWS)
    runs = {3: [[[table({"a": True}, 3)]]]}
    one, same = (ArmDraws(runs, shared).pooled(True) for _ in range(2))
    assert one is not None
    assert np.array_equal(one, same)  # type: ignore[arg-type]
    assert one.std() > 0


def test_other_patients_are_not_compared() -> None:
    shared = SharedDraws(DRAWS)
    ArmDraws({3: [[[table({"a": True}, 3)]]]}, shared)
    with pytest.raises(ValueError, match="same patients"):
        ArmDraws({3: [[[table({"a": True}, 3, patients=27)]]]}, shared)


def test_the_interval_covers_the_truth() -> None:
    # Right with probability 0.6, and by chance in a third of the rest.
    truth, inside = 0.6 + 0.4 / 3, 0
    for trial in range(60):
        values = arm({trial: [[[table({"a": True}, trial, 0.6, patients=90)]]]}).pooled(True)
        assert values is not None
        low, high = np.quantile(values[1:], [0.025, 0.975])
        inside += low <= truth <= high
    # 95 % intervals, 60 trials: fewer than 49 inside has a probability below 1e-4.
    assert inside >= 49


def test_repeats_are_averaged_and_their_chance_is_in_the_interval() -> None:
    sites = {"a": True}
    good, bad = table(sites, 1, 0.9), table(sites, 1, 0.4)
    values = {n: arm({5: [[[t]] for t in ts]}).pooled(True) for n, ts in
              (("both", [good, bad]), ("good", [good]), ("bad", [bad]))}  # fmt: skip
    both, one, other = values["both"], values["good"], values["bad"]
    assert both is not None
    assert one is not None
    assert other is not None
    assert both[0] == pytest.approx((one[0] + other[0]) / 2)
    assert both[1:].std() > max(one[1:].std(), other[1:].std())


def test_resampled_repeats_have_the_variance_of_their_mean() -> None:
    rng = np.random.default_rng(1)
    repeats = np.repeat(rng.normal(size=(8, 1)), 20_000, axis=1)
    drawn = mean_over_repeats(repeats, np.random.default_rng(2))
    assert drawn.mean() == pytest.approx(repeats[:, 0].mean(), abs=0.01)
    assert drawn.var() == pytest.approx(repeats[:, 0].var() / 8, rel=0.05)
    single = mean_over_repeats(repeats[:1], np.random.default_rng(2))
    assert np.array_equal(single, repeats[0])


def difference(where: str, verdict: Verdict, half: float = 0.1, minus: str = "b") -> Difference:
    middle = {"higher": 0.2, "lower": -0.2, "not shown": 0.0}[verdict]
    return Difference(
        arm="a", minus=minus, where=where,
        difference=Estimate(value=middle, low=middle - half, high=middle + half),
        by_seed=(), p_value=None, p_holm=None, verdict=verdict,
    )  # fmt: skip


def test_where_a_change_does_not_help_is_said_first() -> None:
    told = readings(
        [
            difference("seen", "higher"),
            difference("unseen", "not shown"),
            difference("seen", "not shown", 0.01, "c"),
            difference("seen:north", "lower", minus="c"),
            difference("unseen", "not shown", minus="d"),
        ],
        {"a": "With", "b": "B", "c": "C", "d": "D"},
    )
    assert told == (
        "No gain shown: “With” against “C”: worse at north; no difference shown at hospitals "
        "that took part (the intervals end within 0.010: hardly any).",
        "No gain shown: “With” against “D”: no difference shown at hospitals left out (the "
        "intervals reach 0.10: it may be there).",
        "“With” against “B”: better at hospitals that took part; no difference shown at "
        "hospitals left out (the intervals reach 0.10: it may be there).",
    )
    assert readings([], {}) == ()
