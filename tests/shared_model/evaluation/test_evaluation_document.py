"""The document: its figures are the metrics' own, arms are paired, and nothing is invented."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prediction_tables import LABELS, drawn_arms, drawn_table
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from shared_model.errors import SmrfedError
from shared_model.evaluation.document import evaluate
from shared_model.evaluation.flat import document_csv
from shared_model.evaluation.model_card import ModelFacts, model_card
from shared_model.evaluation.page import STAYS, evaluation_page
from shared_model.evaluation.results import (
    SEEN,
    UNSEEN,
    EvaluationDocument,
    Privacy,
    Provenance,
)
from shared_model.evaluation.sentences import sentences
from shared_model.evaluation.writing import read_evaluation, write_evaluation

DRAWS = 200


@pytest.fixture(scope="module")
def document() -> EvaluationDocument:
    return evaluate(
        drawn_arms(),
        draws=DRAWS,
        trained_on=["site-a/other"],
        provenance=Provenance(synthetic=True, command="made by a test"),
    )


def test_the_figures_are_scikit_learns(document: EvaluationDocument) -> None:
    table = drawn_arms()["federated"]
    for where, rows in ((SEEN, table.seen), (UNSEEN, ~table.seen)):
        y, p = table.label[rows], table.probability[rows]
        found = document.arm("federated").groups[where].metrics
        assert found["balanced_accuracy"].value == pytest.approx(
            balanced_accuracy_score(y, p.argmax(1))
        )
        assert found["macro_auc"].value == pytest.approx(
            roc_auc_score(y, p, multi_class="ovr", average="macro")
        )
        for one in found.values():
            if one.low is not None and one.high is not None and one.value is not None:
                assert one.low <= one.value <= one.high


def test_groups_spread_and_worst_site_follow_from_the_sites(document: EvaluationDocument) -> None:
    arm = document.arm("federated")
    sites = ["site-a", "site-b", "site-c", "site-d"]
    assert set(arm.groups) == {SEEN, UNSEEN, *sites}
    values = {s: arm.groups[s].metrics["balanced_accuracy"].value or 0.0 for s in sites}
    (spread,) = [s for s in arm.spread if (s.metric, s.where) == ("balanced_accuracy", SEEN)]
    assert spread.mean == pytest.approx(np.mean(list(values.values())))
    assert spread.worst_site == min(values, key=lambda site: values[site])
    assert spread.gap == pytest.approx(max(values.values()) - min(values.values()))
    (worst_ece,) = [s for s in arm.spread if (s.metric, s.where) == ("ece", SEEN)]
    eces = [arm.groups[s].metrics["ece"].value or 0.0 for s in sites]
    assert worst_ece.worst == pytest.approx(max(eces))


def test_differences_are_paired_on_the_same_draws() -> None:
    table = drawn_table(1.2)
    twin = evaluate({"one": table, "two": table}, draws=DRAWS)
    for one in twin.differences:
        assert (one.difference.value, one.difference.low, one.difference.high) == (0, 0, 0)
        assert one.p == 1
    shuffled = table.rows(np.random.default_rng(0).permutation(len(table)))
    mixed = evaluate({"one": table, "two": shuffled}, draws=DRAWS)
    assert mixed.differences == twin.differences


def test_holm_never_lowers_p_and_families_are_by_metric(document: EvaluationDocument) -> None:
    sums = [
        d for d in document.differences if d.metric == "macro_auc" and d.where in (SEEN, UNSEEN)
    ]
    assert len(sums) == 3
    smallest = min(sums, key=lambda d: d.p or 1.0)
    assert smallest.p is not None
    assert smallest.p_holm == pytest.approx(min(1.0, 3 * smallest.p))
    for one in document.differences:
        assert one.p is None or (one.p_holm is not None and one.p_holm >= one.p)


def test_every_hospital_has_its_gain_over_training_alone(document: EvaluationDocument) -> None:
    assert document.alone == "alone"
    gains = {
        d.where
        for d in document.differences
        if d.reference == "alone" and d.metric == "balanced_accuracy"
    }
    assert gains == {SEEN, "site-a", "site-b", "site-c", "site-d"}
    assert any("Does every hospital gain" in one.text for one in sentences(document))


def test_subgroups_with_few_patients_of_a_class_show_nothing(document: EvaluationDocument) -> None:
    table = drawn_arms()["federated"]
    groups = {(s.column, s.value): s for s in document.subgroups if s.where == SEEN}
    for sex in "FM":
        rows = np.array([s == sex for s in table.sex]) & table.seen
        enough = np.bincount(table.label[rows], minlength=3).min() >= 20
        assert groups["sex", sex].suppressed == (not enough)
        assert bool(groups["sex", sex].metrics) == enough
    hidden = [s for s in document.subgroups if s.suppressed]
    assert hidden
    page = evaluation_page(document)
    assert "too few of a class" in page
    real = evaluate(drawn_arms(), draws=DRAWS)
    assert all(s.patients is None for s in real.subgroups if s.suppressed)
    for column in ("sex", "age", "field strength", "vendor"):
        for where in (SEEN, UNSEEN):
            some = [s for s in real.subgroups if (s.column, s.where) == (column, where)]
            missing = column == "vendor"
            assert sum(s.suppressed for s in some) + missing != 1 or len(some) == 1


def test_the_roc_of_real_patients_does_not_show_their_steps() -> None:
    open_, real = (
        evaluate({"one": drawn_table(1.0)}, draws=DRAWS, provenance=Provenance(synthetic=flag))
        for flag in (True, None)
    )
    assert all(len(curve.x) == 21 for one in real.curves for curve in one.roc)
    assert all(len(curve.x) > 21 for one in open_.curves for curve in one.roc)


def test_conversion_is_that_of_mci_with_a_known_course(document: EvaluationDocument) -> None:
    table = drawn_arms()["federated"]
    found = document.arm("federated").conversion[SEEN]
    rows = table.seen & (table.label == 1)
    course = np.array([str(c) for c in table.progression])[rows]
    known = course != "uMCI"
    assert (found.progressed, found.stable) == (
        (course == "pMCI").sum(),
        (course == "sMCI").sum(),
    )
    assert found.unknown == (course == "uMCI").sum()
    risk = table.probability[rows][known, 2]
    assert found.auc.value == pytest.approx(roc_auc_score(course[known] == "pMCI", risk))
    assert found.sensitivity.value == pytest.approx((risk[course[known] == "pMCI"] >= 0.5).mean())


def test_another_case_mix_is_bayes_rule(document: EvaluationDocument) -> None:
    group = document.arm("federated").groups[SEEN]
    sensitivity = [one.value or 0.0 for one in group.per_class["sensitivity"]]
    (shift,) = [p for p in document.prevalence if p.where == SEEN and p.name == "equal shares"]
    assert shift.accuracy == pytest.approx(np.mean(sensitivity))
    confusion = np.array(group.confusion)
    rows = confusion / confusion.sum(1, keepdims=True) / 3
    assert shift.ppv[0].value == pytest.approx(rows[0, 0] / rows[:, 0].sum())


def test_a_perfect_proportion_still_has_an_interval() -> None:
    table = drawn_table(1.0)
    perfect = replace(table, probability=np.eye(3)[table.label])
    group = evaluate({"one": perfect}, draws=DRAWS).arm("one").groups[SEEN]
    for one in group.per_class["sensitivity"]:
        assert one.value == one.high == 1
        assert one.low is not None
        assert 0.9 < one.low < 1


def test_a_class_that_nobody_has_gives_no_figure_and_no_crash(tmp_path: Path) -> None:
    table = drawn_table(1.0).at("site-a", "site-b")
    without = table.rows(table.label != 2)
    document = evaluate({"one": without, "two": without}, draws=DRAWS)
    group = document.arm("one").groups[SEEN]
    assert group.metrics["balanced_accuracy"].value is None
    assert group.per_class["sensitivity"][2].value is None
    assert all(d.p is None for d in document.differences if d.metric == "balanced_accuracy")
    write_evaluation(document, tmp_path)


def test_one_patient_alone_can_be_evaluated(tmp_path: Path) -> None:
    document = evaluate({"one": drawn_table(1.0).rows([0])}, draws=100)
    write_evaluation(document, tmp_path)
    assert evaluation_page(document)


def test_the_same_tables_and_seed_give_the_same_document(document: EvaluationDocument) -> None:
    again = evaluate(
        drawn_arms(),
        draws=DRAWS,
        trained_on=["site-a/other"],
        provenance=Provenance(synthetic=True, command="made by a test"),
    )
    assert again.model_copy(update={"created": document.created}) == document
    other = evaluate(drawn_arms(), draws=DRAWS, seed=1)
    assert (
        other.arm("federated").groups[SEEN].metrics["macro_auc"].low
        != document.arm("federated").groups[SEEN].metrics["macro_auc"].low
    )


def test_arms_with_other_patients_diagnoses_or_classes_are_refused() -> None:
    table = drawn_table(1.0)
    others = {
        "fewer": table.rows(np.arange(len(table) - 1)),
        "renamed": replace(table, patient=("x", *table.patient[1:])),
        "other diagnosis": replace(table, label=(table.label + 1) % 3),
        "other classes": replace(table, labels=("A", "B", "C")),
        "other role": replace(table, seen=np.ones(len(table), dtype=bool)),
    }
    for name, other in others.items():
        with pytest.raises(SmrfedError) as refused:
            evaluate({"one": table, "two": other}, draws=100)
        assert refused.value.code == "SMR-E614", name
        assert name == "other classes" or "'two' and 'one'" in refused.value.what
    whole_site = table.rows(np.array([s != "site-a" for s in table.site]))
    partial = evaluate({"one": table, "two": whole_site}, draws=100)
    compared = {d.where for d in partial.differences}
    assert SEEN not in compared
    assert {UNSEEN, "site-b", "site-c", "site-d"} == compared
    assert any("not compared" in note for note in partial.notes)


def test_training_patients_among_the_tested_are_refused() -> None:
    table = drawn_table(1.0)
    with pytest.raises(SmrfedError, match="SMR-E615") as refused:
        evaluate({"one": table}, draws=100, trained_on=[table.patient[7], "somebody"])
    assert table.patient[7] in str(refused.value.found)
    unchecked = evaluate({"one": table}, draws=100)
    assert not unchecked.overlap.checked
    assert any("not checked" in one.text for one in sentences(unchecked))


def test_unknown_arms_and_impossible_prevalences_are_refused() -> None:
    table = drawn_table(1.0)
    with pytest.raises(SmrfedError, match="SMR-E610"):
        evaluate({}, draws=100)
    for options in (
        {"headline": "none"},
        {"alone": "none"},
        {"prevalences": {"x": (0.5, 0.5)}},
        {"prevalences": {"x": (0.5, 0.6, -0.1)}},
    ):
        with pytest.raises(SmrfedError, match="SMR-E616"):
            evaluate({"one": table}, draws=100, **options)  # type: ignore[arg-type]


def test_json_and_csv_hold_the_figures(document: EvaluationDocument, tmp_path: Path) -> None:
    written = write_evaluation(document, tmp_path)
    assert read_evaluation(written.json) == document
    rows = list(csv.DictReader(io.StringIO(document_csv(document))))
    (row,) = [
        r
        for r in rows
        if (r["kind"], r["arm"], r["where"], r["metric"], r["class"])
        == ("figure", "federated", "unseen", "sensitivity", "AD")
    ]
    expected = document.arm("federated").groups[UNSEEN].per_class["sensitivity"][2]
    assert (float(row["value"]), float(row["low"])) == (expected.value, expected.low)
    with pytest.raises(SmrfedError, match="SMR-E618"):
        read_evaluation(tmp_path / "none.json")


def test_the_page_needs_nothing_else_and_escapes_what_it_is_given() -> None:
    table = drawn_table(1.0)
    bad = "<script>alert(1)</script>"
    renamed = replace(table, vendor=tuple(bad if v else None for v in table.vendor))
    page = evaluation_page(evaluate({"one": renamed}, titles={"one": bad}, title=bad, draws=100))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "src=" not in page
    assert "url(" not in page
    for anchor in ("accuracy", "classes", "calibration", "selective", "patients", "method"):
        assert f'id="{anchor}"' in page


def test_the_card_says_what_nobody_stated_and_hides_small_hospitals() -> None:
    real = evaluate(drawn_arms(), draws=DRAWS)
    card = model_card(real, ModelFacts(architecture="a | b"))
    assert card.count("not stated") >= 6
    assert "a | b" not in card
    assert "a \\| b" in card
    small = [s for s in real.patients if min(s.class_patients) < 20]
    assert small
    for site in small:
        lines = [line for line in card.splitlines() if line.startswith(f"| {site.site} |")]
        assert lines
        assert all("too few of a class" in line for line in lines)
    private = Privacy(
        mode="local", epsilon=7.9, delta=1e-5, unit="patient", neighbouring="one", trust="nobody"
    )
    assert "7.900" in model_card(real.model_copy(update={"privacy": private}))


def test_what_stays_says_so_and_gets_no_card(tmp_path: Path) -> None:
    stays = evaluate({"one": drawn_table(1.0)}, draws=100, scope="stays")
    assert STAYS.split(":")[0] in evaluation_page(stays)
    assert write_evaluation(stays, tmp_path).card is None
    assert not (tmp_path / "model_card.md").exists()
    with pytest.raises(ValueError, match="must not leave"):
        model_card(stays)


def test_no_figure_changes_with_the_order_of_classes_names() -> None:
    table = drawn_table(1.0)
    order = [2, 0, 1]
    turned = replace(
        table,
        labels=tuple(LABELS[i] for i in order),
        label=np.array([order.index(y) for y in table.label]),
        probability=table.probability[:, order],
    )
    one = evaluate({"a": table}, draws=100).arm("a").groups[SEEN]
    two = evaluate({"a": turned}, draws=100).arm("a").groups[SEEN]
    for name in ("balanced_accuracy", "macro_auc", "brier_score", "mcc"):
        assert one.metrics[name].value == pytest.approx(two.metrics[name].value)
