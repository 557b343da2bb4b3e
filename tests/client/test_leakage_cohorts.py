"""Nobody and no image in two sets: overlap of cohorts, and lists of image digests."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.archive.nifti import read_volume
from client.archive.patients import Patient, Scan
from client.leakage.cohorts import Cohort, cohort_of, refuse_overlap
from client.leakage.hash_lists import (
    external_cohorts,
    hash_images,
    pretraining_cohort,
    read_hashes,
)
from client.prepared.resample import voxels_sha256
from shared_model.errors import SmrfedError
from shared_model.public_weights import PACKAGED

ROOT = Path(__file__).parents[2]
SETS = st.frozensets(st.sampled_from([f"p{i}" for i in range(8)]), max_size=4)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def image(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(seed).integers(0, 900, (6, 7, 8)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.diag([1.0, 1.0, 1.2, 1.0])), path)
    return path


def patient(name: str, *paths: Path) -> Patient:
    scans = tuple(Scan(f"{n}", path, 0, None) for n, path in enumerate(paths))
    return Patient(name, None, scans)


def voxels(path: Path) -> str:
    raw = read_volume(path)
    return voxels_sha256(raw.voxels, raw.affine)


@given(first=SETS, second=SETS, third=SETS)
def test_exactly_the_overlapping_sets_are_refused_by_name(
    first: frozenset[str], second: frozenset[str], third: frozenset[str]
) -> None:
    cohorts = [Cohort("train", first), Cohort("test", second), Cohort("validation", third)]
    pairs = {
        "train and test": first & second,
        "train and validation": first & third,
        "test and validation": second & third,
    }
    if not any(pairs.values()):
        refuse_overlap(*cohorts)
        return
    with pytest.raises(SmrfedError, match="SMR-E232") as caught:
        refuse_overlap(*cohorts)
    for pair, shared in pairs.items():
        assert (f"{pair} share {len(shared)} patients" in str(caught.value)) == bool(shared)
        assert all(name in str(caught.value) for name in sorted(shared)[:5])


def test_the_error_shows_the_first_five_and_how_many() -> None:
    many = frozenset(f"p{i}" for i in range(9))
    with pytest.raises(SmrfedError) as caught:
        refuse_overlap(Cohort("train", many), Cohort("test", many))
    assert "9 patients: p0 p1 p2 p3 p4 ..." in str(caught.value)
    assert "p5" not in str(caught.value)


def test_identifiers_of_elsewhere_are_other_people_and_images_tell() -> None:
    ours = Cohort("train", frozenset({"sub-001"}), frozenset({sha("a")}))
    refuse_overlap(ours, Cohort("elsewhere", frozenset(), frozenset({sha("b")})))
    with pytest.raises(SmrfedError, match="train and elsewhere share 1 images"):
        refuse_overlap(ours, Cohort("elsewhere", frozenset(), frozenset({sha("a")})))


def test_a_copy_that_was_compressed_or_turned_anew_is_found_by_its_voxels(tmp_path: Path) -> None:
    original = image(tmp_path / "a.nii.gz", 1)
    again = tmp_path / "b.nii"
    again.write_bytes(gzip.decompress(original.read_bytes()))
    scan = nib.load(original)
    turned = tmp_path / "c.nii.gz"
    nib.save(scan.as_reoriented(nib.orientations.axcodes2ornt("LAS")), turned)
    train = cohort_of("train", [patient("p1", original)], voxels)
    for copy in (again, turned):
        # Other bytes: the files alone do not tell.
        bare = [patient("p2", copy)]
        refuse_overlap(cohort_of("train", [patient("p1", original)]), cohort_of("test", bare))
        with pytest.raises(SmrfedError, match="SMR-E232"):
            refuse_overlap(train, cohort_of("test", bare, voxels))


def test_the_same_bytes_are_found_without_reading_voxels(tmp_path: Path) -> None:
    original = image(tmp_path / "a.nii.gz", 1)
    copy = Path(shutil.copy(original, tmp_path / "b.nii.gz"))
    with pytest.raises(SmrfedError, match="SMR-E232"):
        refuse_overlap(
            cohort_of("train", [patient("p1", original)]),
            cohort_of("test", [patient("p2", copy)]),
        )


def test_an_image_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(SmrfedError, match="SMR-E212"):
        cohort_of("train", [patient("p1", tmp_path / "gone.nii.gz")])


def test_the_command_writes_a_list_that_is_read_back_and_holds_no_path(tmp_path: Path) -> None:
    first = image(tmp_path / "sub-secret" / "a.nii.gz", 1)
    image(tmp_path / "sub-other" / "b.nii", 2)
    done = subprocess.run(
        [sys.executable, "-m", "client.leakage.hash_lists", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert "secret" not in done.stdout
    listed = tmp_path / "public.hashes.txt"
    listed.write_text(done.stdout)
    found = read_hashes(listed)
    assert len(found) == 4
    assert found == {digest for pair in hash_images(tmp_path) for digest in pair}
    (external,) = external_cohorts([listed])
    assert external.name == "public"
    with pytest.raises(SmrfedError, match="train and public share 2 images"):
        refuse_overlap(cohort_of("train", [patient("p", first)], voxels), external)


def test_a_list_of_sha256sum_is_one_and_case_does_not_matter(tmp_path: Path) -> None:
    listed = tmp_path / "x.hashes.txt"
    listed.write_text(f"# a comment\n\n{sha('a')}  sub-1.nii.gz\n{sha('b').upper()}\n")
    assert read_hashes(listed) == {sha("a"), sha("b")}


@pytest.mark.parametrize("content", [b"abc\n", b"\xff\xfe", b"g" * 64, b"0" * 65])
def test_anything_else_is_refused(tmp_path: Path, content: bytes) -> None:
    listed = tmp_path / "x.hashes.txt"
    listed.write_bytes(content)
    with pytest.raises(SmrfedError, match="SMR-E236"):
        read_hashes(listed)
    with pytest.raises(SmrfedError, match="SMR-E236"):
        read_hashes(tmp_path / "missing.hashes.txt")


def test_the_list_beside_weights_names_what_they_were_trained_on(tmp_path: Path) -> None:
    packaged = sorted(PACKAGED.glob("*.safetensors"))[0]
    weights = Path(shutil.copy(packaged, tmp_path / "mine.safetensors"))
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert pretraining_cohort(digest, (tmp_path,)) is None  # nothing said is not nothing used
    listed = tmp_path / "mine.hashes.txt"
    listed.write_text(f"{sha('a')}\n")
    cohort = pretraining_cohort(digest, (tmp_path,))
    assert cohort == Cohort("pretraining data of mine", frozenset(), frozenset({sha("a")}))
    with pytest.raises(SmrfedError, match="test and pretraining data of mine share 1 images"):
        refuse_overlap(Cohort("test", frozenset({"p"}), frozenset({sha("a")})), cohort)
    listed.write_text("# trained on synthetic anatomy: no image of a person\n")
    assert pretraining_cohort(digest, (tmp_path,)) == Cohort("pretraining data of mine")
