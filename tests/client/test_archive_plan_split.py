"""The plan decides how patients are split."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from small_site import small_plan

from client.archive.patients import Patient, Scan
from client.archive.plan_split import split_by_plan
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan


@pytest.fixture
def patients(tmp_path: Path) -> list[Patient]:
    out = []
    for number in range(40):
        path = tmp_path / f"{number}.nii"
        path.write_bytes(b"%d" % number)
        out.append(Patient(f"sub-{number}", None, (Scan("", path, number % 2, None),)))
    return out


def planned(mode: str, split: str) -> FederationPlan:
    data = small_plan(mode).model_dump(mode="json")
    data["evaluation"] |= {"split": split, "test_fraction": 0.25}
    return FederationPlan.parse(data)


def test_stratified_keeps_the_share_of_every_label(patients: list[Patient]) -> None:
    split = split_by_plan(patients, planned("none", "stratified"))
    assert Counter(p.label for p in split.test) == {0: 5, 1: 5}


def test_stratified_is_refused_under_privacy(patients: list[Patient]) -> None:
    with pytest.raises(SmrfedError, match="SMR-E234"):
        split_by_plan(patients, planned("local", "stratified"))
    assert split_by_plan(patients, planned("local", "independent")).train
