"""The arms of a comparison: trained alike, predicted for the same patients, compared fairly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from small_federation import new_run, new_workspace, plan_of, write_archives
from small_site import small_atlas, small_model, small_plan, token_patients

from client.training.examples import PatientExamples
from client.training.site_model import SiteModel
from shared_model.atlas.select import load_atlas
from shared_model.metrics import balanced_accuracy
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import decode_arrays
from simulations.arms.arm import ArmResult, Arrays, LearningCurve, predict_everywhere
from simulations.arms.centralised import centralised_plan, shuffled, train_centralised
from simulations.arms.hospital import Hospital, load_hospital
from simulations.arms.neural_arms import alone_arm, pooled_arm, shuffled_arm
from simulations.evaluation.predictions import Predictions, compare
from simulations.evaluation.tables import comparisons, score, score_arm
from simulations.federation.run import run_in_process

CLASSES = 3
MEMBERS, HELD_OUT = ("north", "south"), ("abroad",)


def predictions(site: str, label: list[int], answers: list[int], sure: float = 0.8) -> Predictions:
    """Patients of one site, and the class that a model gives most of the probability to."""
    probability = np.full((len(label), CLASSES), (1 - sure) / (CLASSES - 1))
    probability[np.arange(len(label)), answers] = sure
    ids = tuple(f"{site}/p{number}" for number in range(len(label)))
    return Predictions(ids, np.asarray(label, dtype=np.int64), probability)


def arm_of(key: str, parts: Mapping[str, Predictions]) -> ArmResult:
    return ArmResult(key, key, "For a test.", "pooled", dict(parts))


# ---- training ------------------------------------------------------------------------------------


def test_central_training_is_the_federation_of_one_site_bit_for_bit(tmp_path: Path) -> None:
    plan = plan_of(["solo"])
    workspace = new_workspace(tmp_path / "sites", write_archives(tmp_path / "archives", ["solo"]))
    atlas = load_atlas(plan.atlas, plan.input.grid)
    federated = decode_arrays(
        run_in_process(plan, workspace, new_run(tmp_path / "run", plan), atlas).body
    )
    model = SiteModel.build(plan, atlas)
    initial = model.shared_arrays()
    hospital = load_hospital(workspace.site_config("solo"), plan, model)
    assert hospital.train
    assert hospital.test
    central = train_centralised(model, initial, hospital.train, plan)
    assert central.keys() == federated.keys()
    for name, value in federated.items():
        assert np.array_equal(central[name], value), name
    assert any(not np.array_equal(central[name], initial[name]) for name in initial)


def test_a_central_plan_keeps_the_schedule_and_drops_privacy_and_the_other_sites() -> None:
    plan = small_plan("local", training={"local_steps": 3, "server_learning_rate": 0.7})
    central = centralised_plan(plan, "pooled", 57)
    assert central.training == plan.training
    assert (central.groups, central.model, central.seed) == (plan.groups, plan.model, plan.seed)
    assert central.privacy.mode == "none"
    assert [(s.name, s.declared_patients) for s in central.federation.sites] == [("pooled", 57)]


def test_every_round_is_shown_and_the_last_one_is_returned() -> None:
    plan = centralised_plan(small_plan("none"), "pooled", 9)
    model = small_model(plan)
    seen: list[tuple[int, Arrays]] = []
    final = train_centralised(
        model,
        model.shared_arrays(),
        token_patients(model, 9),
        plan,
        lambda number, arrays: seen.append((number, arrays)),
    )
    assert [number for number, _ in seen] == [1, 2, 3]
    assert all(np.array_equal(seen[-1][1][name], final[name]) for name in final)
    assert any(not np.array_equal(seen[0][1][name], final[name]) for name in final)


def test_shuffling_moves_labels_between_patients_and_keeps_how_many_there_are() -> None:
    patients = token_patients(small_model(small_plan("none")), 31, scans=3)
    mixed = shuffled(patients, seed=4)
    assert [p.id for p in mixed] == [p.id for p in patients]
    assert all(new.inputs is old.inputs for new, old in zip(mixed, patients, strict=True))
    assert all(
        len(new.labels) == len(old.labels) and len(set(new.labels.tolist())) == 1
        for new, old in zip(mixed, patients, strict=True)
    )
    before = [int(p.labels[0]) for p in patients]
    after = [int(p.labels[0]) for p in mixed]
    assert sorted(before) == sorted(after)
    # Chance agreement is a third.
    assert np.mean(np.equal(before, after)) < 0.6
    assert [int(p.labels[0]) for p in shuffled(patients, seed=4)] == after
    assert [int(p.labels[0]) for p in shuffled(patients, seed=5)] != after


# ---- arms ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plan() -> FederationPlan:
    return small_plan("none", training={"rounds": 2, "learning_rate": 0.3})


@pytest.fixture(scope="module")
def model(plan: FederationPlan) -> SiteModel:
    return SiteModel.build(plan, small_atlas())


@pytest.fixture(scope="module")
def hospitals(model: SiteModel) -> list[Hospital]:
    def patients(seed: int, count: int, start: int) -> tuple[PatientExamples, ...]:
        return tuple(token_patients(model, count + start, seed)[start:])

    return [
        Hospital("north", False, (), (), patients(1, 9, 0), patients(1, 6, 9)),
        Hospital("south", False, (), (), patients(2, 12, 0), patients(2, 3, 12)),
        Hospital("abroad", True, (), (), (), patients(3, 6, 0)),
    ]


@pytest.fixture(scope="module")
def initial(model: SiteModel) -> Arrays:
    return model.shared_arrays()


def test_pooled_predicts_every_test_patient_once(
    model: SiteModel, initial: Arrays, hospitals: list[Hospital], plan: FederationPlan
) -> None:
    arm = pooled_arm(model, initial, hospitals, plan)
    assert list(arm.predictions) == ["north", "south", "abroad"]
    for hospital in hospitals:
        found = arm.predictions[hospital.name]
        assert found.patients == tuple(f"{hospital.name}/{p.id}" for p in hospital.test)
        assert found.label.tolist() == [int(p.labels[0]) for p in hospital.test]
        assert found.probability.sum(1) == pytest.approx(1)
    assert {where: [p.round for p in points] for where, points in arm.curves.items()} == {
        "seen": [1, 2],
        "unseen": [1, 2],
    }
    assert arm.shared is not None
    again = predict_everywhere(model, arm.shared, hospitals)
    for name, found in again.items():
        assert np.array_equal(found.probability, arm.predictions[name].probability)
    joined = Predictions.join([again["north"], again["south"]])
    assert arm.curves["seen"][-1].balanced_accuracy == pytest.approx(
        balanced_accuracy(joined.label, joined.probability)
    )


def test_alone_tests_at_home_and_asks_all_models_abroad(
    model: SiteModel, initial: Arrays, hospitals: list[Hospital], plan: FederationPlan
) -> None:
    arm = alone_arm(model, initial, hospitals, plan)
    assert {name: len(p.patients) for name, p in arm.predictions.items()} == {
        "north": 6,
        "south": 3,
        "abroad": 12,
    }
    for hospital in hospitals[:2]:
        own = train_centralised(
            model,
            dict(initial),
            hospital.train,
            centralised_plan(plan, hospital.name, len(hospital.train)),
        )
        expected = predict_everywhere(model, own, hospitals)
        home = arm.predictions[hospital.name]
        assert np.array_equal(home.probability, expected[hospital.name].probability)
        start = 0 if hospital.name == "north" else 6
        abroad = arm.predictions["abroad"]
        assert abroad.patients[start : start + 6] == expected["abroad"].patients
        assert np.array_equal(abroad.probability[start : start + 6], expected["abroad"].probability)


def test_the_control_differs_from_pooled_in_the_labels_alone(
    model: SiteModel, initial: Arrays, hospitals: list[Hospital], plan: FederationPlan
) -> None:
    control = shuffled_arm(model, initial, hospitals, plan)
    pooled = pooled_arm(model, initial, hospitals, plan)
    for name, found in control.predictions.items():
        assert found.patients == pooled.predictions[name].patients
        assert np.array_equal(found.label, pooled.predictions[name].label)
    # The tokens carry the label: whoever learns from true labels gives it more probability.
    own = [Predictions.join(list(a.predictions.values())) for a in (pooled, control)]
    true_class = [p.probability[np.arange(len(p.label)), p.label].mean() for p in own]
    assert true_class[0] > true_class[1]


def test_a_hospital_with_its_own_residual_is_predicted_with_it_and_others_without(
    model: SiteModel, initial: Arrays, hospitals: list[Hospital], plan: FederationPlan
) -> None:
    shared = train_centralised(
        model, dict(initial), hospitals[0].train, centralised_plan(plan, "north", 9)
    )
    own = {name: np.full_like(value, 0.7) for name, value in model.site_arrays().items()}
    plain = predict_everywhere(model, shared, hospitals)
    personal = predict_everywhere(model, shared, hospitals, {"south": own})
    for name in ("north", "abroad"):
        assert np.array_equal(plain[name].probability, personal[name].probability)
    assert not np.allclose(plain["south"].probability, personal["south"].probability)
    assert all(not value.any() for value in model.site_arrays().values())


def test_a_curve_has_no_point_where_no_hospital_is_or_a_class_lacks_patients(
    model: SiteModel, initial: Arrays, hospitals: list[Hospital]
) -> None:
    curve = LearningCurve(model, hospitals[:1])
    curve.add(1, initial)
    assert [point.round for point in curve.curves["seen"]] == [1]
    assert curve.curves["unseen"] == []
    first = hospitals[0]
    two_classes = tuple(p for p in first.test if int(p.labels[0]) != 2)
    incomplete = Hospital("north", False, (), (), first.train, two_classes)
    curve = LearningCurve(model, [incomplete])
    curve.add(1, initial)
    assert curve.curves["seen"] == []


# ---- scores --------------------------------------------------------------------------------------


def test_predictions_join_in_order() -> None:
    parts = [predictions("north", [0, 1], [0, 0]), predictions("south", [2], [2])]
    joined = Predictions.join(parts)
    assert joined.patients == ("north/p0", "north/p1", "south/p0")
    assert joined.label.tolist() == [0, 1, 2]
    assert joined.probability.argmax(1).tolist() == [0, 0, 2]


def test_the_score_of_several_models_is_their_mean_and_counts_patients_once() -> None:
    label = [0, 0, 1, 1, 2, 2]
    good = predictions("abroad", label, label)
    bad = predictions("abroad", label, [0, 1, 1, 2, 2, 0])
    single = [score(p, draws=50, seed=3) for p in (good, bad)]
    both = score(Predictions.join([good, bad]), draws=50, seed=3)
    assert both is not None
    assert single[0] is not None
    assert single[1] is not None
    assert (single[0].balanced_accuracy, single[1].balanced_accuracy) == (1.0, 0.5)
    assert both.balanced_accuracy == pytest.approx(0.75)
    assert both.n == 6
    assert np.sum(both.confusion) == 12
    assert both.macro_auc == pytest.approx(np.mean([s.macro_auc for s in single if s is not None]))
    # By hand: .8 sure, and right always or half of the time.
    assert [s.ece for s in single if s is not None] == pytest.approx([0.2, 0.3])
    right, wrong = 0.2**2 + 2 * 0.1**2, 0.8**2 + 0.9**2 + 0.1**2
    assert [s.brier for s in single if s is not None] == pytest.approx([right, (right + wrong) / 2])
    assert (both.ece, both.brier) == pytest.approx((0.25, (3 * right + wrong) / 4))
    # A resampled patient brings both answers: the spread is half of the worse model's.
    assert both.high - both.low == pytest.approx((single[1].high - single[1].low) / 2)


def test_a_group_without_every_class_has_no_score() -> None:
    assert score(predictions("north", [0, 1, 1], [0, 1, 1]), draws=20, seed=0) is None


def test_scores_exist_for_sites_seen_and_unseen_where_an_arm_was_there() -> None:
    label = [0, 1, 2, 0, 1, 2]
    everywhere = {name: predictions(name, label, label) for name in (*MEMBERS, *HELD_OUT)}
    full = score_arm(arm_of("a", everywhere), MEMBERS, HELD_OUT, 20, 0)
    assert set(full.scores) == {"north", "south", "abroad", "seen", "unseen"}
    assert full.scores["seen"].n == 12
    assert full.scores["unseen"].n == 6
    home = score_arm(arm_of("b", {"north": everywhere["north"]}), MEMBERS, HELD_OUT, 20, 0)
    assert set(home.scores) == {"north"}


def test_arms_are_compared_only_on_the_same_patients() -> None:
    label = [0, 1, 2, 0, 1, 2]
    wrong = [0, 1, 2, 1, 2, 0]
    ours = {name: predictions(name, label, label) for name in (*MEMBERS, *HELD_OUT)}
    theirs = {name: predictions(name, label, wrong) for name in (*MEMBERS, *HELD_OUT)}
    # Two models abroad: every patient twice, as the arm of hospitals alone has it.
    theirs["abroad"] = Predictions.join([theirs["abroad"], theirs["abroad"]])
    fewer = {"north": predictions("north", label[:3], label[:3])}
    arms = {
        "ours": arm_of("ours", ours),
        "theirs": arm_of("theirs", theirs),
        "fewer": arm_of("fewer", fewer),
    }
    found = comparisons(arms, "ours", ["theirs", "fewer"], MEMBERS, HELD_OUT, 40, 1)
    assert [(c.reference, c.where) for c in found] == [
        ("theirs", "north"),
        ("theirs", "south"),
        ("theirs", "seen"),
    ]
    assert all(c.difference == pytest.approx(0.5) and c.low <= 0.5 <= c.high for c in found)
    with pytest.raises(ValueError, match="same patients"):
        compare("ours", "fewer", "north", ours["north"], fewer["north"], 10, 0)


def test_an_arm_compared_with_itself_differs_by_exactly_nothing() -> None:
    label = [0, 1, 2, 0, 1, 2]
    one = predictions("north", label, [0, 1, 1, 0, 2, 2])
    same = compare("a", "b", "north", one, one, 50, 0)
    assert (same.difference, same.low, same.high) == (0, 0, 0)


def test_training_an_arm_leaves_the_global_random_state_alone(
    model: SiteModel, initial: Arrays, hospitals: list[Hospital], plan: FederationPlan
) -> None:
    state = torch.random.get_rng_state()
    alone_arm(model, initial, hospitals, plan)
    assert torch.equal(torch.random.get_rng_state(), state)
