"""What ``smrfed-site prepare --prune`` removes, what it never touches, and when it refuses."""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel
import numpy as np
import pytest
from agent_site import build_hospital
from filled_site import PASS, Prepared, fill
from hypothesis import given, settings
from hypothesis import strategies as st
from native_site_fixture import NativeHospital, native_plan, t1w, write_tables
from small_site import small_atlas, small_plan

from client.agent.state import StateFolder
from client.agent.state_lock import StateLock
from client.archive.content import read_sha256
from client.prepared.native_recipe import NativeRecipe
from client.prepared.preparing_lock import preparing
from client.prepared.prune import Pruned, prune
from client.prepared.store import PreparedStore
from client.training.site_model import SiteModel
from shared_model.errors import SmrfedError
from shared_model.plan import AtlasSection, FederationPlan, InputSection
from shared_model.preparation import Preparation

PEOPLE = {"sub-anna": "CN", "sub-bert": "AD", "sub-cora": "CN"}
PLANS: dict[str, FederationPlan | None] = {
    "coarse": native_plan(),
    "finer": native_plan(input={"grid": {"spacing_mm": 3.0}}),
    "other field": native_plan({"source": "native", "bias_field": {"iterations": [3]}}),
    "aligned": small_plan(mode="none"),
    "none yet": None,
}
#: By path: who and which plans a file was made for.
Made = dict[Path, set[tuple[str, str]]]


def derived(site: NativeHospital, plan: FederationPlan | None, source: str) -> Iterable[Path]:
    if plan is None:
        section = InputSection(preparation=Preparation(source="native"))
        return NativeRecipe(section, AtlasSection(), site.state).files_of(source)
    if plan.input.preparation.source == "native":
        return NativeRecipe(plan.input, plan.atlas, site.state).files_of(source)
    return PreparedStore(site.state, plan.input.grid, plan.input.intensity).files_of(source)


def hospital(folder: Path) -> tuple[NativeHospital, Made]:
    """An archive of three scans, and everything that every plan would keep of them."""
    archive = folder / "archive"
    write_tables(archive, PEOPLE)
    site = NativeHospital(build_hospital(folder / "site", archive, native_plan()))
    made: Made = {}
    for number, name in enumerate(PEOPLE):
        path = t1w(archive, name)
        path.parent.mkdir(parents=True)
        image = nibabel.Nifti1Image(np.full((4, 5, 6), number + 1, np.int16), np.eye(4))
        image.set_sform(np.eye(4), 1)
        nibabel.save(image, path)
        for title, plan in PLANS.items():
            for file in derived(site, plan, read_sha256(path)):
                made.setdefault(file, set()).add((name, title))
    for file, reasons in made.items():
        write(file, " ".join(sorted(name for name, _ in reasons)))
    return site, made


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def withdraw(site: NativeHospital, names: Collection[str]) -> None:
    for name in names:
        shutil.rmtree(site.archive / name)
    write_tables(site.archive, {k: v for k, v in PEOPLE.items() if k not in names})


def accepted(titles: Iterable[str]) -> list[FederationPlan]:
    return [plan for title in titles if (plan := PLANS[title]) is not None]


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


LEAVE = st.sets(st.sampled_from(sorted(PEOPLE)), max_size=2)
ACCEPTED = st.sets(st.sampled_from(sorted(set(PLANS) - {"none yet"})))


@given(LEAVE, ACCEPTED)
@settings(max_examples=12, deadline=None)
def test_exactly_what_a_plan_would_find_again_stays(leave: set[str], titles: set[str]) -> None:
    with TemporaryDirectory() as name:
        site, made = hospital(Path(name))
        index = write(site.state / "prepared" / "files.json", "{}")
        other = write(site.state / "prepared" / "notes of a person.txt", "not ours")
        withdraw(site, leave)
        valid = titles or {"none yet"}
        stays = {
            path
            for path, reasons in made.items()
            if any(who not in leave and title in valid for who, title in reasons)
        }
        done = prune(site.hospital.config, accepted(titles), native=True)
        assert files(site.state / "prepared") == stays | {index, other}
        assert done.files == len(made) - len(stays)
        assert prune(site.hospital.config, accepted(titles), native=True) == Pruned()
        assert files(site.state / "prepared") == stays | {index, other}
        # No folder stays only to say that there was something.
        folders = [f for f in (site.state / "prepared").rglob("??") if f.is_dir()]
        assert all(any(folder.iterdir()) for folder in folders)


def test_halves_that_a_kill_left_tokens_and_old_intakes_go(tmp_path: Path) -> None:
    site, made = hospital(tmp_path)
    some = next(iter(made))
    part = write(some.with_name(f".{some.name}-a1b2.part"), "half a scan")
    index = write(site.state / "prepared" / ".between.json-c3d4.part", "half")
    late = write(site.derivatives / "sub-anna" / "anat" / ".x_T1w.nii.gz-q.part", "half")
    token = write(site.state / "tokens" / f"{'ab' * 32}.safetensors", "tokens")
    intake = write(StateFolder(site.state).intake / "sub-anna" / "x.nii.gz", "converted")
    page = write(site.derivatives / "quality.html", "a page")
    never = [
        write(site.state / name, "kept")
        for name in ("ledger.sqlite", "splits/x.json", "quality/overrides.jsonl", "models/r/m")
    ]
    prune(site.hospital.config, accepted(PLANS), native=True)
    assert not [path for path in (part, index, late, token, intake) if path.exists()]
    assert page.exists()
    # What a native archive leaves behind, where it is none any more.
    between = write(site.state / "prepared" / "between.json", "{}")
    prune(site.hospital.config, accepted(PLANS), native=False)
    assert not page.exists()
    assert not between.exists()
    assert all(path.read_text() == "kept" for path in never)


def test_an_intake_that_is_the_archive_stays(tmp_path: Path) -> None:
    site, _ = hospital(tmp_path)
    inside = StateFolder(site.state).intake
    shutil.copytree(site.archive, inside)
    toml = site.config.read_text().replace(str(site.archive), str(inside))
    site.config.write_text(toml)
    prune(site.hospital.config, [], native=True)
    assert len(files(inside)) == len(PEOPLE) + 2


@pytest.mark.parametrize("harm", ["no participants.tsv", "no archive", "nobody left"])
def test_an_archive_that_is_not_there_removes_nothing(tmp_path: Path, harm: str) -> None:
    site, made = hospital(tmp_path)
    if harm == "no archive":
        site.archive.rename(tmp_path / "unmounted")
    elif harm == "nobody left":
        withdraw(site, PEOPLE)
    else:
        (site.archive / "participants.tsv").unlink()
    before = files(site.state)
    with pytest.raises(SmrfedError, match="SMR-E2"):
        prune(site.hospital.config, accepted(PLANS), native=True)
    assert files(site.state) - before <= {site.state / "agent.lock", site.state / "prepare.lock"}
    assert before >= set(made)


def test_stopped_after_any_file_what_stays_is_whole_and_the_next_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, made = hospital(tmp_path)
    withdraw(site, {"sub-bert"})
    stays = {p for p, reasons in made.items() if any(n != "sub-bert" for n, _ in reasons)}
    gone = sorted(set(made) - stays)
    honest = Path.unlink
    for stop in range(len(gone)):
        left = stop

        def stopped(path: Path, missing_ok: bool = False) -> None:
            nonlocal left
            if path in made and left == 0:
                raise KeyboardInterrupt
            left -= path in made
            honest(path, missing_ok)

        monkeypatch.setattr(Path, "unlink", stopped)
        plans = [None, *accepted(PLANS)]
        with pytest.raises(KeyboardInterrupt):
            _prune_with_default(site, plans)
        monkeypatch.undo()
        assert {p: p.read_text() for p in stays} == {
            p: " ".join(sorted(name for name, _ in made[p])) for p in stays
        }
        for path in gone:
            write(path, "sub-bert")
    monkeypatch.undo()
    assert _prune_with_default(site, [None, *accepted(PLANS)]).files == len(gone)
    assert files(site.state / "prepared") == stays


def _prune_with_default(site: NativeHospital, plans: list[FederationPlan | None]) -> Pruned:
    """As with every plan accepted; the default recipe is one of them here."""
    default = native_plan({"source": "native"}, input={"grid": {"spacing_mm": 2.0}})
    same = derived(site, default, "00" * 32)
    assert list(same) == list(derived(site, None, "00" * 32))
    chosen = [default if plan is None else plan for plan in plans]
    return prune(site.hospital.config, chosen, native=True)


_HOLD = """
import sys, time
from pathlib import Path
from client.prepared.preparing_lock import preparing
with preparing(Path(sys.argv[1])):
    print("preparing", flush=True)
    time.sleep(600)
"""


def test_it_refuses_while_another_process_prepares_and_a_kill_frees_it(tmp_path: Path) -> None:
    site, made = hospital(tmp_path)
    withdraw(site, {"sub-cora"})
    command = [sys.executable, "-c", _HOLD, str(site.state)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "preparing\n"
        # Any number may prepare; nobody may remove.
        with preparing(site.state):
            pass
        with pytest.raises(SmrfedError, match="SMR-E249"):
            prune(site.hospital.config, [], native=True)
        assert set(made) <= files(site.state)
        os.kill(process.pid, signal.SIGKILL)
    assert prune(site.hospital.config, [], native=True).files > 0


def test_it_refuses_while_an_agent_holds_patients_in_memory(tmp_path: Path) -> None:
    site, made = hospital(tmp_path)
    lock = StateLock(site.state)
    with pytest.raises(SmrfedError, match="SMR-E408"):
        prune(site.hospital.config, [], native=True)
    code, out, err = site.run("prepare", "--prune")
    assert (code, out) == (1, "")
    assert "SMR-E408" in err
    lock.release()
    assert set(made) <= files(site.state)


def mentions(state: Path, words: Iterable[str]) -> set[str]:
    """Files below the state folder whose name or content, unpacked, holds one of the words."""
    found = set()
    for path in files(state):
        content = path.read_bytes() + str(path.relative_to(state)).encode()
        if path.suffix == ".gz":
            content += gzip.decompress(path.read_bytes())
        if any(word.encode() in content for word in words):
            found.add(path.relative_to(state).as_posix())
    return found


def test_a_withdrawn_patient_is_in_nothing_derived_any_more(tmp_path: Path) -> None:
    prepared: Prepared = fill(tmp_path, [PASS] * 12)
    site, plan = prepared.site, prepared.site.hospital.plan
    assert site.prepare()[0] == 0
    agent = site.hospital.agent()
    try:
        arrays = SiteModel.build(plan, small_atlas()).shared_arrays()
        agent.handle(site.hospital.instruction(arrays))
    finally:
        agent.close()
    name = "sub-04"
    digest = prepared.source(name)
    words = (name, digest, digest[:12], str(t1w(site.archive, name)))
    recipe = NativeRecipe(plan.input, plan.atlas, site.state)
    theirs = {path for path in recipe.files_of(digest) if path.exists()}
    assert len(theirs) == 5
    assert {"derivatives/quality.html", "derivatives/quality.tsv"} <= mentions(site.state, words)
    shutil.rmtree(site.archive / name)
    rows = (site.archive / "participants.tsv").read_text().splitlines()
    kept = [row for row in rows if not row.startswith(f"{name}\t")]
    (site.archive / "participants.tsv").write_text("\n".join(kept) + "\n")
    code, facts = site.prepare("--prune")
    assert (code, facts["scans"], facts["used"]) == (0, 11, 11)
    # Five files of the scan, and a token of everybody.
    assert facts["pruned"]["files"] == 5 + 12
    assert not any(path.exists() for path in theirs)
    # The one exception, and the reason of it: docs/prepare.md.
    assert mentions(site.state, words) == {f"splits/{plan.digest}.json"}
    # Everybody else is as they were: nothing has to be prepared again, and training goes on.
    blocked = tmp_path / "blocked"
    write(blocked / "torch.py", "raise RuntimeError('a scan was prepared again')\n")
    code, facts = site.prepare(PYTHONPATH=str(blocked))
    assert (code, facts["used"]) == (0, 11)
    assert prepared.data().train
