"""What training gets of a native archive: only what quality control admits, each patient alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from agent_site import opened
from filled_site import FAIL, LOST, PASS, REVIEW, fill, prints
from hypothesis import given, settings
from hypothesis import strategies as st
from native_site_fixture import (
    native_plan,
    t1w,
    write_scan,
)
from quality_heads import good_measures
from small_site import GRID, small_atlas

from client.agent.site_data import SiteData
from client.archive.patients import Patient, Scan
from client.commands.preparing import native_site
from client.prepared.assessment import assess
from client.prepared.native_store import NativeScan, NativeStore
from client.prepared.record import ScanRecord
from client.quality.fingerprint import mirrored
from client.quality.limits import QualityLimits
from client.quality.overrides import Override
from client.training.site_model import SiteModel
from shared_model.errors import SmrfedError


def trained(data: SiteData) -> set[str]:
    """Everybody who is trained or tested on."""
    train, test = {p.id for p in data.train}, {p.id for p in data.test}
    assert not train & test
    return train | test


def test_training_takes_what_is_admitted_and_nothing_else(tmp_path: Path) -> None:
    scans = [PASS] * 12
    scans[1], scans[2], scans[3], scans[4], scans[5] = REVIEW, REVIEW, FAIL, LOST, FAIL
    prepared = fill(tmp_path, scans)
    everybody = {f"sub-{n:02d}" for n in range(12)}
    assert trained(prepared.data()) == everybody - {
        "sub-01",
        "sub-02",
        "sub-03",
        "sub-04",
        "sub-05",
    }
    prepared.decide("sub-01", "accept", REVIEW)
    prepared.decide("sub-02", "reject", REVIEW)
    prepared.decide("sub-03", "accept", FAIL)
    prepared.decide("sub-06", "reject", PASS)
    with pytest.raises(SmrfedError, match="SMR-E270"):
        prepared.decide("sub-04", "accept", LOST)
    left_out = {"sub-02", "sub-04", "sub-05", "sub-06"}
    assert trained(prepared.data()) == everybody - left_out
    strict = native_plan(input={"quality": "pass"})
    assert trained(prepared.data(strict)) == everybody - left_out - {"sub-01", "sub-03"}


def test_what_is_not_prepared_stops_training(tmp_path: Path) -> None:
    prepared = fill(tmp_path, [PASS] * 10)
    recipe = native_site(prepared.site.hospital.config, prepared.site.hospital.plan).recipe
    volume = recipe.store._path(prepared.source("sub-03"), ".npy")
    content = volume.read_bytes()
    volume.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(SmrfedError, match="SMR-E286"):
        prepared.data().prepare()
    volume.write_bytes(content)
    prepared.data().prepare()
    with pytest.raises(SmrfedError, match="SMR-E286"):
        prepared.data(native_plan(input={"intensity": "quantile"})).prepare()
    write_scan(
        t1w(prepared.site.archive, "sub-03"), np.arange(8000, dtype=np.int16).reshape(20, 20, 20)
    )
    with pytest.raises(SmrfedError, match=r"SMR-E286(.|\n)*1 scans"):
        prepared.data().prepare()


def test_one_label_that_passes_is_too_little(tmp_path: Path) -> None:
    prepared = fill(tmp_path, [PASS, FAIL] * 5)
    with pytest.raises(SmrfedError, match=r"SMR-E288(.|\n)*5 patients; 10 scans"):
        prepared.data().prepare()


def test_a_round_of_the_real_agent_on_native_scans_gives_a_sealed_reply(tmp_path: Path) -> None:
    prepared = fill(tmp_path, [PASS, FAIL, PASS] * 6)
    hospital = prepared.site.hospital
    agent = hospital.agent()
    try:
        arrays = SiteModel.build(hospital.plan, small_atlas()).shared_arrays()
        header, delta = opened(agent, agent.handle(hospital.instruction(arrays)))
        assert (header.kind, header.round, header.site) == ("train", 1, "a")
        assert {k: v.shape for k, v in delta.items()} == {k: v.shape for k, v in arrays.items()}
        assert any(np.abs(v).max() > 0 for v in delta.values())
    finally:
        agent.close()
    assert (hospital.state.splits / f"{hospital.plan.digest}.json").exists()


# --- differential privacy: one patient more changes nobody else --------------------------------

RANGES = {
    "cnr": (0.5, 4.0),
    "snr_white": (2.0, 30.0),
    "brain_ml": (500.0, 2500.0),
    "dice": (0.85, 1.0),
    "correlation": (0.35, 0.8),
    "smoothness_mm": (1.0, 11.0),
    "white_over_grey": (0.95, 1.7),
}


@given(
    others=st.lists(
        st.fixed_dictionaries({k: st.floats(*r) for k, r in RANGES.items()}),
        min_size=19,
        max_size=24,
    ),
    more=st.fixed_dictionaries({k: st.floats(*r) for k, r in RANGES.items()}),
    decisions=st.dictionaries(
        st.integers(0, 24), st.sampled_from(["accept", "reject"]), max_size=5
    ),
    seed=st.integers(0, 1000),
)
@settings(max_examples=20, deadline=None)
def test_one_ordinary_patient_more_changes_the_admission_of_nobody(
    others: list[dict[str, float]], more: dict[str, float], decisions: dict[int, Any], seed: int
) -> None:
    everybody = [*others, more]
    fingerprints = prints(len(everybody), seed)
    # Some are mirrored: from twenty people on that is noted, and a note admits all the same.
    fingerprints[:3] = mirrored(fingerprints[:3])
    with TemporaryDirectory() as name:
        folder = Path(name)
        store = NativeStore(folder / "state", GRID, {})
        patients, overrides = [], {}
        for number, measures in enumerate(everybody):
            path = folder / f"{number}.nii"
            path.write_bytes(b"%d" % number)
            source = hashlib.sha256(b"%d" % number).hexdigest()
            record = ScanRecord(
                source_sha256=source, voxels_sha256=source, measures=good_measures(**measures)
            )
            store.save(NativeScan(record, fingerprint=fingerprints[number]))
            patients.append(Patient(f"sub-{number:02d}", None, (Scan("", path, 0, None),)))
            if number in decisions:
                overrides[source] = Override(
                    number=1, time="", source_sha256=source, decision=decisions[number],
                    seen="review", who="R", why="x", previous="", digest="",
                )  # fmt: skip
        for use in ("pass", "approved"):
            without, together = (
                assess(store, group, overrides, QualityLimits()).admitted(use)  # type: ignore[arg-type]
                for group in (patients[:-1], patients)
            )
            assert without == tuple(p for p in together if p.id != patients[-1].id)


def test_a_copy_under_a_second_name_is_the_exception_that_is_documented(tmp_path: Path) -> None:
    store = NativeStore(tmp_path / "state", GRID, {})
    fingerprints = prints(3)
    fingerprints[2] = fingerprints[0]
    patients = []
    for number in range(3):
        path = tmp_path / f"{number}.nii"
        path.write_bytes(b"%d" % number)
        source = hashlib.sha256(b"%d" % number).hexdigest()
        record = ScanRecord(source_sha256=source, voxels_sha256=source, measures=good_measures())
        store.save(NativeScan(record, fingerprint=fingerprints[number]))
        patients.append(Patient(f"sub-{number}", None, (Scan("", path, 0, None),)))

    def admitted(*group: Patient) -> list[str]:
        return [p.id for p in assess(store, group, {}, QualityLimits()).admitted("approved")]

    assert admitted(*patients[:2]) == ["sub-0", "sub-1"]
    assert admitted(*patients) == ["sub-1"]
    assert admitted(patients[2], patients[1]) == ["sub-2", "sub-1"]
    # The same file in two sessions of one person hurts nobody else.
    twice = replace(
        patients[1], scans=(patients[1].scans[0], replace(patients[1].scans[0], session="ses-2"))
    )
    assert admitted(patients[0], twice) == ["sub-0"]


def test_what_is_kept_of_comparisons_is_compared_anew_when_anything_changed(tmp_path: Path) -> None:
    store = NativeStore(tmp_path / "state", GRID, {})
    fingerprints = prints(2)
    paths = [tmp_path / f"{n}.nii" for n in range(2)]
    patients = []
    for number, path in enumerate(paths):
        path.write_bytes(b"%d" % number)
        patients.append(Patient(f"sub-{number}", None, (Scan("", path, 0, None),)))

    def save(number: int, print_: np.ndarray) -> None:
        source = hashlib.sha256(b"%d" % number).hexdigest()
        record = ScanRecord(source_sha256=source, voxels_sha256=source, measures=good_measures())
        store.save(NativeScan(record, fingerprint=print_))

    def results(
        people: Sequence[Patient] = patients, limits: QualityLimits | None = None
    ) -> list[str]:
        chosen = limits or QualityLimits()
        return [s.verdict.result for s in assess(store, people, {}, chosen).scans]

    save(0, fingerprints[0])
    save(1, fingerprints[1])
    kept = tmp_path / "state" / "prepared" / "between.json"
    assert results() == ["pass", "pass"]
    made = kept.stat().st_mtime_ns
    assert results() == ["pass", "pass"]
    assert kept.stat().st_mtime_ns == made
    save(1, fingerprints[0])
    assert results() == ["fail", "fail"]
    # Two visits of one person may look alike.
    one_person = [
        replace(
            patients[0],
            scans=(patients[0].scans[0], replace(patients[1].scans[0], session="ses-2")),
        )
    ]
    assert results(one_person) == ["review", "review"]
    assert results(limits=QualityLimits(same_image=1.1, same_brain=1.1)) == ["pass", "pass"]
    for damage in (b"", b"{}", b"[]", kept.read_bytes()[:-9], b"\xff"):
        kept.write_bytes(damage)
        assert results() == ["fail", "fail"]
