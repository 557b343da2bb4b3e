"""The disk of the coordinator's runs, or of a hospital's state, is full for a while."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fault_phases import PATIENCE_S, Watched, until

from server.rounds.releases import released_body
from shared_model.protocol.arrays import body_digest
from simulations.deployed.supervised import SupervisedFederation, toy_plan
from simulations.deployed.undisturbed import undisturbed_sha256

_WHY = "needs root to mount a small disk" if os.geteuid() != 0 else ""
pytestmark = [
    pytest.mark.deploy,
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(bool(_WHY), reason=_WHY),
]

SITES = ("north", "south")
ROUNDS = 4


class SmallDisk:
    """A file system of its own in place of a folder that exists."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder = folder
        self._filler = folder / "somebody-elses-files"
        kept = folder.with_name(folder.name + "-kept")
        shutil.copytree(folder, kept)
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "none", str(folder)],
            capture_output=True,
            text=True,
        )
        if mounted.returncode:
            pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
        shutil.copytree(kept, folder, dirs_exist_ok=True)

    def fill(self, leaving: int = 0) -> None:
        """Take the space, all but so many bytes."""
        with self._filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while (free := shutil.disk_usage(self.folder).free) > leaving:
                file.write(b"\0" * min(free - leaving, 1 << 20))

    def free(self) -> None:
        """Give it back."""
        self._filler.unlink()

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=False)


@contextmanager
def with_small_disk(which: str) -> Iterator[tuple[SupervisedFederation, SmallDisk]]:
    disks: list[SmallDisk] = []

    def mount(federation: SupervisedFederation) -> None:
        site = federation.sites["north"]
        folder = federation.home.runs if which == "runs" else site.state.path
        disks.append(SmallDisk(folder, 64))

    plan = toy_plan(SITES, ROUNDS, min_sites=2, deadline_s=600.0)
    with tempfile.TemporaryDirectory(prefix="smrfed-") as folder:
        try:
            federation = SupervisedFederation(Path(folder), plan, before_start=mount)
            with federation:
                for site in federation.sites.values():
                    site.behave(work_s=2.0)
                yield federation, disks[0]
        finally:
            for disk in disks:
                disk.close()


def test_a_full_disk_at_the_coordinator(tmp_path: Path) -> None:
    with with_small_disk("runs") as (federation, disk):
        run = federation.new_run("full-runs")
        watched = Watched(federation, run)
        federation.want(run)

        def failed_with(code: str) -> bool:
            events = federation.events(run)
            return any(e["kind"] == "run_failed" and code in str(e["reason"]) for e in events)

        # Full to the last byte while the sites train: the round cannot be saved. The event log lies
        # on the same disk, so the only words are those of the watchdog's memory.
        until(lambda: "computing full-runs train 1" in federation.sites["north"].notes(), "work")
        disk.fill()
        until(lambda: watched_problem(federation, watched), "a failure that is noticed")
        disk.free()
        until(lambda: watched.told("round_saved", 1), "round 1")
        # Room for words and not for a round: nobody trains.
        disk.fill(leaving=20 << 20)
        until(lambda: failed_with("SMR-E523"), "SMR-E523")
        disk.free()
        finished = federation.wait_finished(run, PATIENCE_S)
        assert body_digest(released_body(finished)) == undisturbed_sha256(run.plan, tmp_path)
        for site in federation.sites.values():
            assert [entry.round for entry in site.charges()] == [1, 2, 3, 4]
            assert [site.computed(run.run_id, number) for number in (1, 2, 3, 4)] == [1] * 4


def watched_problem(federation: SupervisedFederation, watched: Watched) -> bool:
    """Whether the Flower run has ended: with nothing saved, it can only have failed."""
    with federation.control() as control:
        newest = control.newest_run(watched.run.path)
    return newest is not None and newest[1].finished and not newest[1].completed


def test_a_full_disk_at_a_hospital_spends_no_budget(tmp_path: Path) -> None:
    with with_small_disk("state") as (federation, disk):
        run = federation.new_run("full-state")
        watched = Watched(federation, run)
        north = federation.sites["north"]
        federation.want(run)
        until(lambda: watched.told("round_saved", 1), "round 1")
        # Too little for an answer: declined before anything is charged, and asked again.
        disk.fill(leaving=4 << 20)
        until(lambda: declined(federation, watched, "SMR-E453"), "SMR-E453")
        before = [entry.round for entry in north.charges()]
        assert before in ([1], [1, 2])  # the question of round 2 may have been quicker
        disk.free()
        until(lambda: watched.told("round_saved", 2), "round 2")
        # Full to the last byte in the middle of a training: charged, and its answer is lost.
        until(lambda: "computing full-state train 3" in north.notes(), "work")
        disk.fill()
        until(lambda: declined(federation, watched, "SMR-E4", 3), "a refusal")
        disk.free()
        finished = federation.wait_finished(run, PATIENCE_S)
        assert body_digest(released_body(finished)) == undisturbed_sha256(run.plan, tmp_path)
        charged = [entry.round for entry in north.charges()]
        assert [charged.count(number) for number in (1, 2, 4)] == [1, 1, 1]
        # What was lost with the disk is trained again, once.
        assert charged.count(3) == north.computed(run.run_id, 3) == 2
        assert [entry.round for entry in federation.sites["south"].charges()] == [1, 2, 3, 4]


def declined(
    federation: SupervisedFederation, watched: Watched, code: str, number: int | None = None
) -> bool:
    return any(
        event["site"] == "north"
        and code in str(event["reason"])
        and (number is None or event["round"] == number)
        for event in federation.events(watched.run)
    )
