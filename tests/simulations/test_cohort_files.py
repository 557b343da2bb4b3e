"""Cohorts on disk: BIDS that a reader can trust, resumed and repeated bit for bit."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from shared_model.atlas.bids import load_dseg
from shared_model.errors import SmrfedError
from simulations.cohort.cohort import (
    CohortFolders,
    all_subjects,
    generate_anatomy,
    generate_cohort,
)
from simulations.cohort.design import default_cohort, public_cohort
from simulations.cohort.generate import acquire, truth_path
from simulations.cohort.spec import CohortSpec
from simulations.cohort.template import load_template
from simulations.cohort.truth import SIGNATURE, read_truth_table, region_volume_table


def small() -> CohortSpec:
    return default_cohort(1, seed=4).model_copy(update={"second_session_share": 0.5})


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines(), delimiter="\t"))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> CohortFolders:
    return generate_cohort(small(), tmp_path_factory.mktemp("cohort"), workers=1)


def test_workers_do_not_change_a_byte(cohort: CohortFolders, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    again = generate_cohort(small(), tmp_path, workers=2, progress=lambda *a: seen.append(a))
    assert contents(again.root) == contents(cohort.root)
    assert seen == [(i, 5) for i in range(6)]


def test_images_say_where_they_are(cohort: CohortFolders) -> None:
    subjects = {s.participant: s for s in all_subjects(small())}
    paths = sorted(cohort.root.rglob("*_T1w.nii.gz"))
    assert len(paths) == sum(len(s.visits) for s in subjects.values())
    seen = set()
    for path in paths:
        subject = subjects[path.name.split("_")[0].removeprefix("sub-")]
        visit = next(v for v in subject.visits if f"_ses-{v.session}_" in path.name)
        image = nibabel.load(path)
        assert image.get_data_dtype() == np.int16
        assert image.dataobj.slope != 1
        assert image.dataobj.offset == 352
        assert len(gzip.decompress(path.read_bytes())) == 352 + 2 * np.prod(image.shape)
        assert int(image.header["sform_code"]) == 4
        stored = "".join(nibabel.aff2axcodes(image.affine))
        assert stored == subject.site.orientation
        assert image.header.get_zooms() == pytest.approx(subject.site.voxel_mm)
        seen.add((stored, subject.site.voxel_mm))
        ras = nibabel.as_closest_canonical(image)
        scan = acquire(subject, visit)
        assert ras.affine == pytest.approx(scan.affine, abs=1e-4)
        quantum = float(image.dataobj.slope)
        assert np.abs(ras.get_fdata() - scan.image).max() <= 0.51 * quantum
        # Left is left: the head's centre is near the middle of MNI space, not mirrored away.
        centre = nibabel.affines.apply_affine(image.affine, np.argwhere(image.get_fdata() > 0))
        assert np.abs(centre.mean(0) - (0, -18, 10)).max() < 12
    assert len(seen) == 5


def test_archive_tables(cohort: CohortFolders) -> None:
    for subject in all_subjects(small()):
        archive = cohort.archive(subject.site.name)
        description = json.loads((archive / "dataset_description.json").read_text())
        assert {"Name", "BIDSVersion", "DatasetType"} <= description.keys()
        (row,) = [
            r
            for r in table(archive / "participants.tsv")
            if r["participant_id"] == f"sub-{subject.participant}"
        ]
        assert row["sex"] == subject.sex
        assert float(row["age"]) == pytest.approx(subject.visits[0].age, abs=0.05)
        name = f"sub-{subject.participant}"
        sessions = table(archive / name / f"{name}_sessions.tsv")
        scanned = sessions[: len(subject.visits)]
        assert [s["session_id"] for s in scanned] == [f"ses-{v.session}" for v in subject.visits]
        assert {s["diagnosis"] for s in scanned} == {subject.diagnosis}
        assert len(sessions) == len(scanned) or subject.diagnosis == "MCI"


def test_archives_hold_no_truth(cohort: CohortFolders) -> None:
    for path in (cohort.root / "sites").rglob("*"):
        if path.suffix in {".tsv", ".json"} or path.name == "README":
            text = path.read_text()
            assert "severity" not in text
            assert "hippocampus" not in text


def test_truth_table_and_features(cohort: CohortFolders) -> None:
    truth = read_truth_table(cohort.truth)
    visits = [(s, v) for s in all_subjects(small()) for v in s.visits]
    assert truth.participant.tolist() == [f"sub-{s.participant}" for s, _ in visits]
    assert truth.session.tolist() == [f"ses-{v.session}" for _, v in visits]
    scan = acquire(*visits[0])
    assert truth.region_ml[0] == pytest.approx(scan.region_ml, abs=1e-3)
    features, names = region_volume_table(truth)
    assert features.shape == (len(visits), len(names))
    assert all(name.startswith(SIGNATURE) for name in names)
    column = names.index("hippocampus_left")
    region = truth.regions.index("hippocampus_left")
    expected = np.log(truth.region_ml[:, region] / truth.icv_ml)
    assert features[:, column] == pytest.approx(expected)
    assert region_volume_table(truth, None)[0].shape == (len(visits), 116)
    effect = {row["region"]: row for row in table(cohort.truth / "effect.tsv")}
    assert effect["hippocampus_left"]["affected"] == "1"
    assert effect["precentral_left"]["affected"] == "0"
    kept = load_dseg(cohort.truth / "atlas_dseg.nii.gz", cohort.truth / "atlas_dseg.tsv", "kept")
    assert kept.sha256 == load_template().atlas.sha256


def test_resume_redoes_only_what_is_missing(cohort: CohortFolders, tmp_path: Path) -> None:
    spec = small()
    folders = CohortFolders(shutil.copytree(cohort.root, tmp_path, dirs_exist_ok=True))
    whole = contents(tmp_path)
    victim, other = all_subjects(spec)[:2]
    truth_path(folders.truth, victim).unlink()
    images = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*_T1w.nii.gz")}
    half_done = next(p for p in images if victim.participant in p.name)
    half_done.write_bytes(b"cut short")
    untouched = next(p for p in images if other.participant in p.name)
    seen: list[tuple[int, int]] = []
    generate_cohort(spec, tmp_path, workers=1, progress=lambda *a: seen.append(a))
    assert contents(tmp_path) == whole
    assert seen == [(4, 5), (5, 5)]
    assert untouched.stat().st_mtime_ns == images[untouched]


def test_another_cohort_in_the_folder_is_refused(cohort: CohortFolders) -> None:
    before = contents(cohort.root)
    with pytest.raises(SmrfedError) as caught:
        generate_cohort(default_cohort(1, seed=5), cohort.root, workers=1)
    assert caught.value.code == "SMR-E632"
    assert contents(cohort.root) == before


def test_another_seed_is_another_brain() -> None:
    one, two = (all_subjects(default_cohort(1, seed=s))[0] for s in (1, 2))
    first = acquire(one, one.visits[0])
    assert np.array_equal(first.image, acquire(one, one.visits[0]).image)
    assert not np.array_equal(first.image, acquire(two, two.visits[0]).image)


def test_public_volumes_for_pretraining(tmp_path: Path) -> None:
    folders = generate_anatomy(public_cohort(2, seed=1), tmp_path, workers=1)
    truth = read_truth_table(folders.truth)
    assert truth.participant.tolist() == ["sub-pub0001", "sub-pub0002"]
    for i, path in enumerate(sorted(folders.volumes.iterdir())):
        with np.load(path) as stored:
            assert stored["volume"].dtype == np.float16
            assert stored["volume"].shape == (88, 104, 88)
            assert stored["region_ml"] == pytest.approx(truth.region_ml[i], abs=1e-3)
            assert float(stored["icv_ml"]) == pytest.approx(truth.icv_ml[i], abs=1e-2)
    assert not (tmp_path / "sites").exists()
