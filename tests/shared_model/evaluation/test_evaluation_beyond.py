"""Beyond predictions: trace of the hospital, worse scans, recalibration, attacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prediction_tables import LABELS, drawn_arms, drawn_table
from sklearn.metrics import balanced_accuracy_score, log_loss

from shared_model.errors import SmrfedError
from shared_model.evaluation.beyond import Attack, AttackRate, Audit
from shared_model.evaluation.document import Beside, evaluate
from shared_model.evaluation.estimate import Estimate
from shared_model.evaluation.flat import document_csv
from shared_model.evaluation.page import evaluation_page
from shared_model.evaluation.provenance import privacy_of
from shared_model.evaluation.results import SEEN, UNSEEN, EvaluationDocument, Provenance
from shared_model.evaluation.sentences import sentences
from shared_model.evaluation.side_tables import (
    CorruptedTable,
    Embeddings,
    read_corrupted,
    read_embeddings,
    write_corrupted,
    write_embeddings,
)
from shared_model.evaluation.table import PredictionTable
from shared_model.evaluation.writing import read_evaluation, write_evaluation
from shared_model.metrics.temperature import fitted_temperature, with_temperature
from simulations.demo.settings import DemoSettings, demo_plan

DRAWS = 100


def embedded(table: PredictionTable, trace: float, model: str = "") -> Embeddings:
    rng = np.random.default_rng(3)
    z = rng.normal(size=(len(table), 6))
    z[:, 0] += trace * np.array([ord(site[-1]) for site in table.site])
    # The diagnosis is in the embedding: it must not be taken for the hospital.
    z[:, 1] += 4 * table.label
    return Embeddings(
        (model,) * len(table),
        table.patient,
        table.site,
        tuple(table.labels[y] for y in table.label),
        np.zeros(len(table), dtype=bool),
        z,
    )


def worse(table: PredictionTable, shares: dict[int, float], kind: str = "noise") -> CorruptedTable:
    """Probabilities mixed with those of the next class, so that more decisions are wrong."""
    parts = [(1 - s) * table.probability + s * np.roll(table.probability, 1, axis=1)
             for s in shares.values()]  # fmt: skip
    n = len(table)
    return CorruptedTable(
        table.labels,
        (kind,) * (n * len(shares)),
        np.repeat(list(shares), n),
        table.patient * len(shares),
        np.concatenate(parts),
    )


def audit(members: int = 40) -> Audit:
    rate = AttackRate(
        false_positive_rate=0.01,
        true_positive_rate=Estimate(value=0.05, low=0.01, high=0.17),
        resolved=True,
    )
    attack = Attack(
        title="Loss, with privacy", members=members, outsiders=40, suppressed=False,
        auroc=Estimate(value=0.51, low=0.4, high=0.6), rates=(rate,),
    )  # fmt: skip
    return Audit(
        command="smrfed-sim audit", smrfed="0", patients=80, claimed_epsilon=8.0, delta=1e-5,
        epsilon_at_least=1.2, refuted=False, attacks=(attack,),
    )  # fmt: skip


@pytest.fixture(scope="module")
def document() -> EvaluationDocument:
    arms = drawn_arms()
    table = arms["federated"]
    trained = [f"{site}/t{i}" for site in ("site-a", "site-b") for i in range(3)]
    return evaluate(
        arms,
        draws=DRAWS,
        headline="federated",
        trained_on=trained,
        provenance=Provenance(synthetic=True),
        privacy=privacy_of(demo_plan(DemoSettings(), {"site-a": 60, "site-b": 60}, "local"), 7.9),
        beside=Beside(
            {"federated": embedded(table, 3.0), "alone": embedded(table, 0.0)},
            {"federated": worse(table, {1: 0.1, 3: 0.6, 5: 0.9})},
            audit(),
        ),
    )


def test_a_trace_of_the_hospital_is_found_and_the_diagnosis_is_not_one(
    document: EvaluationDocument,
) -> None:
    told, without = document.site_probes
    for probe in (told, without):
        assert probe.within_chance == pytest.approx(1 / 5)
        assert {one.label for one in probe.by_class} == set(LABELS)
    assert told.within.low is not None
    assert told.within.low > 0.6
    assert told.pooled.value is not None
    assert told.pooled.value > 0.8
    assert without.within.low is not None
    assert without.within.low < 0.2 < (without.within.high or 0) + 0.05
    assert without.pooled.value is not None
    assert without.pooled.value < 0.3
    (sentence,) = [s for s in sentences(document) if "betray" in s.text]
    assert sentence.verdict == "against"


def test_two_models_are_two_spaces() -> None:
    table = drawn_table(1.0)
    one, two = embedded(table, 3.0, "seed 1"), embedded(table, 3.0, "seed 2")
    both = Embeddings(
        one.model + two.model, one.patient * 2, one.site * 2, one.label * 2,
        np.concatenate([one.trained] * 2), np.concatenate([one.z, -two.z]),
    )  # fmt: skip
    document = evaluate({"a": table}, draws=DRAWS, provenance=Provenance(synthetic=True),
                        beside=Beside({"a": both}))  # fmt: skip
    first, second = document.site_probes
    assert (first.model, second.model) == ("seed 1", "seed 2")
    assert first.within.value == pytest.approx(second.within.value, abs=0.02)


def test_worse_scans_are_scored_on_the_same_patients(document: EvaluationDocument) -> None:
    table = drawn_arms()["federated"]
    bad = worse(table, {3: 0.6})
    for where, seen in ((SEEN, True), (UNSEEN, False)):
        rows = np.flatnonzero(table.seen == seen)
        one, clean = (
            next(o for o in document.robustness if (o.where, o.severity) == (where, severity))
            for severity in (3, 0)
        )
        y = table.label[rows]
        expected = balanced_accuracy_score(y, bad.probability[rows].argmax(1))
        before = balanced_accuracy_score(y, table.probability[rows].argmax(1))
        assert one.balanced_accuracy.value == pytest.approx(expected)
        assert clean.balanced_accuracy.value == pytest.approx(before)
        assert one.change.value == pytest.approx(expected - before)
        assert one.negative_log_likelihood.value == pytest.approx(
            log_loss(y, bad.probability[rows], labels=[0, 1, 2])
        )
        assert one.patients == len(rows)
        assert clean.change.value is None
    assert any("On scans made worse" in s.text and s.verdict == "against"
               for s in sentences(document))  # fmt: skip


def test_equal_answers_change_nothing_and_nothing_is_said_to_be_lost() -> None:
    table = drawn_table(1.0)
    document = evaluate({"a": table}, draws=DRAWS, provenance=Provenance(synthetic=True),
                        beside=Beside({}, {"a": worse(table, {1: 0.0})}))  # fmt: skip
    (change,) = {(o.change.value, o.change.low, o.change.high)
                 for o in document.robustness if o.severity}  # fmt: skip
    assert change == (0, 0, 0)
    assert any("no kind" in s.text for s in sentences(document))


def test_of_real_patients_small_groups_are_hidden() -> None:
    table = drawn_table(1.0)
    beside = Beside({"a": embedded(table, 3.0)}, {"a": worse(table, {1: 0.5})}, audit(members=12))
    shown = evaluate({"a": table}, draws=DRAWS, beside=beside)
    unseen = [one for one in shown.robustness if one.where == UNSEEN]
    assert min(np.bincount(table.label[~table.seen])) < 20
    assert all(one.suppressed and one.patients is None for one in unseen)
    assert {one.balanced_accuracy.value for one in unseen} == {None}
    assert not any(one.suppressed for one in shown.robustness if one.where == SEEN)
    (probe,) = shown.site_probes
    for one in probe.by_class:
        own = table.label == LABELS.index(one.label)
        many = {
            site
            for site in table.sites
            if sum(own[i] and s == site for i, s in enumerate(table.site)) >= 20
        }
        assert set(one.sites) == many
    assert any(len(one.sites) < 5 for one in probe.by_class)
    assert shown.audit is not None
    (attack,) = shown.audit.attacks
    assert attack.suppressed
    assert (attack.members, attack.auroc.value, attack.rates) == (None, None, ())
    assert "Robustness is hidden" in " ".join(shown.notes)


def test_what_does_not_belong_together_is_refused() -> None:
    table = drawn_table(1.0)
    good = worse(table, {1: 0.5, 3: 0.5})
    stranger = replace(good, patient=("site-a/nobody", *good.patient[1:]))
    fewer = replace(
        good, kind=good.kind[:-1], severity=good.severity[:-1], patient=good.patient[:-1],
        probability=good.probability[:-1],
    )  # fmt: skip
    other = replace(embedded(table, 0.0), label=("PD",) * len(table))
    for beside, code in (
        (Beside({}, {"b": good}), "SMR-E629"),
        (Beside({}, {"a": stranger}), "SMR-E629"),
        (Beside({}, {"a": fewer}), "SMR-E629"),
        (Beside({"a": other}), "SMR-E629"),
        (Beside({}, {"a": replace(good, labels=("CN", "MCI", "PD"))}), "SMR-E614"),
    ):
        with pytest.raises(SmrfedError, match=code):
            evaluate({"a": table}, draws=DRAWS, beside=beside)


def test_a_temperature_mends_probabilities_that_are_too_sure() -> None:
    table = drawn_table(1.0, patients=900)
    sure = with_temperature(table.probability, 0.3)
    document = evaluate({"a": replace(table, probability=sure)}, draws=DRAWS)
    here = next(one for one in document.recalibration if one.where == SEEN)
    for name in ("negative_log_likelihood", "ece"):
        assert here.after[name].value < 0.8 * here.before[name].value
    for site, t in here.temperature.items():
        rows = [i for i, s in enumerate(table.site) if s == site]
        assert t == pytest.approx(fitted_temperature(table.label[rows], sure[rows]))


def test_page_csv_and_json_hold_all_of_it(document: EvaluationDocument, tmp_path: Path) -> None:
    page = evaluation_page(document)
    for text in (
        "Can the hospital be told",
        "When scans are worse",
        "What attacks could show",
        "After a temperature",
        "Noise multiplier",
        "each patient with probability",
    ):
        assert text in page  # fmt: skip
    for kind in ("site probe", "corrupted scans", "attack", "after a local temperature"):
        assert f"\n{kind}," in document_csv(document)
    trained = {site.site: site.trained_on for site in document.patients}
    assert trained["site-a"] == 3
    assert trained["site-c"] == 0
    written = write_evaluation(document, tmp_path)
    assert read_evaluation(written.json) == document
    bare = evaluate({"a": drawn_table(1.0)}, draws=DRAWS)
    assert "robustness is not evaluated" in " ".join(bare.notes)
    assert 'id="domain"' not in evaluation_page(bare)


def test_side_tables_come_back_and_damage_is_told(tmp_path: Path) -> None:
    table = drawn_table(1.0)
    z, c = embedded(table, 1.0, "m"), worse(table, {2: 0.3})
    write_embeddings(z, tmp_path / "z.csv")
    write_corrupted(c, tmp_path / "c.csv")
    back, again = read_embeddings(tmp_path / "z.csv"), read_corrupted(tmp_path / "c.csv")
    assert back.patient == z.patient
    assert back.z == pytest.approx(z.z, rel=1e-5)
    assert again.severity.tolist() == c.severity.tolist()
    assert again.probability == pytest.approx(c.probability, abs=1e-5)
    text = (tmp_path / "c.csv").read_text()
    for bad in ("", text.splitlines()[0], text.replace("noise,2,", "noise,0,"),
                text.replace("noise,2,", "noise,x,"), text + text.splitlines()[1] + "\n",
                text.replace("severity", "strength")):  # fmt: skip
        (tmp_path / "bad.csv").write_text(bad)
        with pytest.raises(SmrfedError, match="SMR-E628"):
            read_corrupted(tmp_path / "bad.csv")
    with pytest.raises(SmrfedError, match="SMR-E628"):
        read_embeddings(tmp_path / "c.csv")
    with pytest.raises(SmrfedError, match="SMR-E628"):
        read_embeddings(tmp_path / "none.csv")
