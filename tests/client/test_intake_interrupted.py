"""An intake that is refused, killed or doubled, and the key of its pseudonyms."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import pytest
from dicom_fixture import Identity, write_series
from dicom_protocols import SIEMENS_MPRAGE
from intake_fixture import KEY, OPTIONS, images, intake

from client.intake.intake import take_in
from client.intake.options import IntakeOptions
from client.intake.pseudonym import load_pseudonym_key
from shared_model.errors import SmrfedError


def refusal(source: Path, target: Path) -> SmrfedError:
    with pytest.raises(SmrfedError) as caught:
        take_in(source, target, OPTIONS, KEY)
    assert caught.value.remedy
    return caught.value


def test_what_stops_the_whole_intake_has_a_number(tmp_path: Path) -> None:
    export = tmp_path / "export"
    export.mkdir()
    (export / "note").write_text("nothing here is DICOM" * 20)
    assert refusal(export, tmp_path / "state" / "bids").code == "SMR-E263"
    assert refusal(export, export / "state" / "bids").code == "SMR-E264"
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "dataset_description.json").write_text('{"Name": "a real archive"}')
    assert refusal(export, mine).code == "SMR-E264"
    assert (mine / "dataset_description.json").exists()


_INTAKE = """
import sys
from pathlib import Path
from client.intake.intake import take_in
from client.intake.options import IntakeOptions

def told(what, done, total):
    print(what, done, flush=True)

def main():
    target = Path(sys.argv[2])
    take_in(Path(sys.argv[1]), target, IntakeOptions(workers=1), bytes(range(32)), told)

if __name__ == "__main__":
    main()
"""


def taking_in(root: Path, target: Path, people: int) -> subprocess.Popen[str]:
    """A process that takes in an export of so many people and tells what it does."""
    for number in range(people):
        write_series(root / str(number), SIEMENS_MPRAGE, Identity(f"p{number}"))
    script = root.with_name("run.py")
    script.write_text(_INTAKE)
    command = [sys.executable, str(script), str(root), str(target)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_kill_9_leaves_nothing_half_written_and_loses_little(tmp_path: Path) -> None:
    root, target = tmp_path / "export", tmp_path / "state" / "bids"
    with taking_in(root, target, people=4) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == "converting 2\n":
                os.kill(process.pid, signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    assert not target.exists()
    report = intake(tmp_path, IntakeOptions(workers=1))
    assert report.images == 4
    assert report.kept >= 2
    left = [
        p.name for p in (tmp_path / "state").rglob("*") if "work" in p.name or ".part" in p.name
    ]
    assert [n for n in left if n.startswith(".work")] == []
    for path in images(tmp_path):
        assert nibabel.load(path).get_fdata().any()


def test_two_intakes_into_one_folder_do_not_meet(tmp_path: Path) -> None:
    root, target = tmp_path / "export", tmp_path / "state" / "bids"
    with taking_in(root, target, people=3) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("reading")
        os.kill(process.pid, signal.SIGSTOP)
        try:
            while not (tmp_path / "state" / ".bids.lock").exists():
                time.sleep(0.01)
            assert refusal(root, target).code == "SMR-E265"
        finally:
            os.kill(process.pid, signal.SIGCONT)
        process.communicate()
    assert process.returncode == 0
    assert intake(tmp_path).kept == 3


def test_the_key_is_made_once_and_guarded(tmp_path: Path) -> None:
    key = load_pseudonym_key(tmp_path / "state")
    assert len(key) == 32
    assert load_pseudonym_key(tmp_path / "state") == key
    path = tmp_path / "state" / "pseudonym.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["pseudonym.key"]
    path.chmod(0o640)
    with pytest.raises(SmrfedError, match="SMR-E260"):
        load_pseudonym_key(tmp_path / "state")
    path.chmod(0o600)
    path.write_bytes(key[:20])
    with pytest.raises(SmrfedError, match="SMR-E260"):
        load_pseudonym_key(tmp_path / "state")
