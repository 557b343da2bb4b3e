"""Preparation that is killed, doubled, starved or met by a changed archive: real processes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from native_site_fixture import (
    NativeHospital,
    head,
    native_hospital,
    prepared_bytes,
    t1w,
    write_scan,
    write_tables,
)

from client.agent.durable import TEMPORARY
from client.commands.preparing import native_site
from client.prepared.record import ScanRecord

pytestmark = pytest.mark.slow

PEOPLE = {"sub-01": "CN", "sub-02": "AD", "sub-03": "CN"}


def write_archive(root: Path) -> Path:
    write_tables(root, PEOPLE)
    write_scan(t1w(root, "sub-01"), head(1), turned=3.0)
    write_scan(t1w(root, "sub-02"), head(2), turned=-6.0)
    write_scan(t1w(root, "sub-03"), np.zeros((20, 20, 20), np.int16))
    return root


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Do not change it."""
    return write_archive(tmp_path_factory.mktemp("interrupted") / "archive")


@pytest.fixture(scope="module")
def uninterrupted(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Path, bytes]:
    """What a run that nobody disturbs leaves behind."""
    site = native_hospital(tmp_path_factory.mktemp("whole") / "site", archive)
    assert site.prepare("--workers", "2")[0] == 3
    return prepared_bytes(site.state)


def check_nothing_is_half_written(site: NativeHospital) -> None:
    recipe = native_site(site.hospital.config, site.hospital.plan).recipe
    for path in (site.state / "prepared").glob("??/*.json"):
        record = ScanRecord.model_validate_json(path.read_bytes())
        assert recipe.store.is_whole(record.source_sha256)
    for path in site.derivatives.glob("sub-*/**/*_T1w.json"):
        assert path.with_suffix("").with_suffix(".nii.gz").exists()


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_any_moment_the_next_run_leaves_the_same_bytes(
    seed: int, archive: Path, uninterrupted: dict[Path, bytes], tmp_path: Path
) -> None:
    site = native_hospital(tmp_path / "site", archive)
    rng = random.Random(seed)
    for _ in range(5):
        process = site.start("prepare", "--workers", "2")
        time.sleep(rng.uniform(2, 20))
        children = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        # Those that worked for it do not stay and wait for work that never comes.
        _, alive = psutil.wait_procs(children, timeout=60)
        assert not alive
        check_nothing_is_half_written(site)
    assert site.prepare("--workers", "2")[0] == 3
    left = prepared_bytes(site.state)
    assert {path for path in left if not path.name.endswith(TEMPORARY)} == set(uninterrupted)
    assert {path for path in uninterrupted if left[path] != uninterrupted[path]} == set()


def test_two_processes_at_once_do_no_harm(
    archive: Path, uninterrupted: dict[Path, bytes], tmp_path: Path
) -> None:
    site = native_hospital(tmp_path / "site", archive)
    both = [site.start("prepare", "--workers", "1") for _ in range(2)]
    told = [process.communicate(timeout=400) for process in both]
    assert [process.returncode for process in both] == [3, 3], told
    assert prepared_bytes(site.state) == uninterrupted


_DEADLY = """
import os
from client.preprocessing import reorient

honest = reorient.Reorient.__call__

def deadly(self, work):
    if work.image.voxels.shape == (60, 60, 60):
        os._exit(9)
    if work.image.voxels.shape == (61, 61, 61):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to")
    if work.image.voxels.shape == (62, 62, 62):
        raise RuntimeError("a library stumbled over " + "sub-stumble")
    return honest(self, work)

reorient.Reorient.__call__ = deadly
"""


def test_a_process_that_dies_costs_its_own_scan_only(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    people = {
        "sub-01": "CN",
        "sub-02": "AD",
        "sub-dies": "CN",
        "sub-starves": "CN",
        "sub-stumble": "AD",
    }
    write_tables(root, people)
    for number, name in enumerate(("sub-01", "sub-02"), start=1):
        write_scan(t1w(root, name), head(number))
    rng = np.random.default_rng(0)
    for side, name in ((60, "sub-dies"), (61, "sub-starves"), (62, "sub-stumble")):
        write_scan(t1w(root, name), rng.integers(0, 900, (side,) * 3).astype(np.int16))
    patched = tmp_path / "patched"
    patched.mkdir()
    (patched / "sitecustomize.py").write_text(_DEADLY)
    site = native_hospital(tmp_path / "site", root)
    code, facts = site.prepare("--workers", "2", PYTHONPATH=str(patched))
    assert code == 3
    assert facts["used"] == 2
    codes = {row["participant_id"]: row["code"] for row in site.table("excluded.tsv")}
    assert codes == {"sub-dies": "SMR-E247", "sub-starves": "SMR-E247", "sub-stumble": "SMR-E246"}
    log = (site.state / "agent.log").read_text()
    assert "a library stumbled" in log
    assert str(root) not in log
    # Not tried again by itself; with --again it is, and now the process lives.
    before = prepared_bytes(site.state)
    assert site.prepare()[0] == 3
    assert prepared_bytes(site.state) == before
    code, facts = site.prepare("--again", "--workers", "2")
    assert (code, facts["used"]) == (3, 2)
    codes = {row["participant_id"]: row["code"] for row in site.table("excluded.tsv")}
    assert set(codes) == {"sub-dies", "sub-starves", "sub-stumble"}
    assert not {"SMR-E246", "SMR-E247"} & set(codes.values())


def test_changed_files_labels_and_copies(
    archive: Path, uninterrupted: dict[Path, bytes], tmp_path: Path
) -> None:
    root = tmp_path / "archive"
    shutil.copytree(archive, root)
    site = native_hospital(tmp_path / "site", root)
    assert site.prepare("--workers", "2")[0] == 3
    before = {row["participant_id"]: row for row in site.table("quality.tsv")}
    # Another head under an old name; greys that are labels; the same voxels under a new name.
    write_scan(t1w(root, "sub-02"), head(3), turned=2.0)
    labels = np.digitize(head(1), (200, 420, 650)).astype(np.uint8)
    write_scan(t1w(root, "sub-03"), labels)
    write_scan(t1w(root, "sub-04"), head(1).astype(np.float32), turned=3.0)
    write_tables(root, PEOPLE | {"sub-04": "AD"})
    code, facts = site.prepare("--workers", "2")
    after = {row["participant_id"]: row for row in site.table("quality.tsv")}
    assert code == 3
    assert before["sub-01"]["scan"] == after["sub-01"]["scan"]
    assert before["sub-02"]["scan"] != after["sub-02"]["scan"]
    assert after["sub-02"]["used"] == "yes"
    assert facts["used"] == 1
    refused = {row["participant_id"]: row for row in site.table("excluded.tsv")}
    assert set(refused) == {"sub-01", "sub-03", "sub-04"}
    for name, other in (("sub-01", "sub-04"), ("sub-04", "sub-01")):
        assert refused[name]["code"] == "SMR-E274"
        assert "copied-image" in refused[name]["reason"]
        assert other in (site.derivatives / "quality.html").read_text()
    assert refused["sub-03"]["code"] == "SMR-E248"
    # A label map is nothing that a person may accept into training by mistake.
    assert "sub-03" not in after
    # Everything as it was: what was prepared before is found again.
    shutil.rmtree(root)
    shutil.copytree(archive, root)
    assert site.prepare()[1]["used"] == 2
    left = prepared_bytes(site.state)
    assert {path for path in uninterrupted if left[path] != uninterrupted[path]} <= {
        Path("derivatives/quality.html"),
        Path("derivatives/quality.tsv"),
    }


def test_a_disk_that_fills_up_stops_the_run_and_blames_no_scan(
    archive: Path, uninterrupted: dict[Path, bytes], tmp_path: Path
) -> None:
    site = native_hospital(tmp_path / "site", archive)
    # No file above 100 kB: the first checkpoint does not fit.
    full = ("bash", "-c", 'ulimit -f 100; exec "$@"', "bash")
    code, out, err = site.run("prepare", "--workers", "2", before=full)
    assert (code, out) == (1, "")
    assert "SMR-E241" in err
    assert not list(site.state.rglob("*.part"))
    check_nothing_is_half_written(site)
    for path in (site.state / "prepared").glob("??/*.json"):
        defect = ScanRecord.model_validate_json(path.read_bytes()).defect
        assert defect is None or defect.code == "SMR-E215"
    assert site.prepare("--workers", "2")[0] == 3
    assert prepared_bytes(site.state) == uninterrupted
