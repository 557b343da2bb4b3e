"""Tables of predictions: strict, exact in and out, and every mistake has its number."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prediction_tables import LABELS, drawn_table

from shared_model.errors import SmrfedError
from shared_model.evaluation.table import PredictionTable
from shared_model.evaluation.table_file import from_json, read_csv, to_csv, to_json, write_csv

SMALL = drawn_table(1.0, patients=12)


def same(one: PredictionTable, other: PredictionTable) -> bool:
    texts = ("labels", "patient", "site", "sex", "vendor", "progression")
    numbers = ("label", "probability", "seen", "age", "field_strength_t", "scans")
    return all(getattr(one, n) == getattr(other, n) for n in texts) and all(
        np.array_equal(
            getattr(one, n), getattr(other, n), equal_nan=n in ("age", "field_strength_t")
        )
        for n in numbers
    )


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    patients=st.integers(1, 30),
    text=st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=12),
)
def test_csv_and_json_give_the_same_bits_back(
    tmp_path_factory: pytest.TempPathFactory, seed: int, patients: int, text: str
) -> None:
    table = drawn_table(1.0, seed, patients, cohort=seed)
    age = table.age.copy()
    age[0] = np.nan
    vendor = None if text in ("n/a",) else text
    table = replace(table, age=age, vendor=(vendor, *table.vendor[1:]))
    path = tmp_path_factory.mktemp("table") / "arm.csv"
    write_csv(table, path)
    assert same(read_csv(path), table)
    assert same(from_json(to_json(table)), table)


def test_only_what_is_needed_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "arm.csv"
    path.write_text("patient,site,label,seen,p_CN,p_AD\na,x,AD,yes,0.25,0.75\n")
    table = read_csv(path)
    assert table.labels == ("CN", "AD")
    assert table.sex == (None,)
    assert np.isnan(table.age).all()
    assert table.scans.tolist() == [1]


def _edit(change: Callable[[list[str]], list[str]]) -> Callable[[str], str]:
    return lambda text: "\n".join(change(text.splitlines())) + "\n"


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("SMR-E610", lambda _: ""),
        ("SMR-E610", _edit(lambda lines: lines[:1])),
        ("SMR-E610", _edit(lambda lines: [*lines, "a,b"])),
        ("SMR-E611", lambda text: text.replace("patient,", "who,", 1)),
        ("SMR-E611", lambda text: text.replace(",age,", ",aeg,", 1)),
        ("SMR-E611", lambda text: text.replace("p_MCI", "p_CN", 1)),
        ("SMR-E611", lambda text: text.replace("p_", "q_")),
        ("SMR-E612", lambda text: text.replace(",yes,", ",maybe,", 1)),
        ("SMR-E612", lambda text: re.sub(r",site-\w,", ",one,", text)),
        ("SMR-E612", lambda text: text.replace(",CN,", ",SMC,", 1)),
        ("SMR-E612", lambda text: text.replace(",M,", ",male,", 1)),
        ("SMR-E612", lambda text: text.replace(",0.", ",1.", 1)),
        ("SMR-E612", lambda text: text.replace(",0.", ",-0.", 1)),
        ("SMR-E612", lambda text: text.replace(",0.", ",a0.", 1)),
        ("SMR-E612", lambda text: text.replace("sMCI", "xMCI").replace("pMCI", "xMCI")),
        ("SMR-E613", _edit(lambda lines: [*lines, lines[1]])),
    ],
)
def test_a_mistake_in_a_file_is_told_by_number_and_file(
    tmp_path: Path, code: str, change: Callable[[str], str]
) -> None:
    path = tmp_path / "arm.csv"
    text = to_csv(SMALL)
    changed = change(text)
    assert changed != text
    path.write_text(changed)
    with pytest.raises(SmrfedError) as refused:
        read_csv(path)
    assert refused.value.code == code
    assert str(path) in refused.value.render()


def test_probabilities_that_do_not_sum_to_one_name_the_patient() -> None:
    p = SMALL.probability.copy()
    p[3] *= 1.01
    with pytest.raises(SmrfedError, match="sum to one") as refused:
        replace(SMALL, probability=p)
    assert SMALL.patient[3] in str(refused.value.found)
    assert refused.value.code == "SMR-E612"
    p[3] = np.nan
    with pytest.raises(SmrfedError, match="SMR-E612"):
        replace(SMALL, probability=p)
    rounded = SMALL.probability.round(4)
    assert len(replace(SMALL, probability=rounded)) == 12


def test_a_file_that_is_not_there_and_a_json_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(SmrfedError, match="SMR-E610"):
        read_csv(tmp_path / "none.csv")
    with pytest.raises(SmrfedError, match="SMR-E610"):
        from_json("{}")


def test_scans_of_a_visit_become_one_row_with_their_mean() -> None:
    person = ["a", "b", "a", "c"]
    scans = replace(SMALL.rows([0, 1, 2, 3]), scans=np.ones(4, dtype=np.int64))
    same_visit = replace(
        scans,
        label=np.array([0, 1, 0, 2]),
        site=("x", "x", "x", "y"),
        seen=np.ones(4, dtype=bool),
    )
    table = PredictionTable.from_scans(same_visit, person)
    assert table.patient == ("a", "b", "c")
    assert table.scans.tolist() == [2, 1, 1]
    np.testing.assert_array_equal(table.probability[0], scans.probability[[0, 2]].mean(0))
    torn = replace(same_visit, label=np.array([0, 1, 1, 2]))
    with pytest.raises(SmrfedError, match="SMR-E612"):
        PredictionTable.from_scans(torn, person)


def test_leave_one_site_out_takes_everybody_from_the_model_that_never_saw_the_hospital() -> None:
    whole = drawn_table(1.0)
    folds = []
    for left_out in ("site-a", "site-b"):
        fold = drawn_table(1.0, seed=ord(left_out[-1])).at("site-a", "site-b")
        folds.append(replace(fold, seen=np.array([s != left_out for s in fold.site])))
    joined = PredictionTable.leave_one_site_out(folds)
    assert sorted(joined.patient) == sorted(whole.at("site-a", "site-b").patient)
    assert not joined.seen.any()
    place = {patient: i for i, patient in enumerate(folds[1].patient)}
    for patient, site, p in zip(joined.patient, joined.site, joined.probability, strict=True):
        if site == "site-b":
            np.testing.assert_array_equal(p, folds[1].probability[place[patient]])
    with pytest.raises(SmrfedError, match="SMR-E613"):
        PredictionTable.leave_one_site_out([folds[0], folds[0]])
    with pytest.raises(SmrfedError, match="SMR-E610"):
        PredictionTable.leave_one_site_out([replace(folds[0], seen=np.ones(len(folds[0]), bool))])


def test_labels_are_those_of_the_columns() -> None:
    assert SMALL.labels == LABELS
    with pytest.raises(SmrfedError, match="SMR-E614"):
        PredictionTable.join([SMALL, replace(SMALL, labels=("CN", "MCI", "X"))])
