"""Epsilon per patient: who was part of what, what newcomers owe, what the file keeps of them."""

from __future__ import annotations

import random
import sqlite3
import stat
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_plan_only import small_budget_plan

from client.privacy.ledger import Ledger
from client.privacy.per_patient import exposure_epsilon
from shared_model.errors import SmrfedError
from shared_model.privacy.accounting import MechanismUse, epsilon
from shared_model.privacy.plan_cost import Purpose

DELTA = 1e-5
USE = MechanismUse(8.0, 1.0, 1)
PLAN = small_budget_plan(8.0, epsilon_cap=500.0)


def charge(
    ledger: Ledger,
    number: int,
    patients: list[str],
    use: MechanismUse = USE,
    purpose: Purpose = "train",
) -> None:
    reservation = ledger.reserve("run", number, PLAN, use, purpose=purpose, patients=patients)
    ledger.commit(reservation)
    ledger.seal(reservation, "ab" * 32)


def times(count: int) -> float:
    return epsilon([MechanismUse(8.0, 1.0, count)], DELTA)


def test_a_patient_is_charged_for_the_releases_that_may_have_held_it_and_no_others(
    tmp_path: Path,
) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    charge(ledger, 1, ["a", "b"])
    charge(ledger, 2, ["a", "b", "newcomer"])
    charge(ledger, 3, ["b", "newcomer"])
    for patient, count in {"a": 2, "b": 3, "newcomer": 2, "stranger": 0}.items():
        assert ledger.spent(DELTA, patients=[patient]) == times(count)
    assert ledger.spent(DELTA) == times(3)
    levels = {exposure_epsilon(e, DELTA): n for e, n in ledger.exposures().items()}
    assert levels == {times(3): 1, times(2): 2}
    assert ledger.spent(DELTA, until=1) == times(1)


def test_training_and_test_patients_do_not_share_a_bill(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    for number in (1, 2):
        charge(ledger, number, ["a", "b"])
        charge(ledger, number, ["c"], MechanismUse(4.0, 1.0, 1), "evaluate")
    charge(ledger, 2, ["a", "b"], MechanismUse(16.0, 1.0, 1), "calibrate")
    trained = epsilon([MechanismUse(8.0, 1.0, 2), MechanismUse(16.0, 1.0, 1)], DELTA)
    tested = epsilon([MechanismUse(4.0, 1.0, 2)], DELTA)
    assert ledger.spent(DELTA, patients=["a"]) == trained
    assert ledger.spent(DELTA, patients=["c"]) == tested
    assert ledger.spent(DELTA) == max(trained, tested)
    with pytest.raises(SmrfedError, match="SMR-E306"):
        ledger.reserve("run", 2, PLAN, USE, purpose="evaluate", patients=["c"])


def test_the_cap_is_every_patients_own(tmp_path: Path) -> None:
    cap = times(2) * 1.01
    ledger = Ledger(tmp_path / "ledger.sqlite", max_epsilon=cap)
    charge(ledger, 1, ["a", "b"])
    charge(ledger, 2, ["a", "b"])
    before = ledger.verify()
    for patients in (["a"], ["newcomer", "b"]):
        with pytest.raises(SmrfedError, match="SMR-E302") as refusal:
            ledger.reserve("run", 3, PLAN, USE, patients=patients)
        assert f"{times(3) - cap:.4g}" in refusal.value.what
        assert "newcomer" not in str(refusal.value)
    assert ledger.verify() == before
    # Whoever joined later starts from nothing.
    charge(ledger, 3, ["newcomer"])
    charge(ledger, 4, ["newcomer", "another"])
    assert ledger.spent(DELTA, patients=["newcomer"]) == times(2)
    assert ledger.refusal(PLAN, [USE], ["another"]) is None
    assert ledger.refusal(PLAN, [USE, USE], ["another"]) is not None


def test_a_release_names_whom_it_touches(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    for nobody in ([], "sub-1"):
        with pytest.raises(ValueError, match="name them"):
            ledger.reserve("run", 1, PLAN, USE, patients=nobody)


def test_no_identifier_is_stored_and_a_cohort_is_stored_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    names = [f"sub-{number:05d}" for number in range(300)]
    for number in range(1, 6):
        draw = random.Random(number)
        charge(ledger, number, draw.sample(names, len(names)))
    charge(ledger, 6, names[1:])
    content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert not any(name.encode() in content for name in names)
    connection = sqlite3.connect(path)
    counts = connection.execute("SELECT cohort, count(*) FROM members GROUP BY cohort").fetchall()
    connection.close()
    assert sorted(count for _, count in counts) == [299, 300]
    key = tmp_path / "ledger.sqlite.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    # Two hospitals, or two ledgers, cannot be compared.
    other = Ledger(tmp_path / "other" / "ledger.sqlite")
    other.reserve("run", 1, PLAN, USE, patients=names)
    assert {e.cohort for e in other.entries()}.isdisjoint({e.cohort for e in ledger.entries()})


COHORT = st.frozensets(st.sampled_from("abcd"), min_size=1)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(COHORT, st.sampled_from([8.0, 12.0])), min_size=1, max_size=8))
def test_everybodys_epsilon_is_the_composition_of_their_own_releases(
    tmp_path_factory: pytest.TempPathFactory, releases: list[tuple[frozenset[str], float]]
) -> None:
    ledger = Ledger(tmp_path_factory.mktemp("ledger") / "ledger.sqlite")
    own: dict[str, Counter[float]] = {name: Counter() for name in "abcd"}
    for number, (cohort, noise) in enumerate(releases, start=1):
        ledger.reserve("run", number, PLAN, MechanismUse(noise, 1.0, 1), patients=sorted(cohort))
        for name in cohort:
            own[name][noise] += 1
    spent = {}
    for name, counts in own.items():
        uses = [MechanismUse(noise, 1.0, count) for noise, count in counts.items()]
        spent[name] = epsilon(uses, DELTA)
        assert ledger.spent(DELTA, patients=[name]) == spent[name]
    assert ledger.spent(DELTA) == max(spent.values())
    assert sum(ledger.exposures().values()) == sum(bool(counts) for counts in own.values())
