"""``smrfed-site prepare`` and ``review`` on a native archive: real files, the real command."""

from __future__ import annotations

import gzip
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from native_site_fixture import (
    NativeHospital,
    head,
    native_hospital,
    native_plan,
    prepared_bytes,
    t1w,
    write_scan,
    write_tables,
)

# A name that stands in the archive's path: nothing that is written may hold it.
NAME = "KOWALSKI JADWIGA 1948"
GOOD = ("sub-good1", "sub-good2")
Copy = Callable[[], NativeHospital]


def messy_archive(root: Path) -> Path:
    """Two good heads, and one of everything that must be left out."""
    people = {"sub-good1": "CN", "sub-good2": "AD"}
    write_scan(t1w(root, "sub-good1"), head(1), turned=3.0)
    write_scan(t1w(root, "sub-good2", "ses-M00"), head(2), turned=-6.0)
    bad = dict.fromkeys(
        (
            "gzip", "short", "series", "rgb", "nan", "zero", "t2", "ct", "diffusion", "copy1",
            "copy2", "noimage", "text", "labels",
        ),
        "CN",
    )  # fmt: skip
    people |= {f"sub-{name}": label for name, label in bad.items()}
    shape = (20, 20, 20)
    greys = np.random.default_rng(0).integers(1, 900, shape).astype(np.int16)

    def damaged(name: str, cut: bool) -> None:
        path = write_scan(t1w(root, f"sub-{name}"), greys)
        content = bytearray(path.read_bytes())
        if cut:
            content = content[: len(content) // 2]
        else:
            content[-6] ^= 255
        path.write_bytes(content)

    damaged("gzip", cut=False)
    damaged("short", cut=True)
    write_scan(t1w(root, "sub-series"), np.stack([greys, greys], axis=3))
    colours = np.zeros(shape, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    write_scan(t1w(root, "sub-rgb"), colours)
    holes = greys.astype(np.float32)
    holes[3, 4, 5] = np.nan
    write_scan(t1w(root, "sub-nan"), holes)
    write_scan(t1w(root, "sub-zero"), np.zeros(shape, np.int16))
    for number, (name, sidecar) in enumerate(
        {
            "t2": {"SeriesDescription": "t2_tse_tra"},
            "ct": {"Modality": "CT"},
            "diffusion": {"SeriesDescription": "ep2d_diff_3scan_trace"},
        }.items()
    ):
        path = write_scan(t1w(root, f"sub-{name}"), greys + 1 + number)
        path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps(sidecar))
    for name in ("copy1", "copy2"):
        write_scan(t1w(root, f"sub-{name}"), greys + 9)
    t1w(root, "sub-text").parent.mkdir(parents=True)
    t1w(root, "sub-text").write_text("not an image")
    # Larger than the damaged ones: labels are told by large flat areas.
    write_scan(t1w(root, "sub-labels"), np.digitize(head(3), (200, 420, 650)).astype(np.uint8))
    write_scan(t1w(root, "sub-norow"), greys)
    write_tables(root, people)
    return root


EXCLUDED = {
    "sub-gzip": "SMR-E212", "sub-short": "SMR-E212", "sub-series": "SMR-E213",
    "sub-rgb": "SMR-E212", "sub-nan": "SMR-E215", "sub-zero": "SMR-E215", "sub-t2": "SMR-E224",
    "sub-ct": "SMR-E224", "sub-diffusion": "SMR-E224", "sub-copy1": "SMR-E218",
    "sub-copy2": "SMR-E218", "sub-noimage": "SMR-E208", "sub-text": "SMR-E212",
    "sub-norow": "SMR-E209", "sub-labels": "SMR-E248",
}  # fmt: skip


@pytest.fixture(scope="module")
def first(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[NativeHospital, int, dict[str, object]]:
    """The messy archive after one run; do not change it."""
    folder = tmp_path_factory.mktemp("native")
    site = native_hospital(folder / "site", messy_archive(folder / NAME / "archive"))
    code, facts = site.prepare("--workers", "1")
    return site, code, facts


@pytest.fixture
def copy(first: tuple[NativeHospital, int, dict[str, object]], tmp_path: Path) -> Copy:
    """A copy of the prepared hospital that a test may change."""

    def make() -> NativeHospital:
        folder = first[0].hospital.folder
        shutil.copytree(folder, tmp_path / "site")
        shutil.copytree(first[0].archive, tmp_path / NAME / "archive")
        toml = tmp_path / "site" / "site.toml"
        old, new = str(first[0].archive), str(tmp_path / NAME / "archive")
        toml.write_text(toml.read_text().replace(old, new))
        return NativeHospital(
            type(first[0].hospital)(
                tmp_path / "site", first[0].hospital.plan, first[0].hospital.coordinator
            )
        )

    return make


def test_everything_bad_is_excluded_with_its_number_and_the_rest_prepared(
    first: tuple[NativeHospital, int, dict[str, object]],
) -> None:
    site, code, facts = first
    assert code == 3
    assert facts["scans"] == facts["used"] == 2
    assert facts["verdicts"] == {"pass": 2}
    assert facts["excluded"] == dict(Counter(EXCLUDED.values()))
    rows = site.table("excluded.tsv")
    assert {row["participant_id"]: row["code"] for row in rows} == EXCLUDED
    assert len(rows) == len(EXCLUDED)
    assert all(row["reason"] and row["remedy"] for row in rows)
    quality = {row["participant_id"]: row for row in site.table("quality.tsv")}
    assert set(quality) == set(GOOD)
    assert all(row["verdict"] == "pass" and row["used"] == "yes" for row in quality.values())
    page = (site.derivatives / "quality.html").read_text()
    assert all(f">{name}" in page for name in (*GOOD, *EXCLUDED))
    assert page.count("data:image/png;base64,") == 2
    volumes = site.table("volumes.tsv")
    heads = [row for row in volumes if row["region"] == "head"]
    assert [row["participant_id"] for row in heads] == list(GOOD)
    assert all(1.5e6 < float(row["brain_mask_mm3"]) < 2.0e6 for row in heads)
    assert len(volumes) == 2 * (116 + 1)
    assert sum(float(r["mm3"]) for r in volumes if r["region"] != "head") > 2 * 1.2e6


def test_the_derivatives_are_a_bids_dataset(
    first: tuple[NativeHospital, int, dict[str, object]],
) -> None:
    site = first[0]
    folder, grid = site.derivatives, site.hospital.plan.input.grid
    description = json.loads((folder / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"][0]["Name"] == "smrfed"
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    start = "sub-good2/ses-M00/anat/sub-good2_ses-M00_"
    space = "space-MNI152NLin2009aSym_res-4mm_desc-"
    expected = {
        f"{start}{space}prepared_T1w.nii.gz", f"{start}{space}prepared_T1w.json",
        f"{start}{space}brain_mask.nii.gz", f"{start}{space}brain_mask.json",
        f"{start}from-scanner_to-MNI152NLin2009aSym_mode-image_xfm.txt",
    }  # fmt: skip
    assert {name for name in names if name.startswith("sub-good2")} == expected
    assert {name.split("/")[0] for name in names if "/" in name} == set(GOOD)
    sidecar = json.loads((folder / f"{start}{space}prepared_T1w.json").read_text())
    assert sidecar["SkullStripped"] is True
    assert {step["name"] for step in sidecar["Steps"]} >= {"reorient", "bias_field", "greys"}
    assert sidecar["Findings"]["already_stripped"] is True
    volume = nibabel.load(folder / f"{start}{space}prepared_T1w.nii.gz")
    mask = nibabel.load(folder / f"{start}{space}brain_mask.nii.gz")
    for image in (volume, mask):
        assert image.shape == grid.shape
        assert np.allclose(image.affine, grid.affine)
        assert int(image.header["sform_code"]) == 4
    inside = np.asarray(mask.dataobj) > 0
    greys = np.asarray(volume.dataobj)
    assert abs(float(np.median(greys[inside]))) < 0.01
    assert (greys[~inside] == -4).all()
    # The matrix takes the scan's brain onto the template's: the head was turned on purpose.
    matrix = np.loadtxt(folder / f"{start}from-scanner_to-MNI152NLin2009aSym_mode-image_xfm.txt")
    scan = nibabel.load(t1w(site.archive, "sub-good2", "ses-M00"))
    centre = np.argwhere(np.asarray(scan.dataobj) > 0).mean(axis=0)
    there = (matrix @ scan.affine @ [*centre, 1])[:3]
    brain = (grid.affine @ [*np.argwhere(inside).mean(axis=0), 1])[:3]
    assert np.abs(there - brain).max() < 2
    assert np.abs((scan.affine @ [*centre, 1])[:3] - brain).max() > 8


def test_nothing_written_holds_a_path_or_name_of_the_archive(
    first: tuple[NativeHospital, int, dict[str, object]],
) -> None:
    site = first[0]
    looked = 0
    for path in site.state.rglob("*"):
        assert NAME not in path.name
        if path.is_file():
            looked += 1
            content = path.read_bytes()
            if path.suffix == ".gz":
                content += gzip.decompress(content)
            for planted in (NAME, str(site.archive), "_T1w.nii.gz:", str(site.archive.parent)):
                assert planted.encode() not in content, path
            assert path.stat().st_mode & 0o077 == 0, path
    assert looked > 20


def test_a_second_run_changes_nothing_and_needs_no_engine(copy: Copy) -> None:
    site = copy()
    before = prepared_bytes(site.state)
    times = {path: path.stat().st_mtime_ns for path in site.derivatives.rglob("*")}
    # An interpreter that cannot import torch, as far as the command can tell.
    blocked = site.hospital.folder / "blocked"
    blocked.mkdir()
    for name in ("torch", "SimpleITK", "monai", "deepbet", "dp_accounting"):
        (blocked / f"{name}.py").write_text("raise RuntimeError('an engine was imported')\n")
    code, facts = site.prepare(PYTHONPATH=str(blocked))
    assert (code, facts["used"]) == (3, 2)
    after = prepared_bytes(site.state)
    assert after.keys() == before.keys()
    assert {str(p) for p in after if after[p] != before[p]} == set()
    assert {path: path.stat().st_mtime_ns for path in site.derivatives.rglob("*")} == times


def test_people_who_leave_or_change_their_name_leave_the_derivatives(copy: Copy) -> None:
    site = copy()
    shutil.rmtree(site.archive / "sub-good1")
    new = t1w(site.archive, "sub-renamed")
    new.parent.mkdir(parents=True)
    shutil.move(t1w(site.archive, "sub-good2", "ses-M00"), new)
    shutil.rmtree(site.archive / "sub-good2")
    # The empty scan stays: a hospital needs two labels.
    write_tables(site.archive, {"sub-renamed": "AD", "sub-zero": "CN"})
    for name in EXCLUDED.keys() - {"sub-zero"}:
        shutil.rmtree(site.archive / name, ignore_errors=True)
    blocked = site.hospital.folder / "blocked"
    blocked.mkdir()
    (blocked / "torch.py").write_text("raise RuntimeError('a scan was prepared again')\n")
    # A session that is gone, or a grid that no plan asks for any more.
    stale = site.derivatives / "sub-renamed" / "ses-M99" / "anat" / "old_T1w.nii.gz"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"old")
    # The same bytes under another name are the same scan: nothing is prepared again.
    code, facts = site.prepare(PYTHONPATH=str(blocked))
    assert (code, facts["scans"], facts["excluded"]) == (3, 1, {"SMR-E215": 1})
    assert [path.name for path in sorted(site.derivatives.glob("sub-*"))] == ["sub-renamed"]
    assert [path.name for path in (site.derivatives / "sub-renamed").iterdir()] == ["anat"]
    for name in ("quality.html", "quality.tsv", "volumes.tsv", "excluded.tsv"):
        text = (site.derivatives / name).read_text()
        assert "sub-good" not in text
        assert ("sub-renamed" in text) == (name != "excluded.tsv")


def test_review_decides_what_training_gets(copy: Copy) -> None:
    site = copy()
    scans = {row["participant_id"]: row["scan"] for row in site.table("quality.tsv")}
    code, out, err = site.run(
        "review", scans["sub-good1"], "reject", "--why", "moved", "--who", "R"
    )
    assert (code, err) == (0, "")
    assert "SMR-E276" in out
    code, facts = site.prepare()
    assert (code, facts["used"]) == (3, 1)
    refused = {r["participant_id"]: r["code"] for r in site.table("excluded.tsv")}
    assert refused["sub-good1"] == "SMR-E276"
    assert "moved" in (site.derivatives / "quality.html").read_text()
    quality = {r["participant_id"]: r for r in site.table("quality.tsv")}
    assert (quality["sub-good1"]["used"], quality["sub-good1"]["decision"]) == ("no", "reject")
    code, _, _ = site.run("review", scans["sub-good1"], "accept", "--why", "a mistake")
    assert code == 0
    code, facts = site.prepare()
    assert facts["used"] == 2
    for wrong in ("abcdef0", scans["sub-good1"][:5], "", "../x"):
        code, _, err = site.run("review", wrong, "reject", "--why", "x")
        assert code == 1
        assert "SMR-E287" in err
    code, _, err = site.run("review", scans["sub-good1"], "accept", "--why", "  ")
    assert code == 1
    assert "SMR-E273" in err


def test_what_cannot_be_written_is_one_number(copy: Copy) -> None:
    site = copy()
    shutil.rmtree(site.derivatives)
    # No file above 1 kB, as on a full disk.
    code, _, err = site.run("prepare", before=("bash", "-c", 'ulimit -f 1; exec "$@"', "bash"))
    assert code == 1
    assert "SMR-E241" in err
    assert not list(site.state.rglob("*.part"))
    shutil.rmtree(site.derivatives, ignore_errors=True)
    site.derivatives.write_text("a file in the folder's place")
    code, _, err = site.run("prepare")
    assert code == 1
    assert "SMR-E241" in err
    site.derivatives.unlink()
    assert site.prepare()[0] == 3
    shutil.rmtree(site.state)
    site.state.write_text("a file in the folder's place")
    code, _, err = site.run("prepare")
    assert code == 1
    assert "SMR-E241" in err


@pytest.mark.slow
def test_another_grey_scale_redoes_no_brain_bias_field_or_registration(
    copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    from client.commands.preparing import native_site
    from client.prepared.native_scan import prepare_native_scan
    from client.preprocessing.bias_field import CorrectBiasField
    from client.preprocessing.brain_extraction import ExtractBrain
    from client.preprocessing.greys import StandardiseGreys
    from client.preprocessing.registration import RegisterToMNI
    from client.preprocessing.resample_step import Resample

    site = copy()
    ran: list[str] = []
    for step in (ExtractBrain, CorrectBiasField, RegisterToMNI, Resample, StandardiseGreys):

        def counting(self: object, work: object, call: object = step.__call__) -> object:
            ran.append(type(self).name)  # type: ignore[attr-defined]
            return call(self, work)  # type: ignore[operator]

        monkeypatch.setattr(step, "__call__", counting)
    path = t1w(site.archive, "sub-good1")

    def prepare(**changes: object) -> list[str]:
        ran.clear()
        recipe = native_site(site.hospital.config, native_plan(**changes)).recipe  # type: ignore[arg-type]
        prepare_native_scan(recipe, path)
        assert recipe.store.is_whole(recipe.store.files.sha256(path))
        return list(ran)

    assert prepare(input={"intensity": "quantile"}) == ["resample", "greys"]
    assert prepare(input={"grid": {"spacing_mm": 3.9}}) == ["resample", "greys"]
    quick = dict(native_plan().input.preparation.model_dump(mode="json"))
    looser = quick | {"registration": quick["registration"] | {"minimum_dice": 0.8}}
    assert prepare(preparation=looser) == ["registration", "resample", "greys"]
    # Half a checkpoint is none: everything since the one before is done again.
    for path_of_work in (site.state / "prepared" / "steps").rglob("*.work"):
        path_of_work.write_bytes(path_of_work.read_bytes()[:-1])
    recipe = native_site(site.hospital.config, native_plan()).recipe
    source = recipe.store.files.sha256(path)
    kept = prepared_bytes(site.state)
    for volume in (site.state / "prepared").rglob("*.npy"):
        volume.write_bytes(b"")
    assert not native_site(site.hospital.config, native_plan()).recipe.store.is_whole(source)
    assert prepare() == ["brain_extraction", "bias_field", "registration", "resample", "greys"]
    redone = prepared_bytes(site.state)
    record = recipe.store.record(source)
    assert record is not None
    for name in record.files:
        name = recipe.store._path(source, name).relative_to(site.state)
        assert redone[name] == kept[name]
