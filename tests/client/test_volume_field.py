"""Region volumes as a model input: measured once, standardised with public constants only."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agent_site import Hospital, build_hospital
from registered_models import tiny_plan

from client.archive.bids import read_bids_archive
from client.archive.patients import Patient
from client.prepared import volume_field
from client.prepared.scan_fields import ScanFields
from client.prepared.volume_field import VolumeField
from client.preprocessing.aligned_volumes import aligned_volumes, recorded_volumes
from client.preprocessing.image import Image, Work
from client.preprocessing.region_volumes import region_volumes
from shared_model.atlas.seeded import seeded_atlas
from shared_model.errors import SmrfedError
from shared_model.grid import ModelGrid
from shared_model.volumes.reference import (
    PACKAGED,
    PACKAGED_SHA256,
    VolumeReference,
    find_reference,
)
from simulations.baselines.measured_volumes import measured_volumes


@pytest.fixture
def hospital(tmp_path: Path, archive: Path) -> Hospital:
    return build_hospital(tmp_path / "site", archive, tiny_plan("smrnet-volumes"))


def someone(hospital: Hospital) -> Patient:
    config = hospital.config
    return read_bids_archive(config.dataset, config.label_mapping, hospital.plan.task.labels)[0]


def test_the_packaged_reference_is_the_installed_atlas_and_the_digest_in_the_code() -> None:
    assert hashlib.sha256(PACKAGED.read_bytes()).hexdigest() == PACKAGED_SHA256
    found = find_reference(PACKAGED_SHA256, seeded_atlas().sha256)
    assert found.regions == seeded_atlas().names
    assert min(found.sd) > 0.05  # no region is so alike in all that noise in it is a signal


def test_it_is_what_the_baseline_measures_and_is_measured_once(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = someone(hospital)
    scan = patient.scans[0]
    fields = ScanFields(hospital.config, hospital.plan)
    found = fields.field("region_volumes", patient, scan)
    atlas = seeded_atlas().resampled(ModelGrid(spacing_mm=1.0))
    ml, brain_ml = measured_volumes(scan, atlas)
    reference = find_reference(PACKAGED_SHA256, seeded_atlas().sha256)
    np.testing.assert_array_equal(found, reference.standardised(ml, brain_ml))
    assert found.shape == (116,)
    assert np.abs(found).max() <= 6

    def again(*_: Any) -> None:
        raise AssertionError("measured twice")

    monkeypatch.setattr(volume_field, "aligned_volumes", again)
    np.testing.assert_array_equal(
        ScanFields(hospital.config, hospital.plan).field("region_volumes", patient, scan), found
    )
    (kept,) = (hospital.config.state_dir / "volumes").iterdir()
    assert kept.stat().st_mode & 0o077 == 0
    assert kept.parent.stat().st_mode & 0o077 == 0


def test_a_native_scans_record_says_the_same(hospital: Hospital) -> None:
    from client.archive.nifti import read_volume

    raw = read_volume(someone(hospital).scans[0].path)
    atlas = seeded_atlas().resampled(ModelGrid(spacing_mm=1.0))
    work = Work(Image(raw.voxels, raw.affine), brain=raw.voxels > 0, to_mni=np.eye(4))
    record = dict(region_volumes(work, atlas).as_json())
    ml, brain_ml = recorded_volumes(record.pop("regions"), record, atlas)
    expected, expected_brain = aligned_volumes(raw.voxels, raw.affine, atlas)
    np.testing.assert_allclose(ml, expected, atol=2e-4)  # records are rounded to 0.1 mm3
    assert brain_ml == pytest.approx(expected_brain, abs=1e-3)


def test_no_constant_is_fitted_to_a_hospitals_patients(hospital: Hospital) -> None:
    """The reference's own mean is zero at every hospital, whoever is in the archive."""
    reference = VolumeField(hospital.config, hospital.plan).reference
    brain_ml = 1e6  # so large that no region is below what can be measured
    ml = np.exp(np.asarray(reference.mean)) * brain_ml
    np.testing.assert_allclose(reference.standardised(ml, brain_ml), 0, atol=1e-5)
    deviating = ml * np.exp(np.asarray(reference.sd))
    np.testing.assert_allclose(reference.standardised(deviating, brain_ml), 1, atol=1e-5)


@pytest.mark.parametrize("fault", ["unknown", "other atlas", "no reference"])
def test_a_reference_that_cannot_be_used_is_refused(fault: str, tmp_path: Path) -> None:
    body = PACKAGED.read_bytes()
    if fault == "other atlas":
        body = body.replace(seeded_atlas().sha256.encode(), b"0" * 64)
    elif fault == "no reference":
        body = b"{}"
    (tmp_path / "reference.json").write_bytes(body)
    digest = "1" * 64 if fault == "unknown" else hashlib.sha256(body).hexdigest()
    with pytest.raises(SmrfedError, match="SMR-E648"):
        find_reference(digest, seeded_atlas().sha256, (tmp_path,))


def test_a_scan_without_a_brain_is_refused(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volume_field, "aligned_volumes", lambda *_: (np.ones(116), 0.0))
    patient = someone(hospital)
    with pytest.raises(SmrfedError, match="SMR-E649"):
        VolumeField(hospital.config, hospital.plan).of(patient.scans[0])


def test_a_reference_is_of_one_length() -> None:
    data = VolumeReference.model_validate_json(PACKAGED.read_bytes()).model_dump()
    with pytest.raises(ValueError, match="length"):
        VolumeReference.model_validate(data | {"sd": data["sd"][1:]})
