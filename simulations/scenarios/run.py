"""Run a scenario: cohorts, hospitals, jobs; what is done is never done again."""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from shared_model.errors import SmrfedError
from simulations.cohort.cohort import generate_cohort
from simulations.process_pool import Processes, give_memory_back
from simulations.scenarios.jobs import Job, jobs_of
from simulations.scenarios.load import NamedScenario
from simulations.scenarios.ray_pool import RayTasks, require_ray
from simulations.scenarios.records import Records
from simulations.scenarios.run_job import run_job
from simulations.scenarios.schema import MEASURED
from simulations.scenarios.site_data import SiteData
from simulations.scenarios.usage import Measuring, Usage, told, write_usage


@dataclass(frozen=True)
class Machine:
    """What the jobs may use.

    Attributes:
        workers: processes, one job and one thread each.
        gpus: visible GPUs by name, one process each; empty: processors only.
        ray: hand the jobs to Ray instead of processes of this machine.
    """

    workers: int = 1
    gpus: tuple[str, ...] = ()
    ray: bool = False

    @property
    def device(self) -> str:
        """Of the models, as a site's configuration names it."""
        return "cuda" if self.gpus else "cpu"

    def workforce(self, pieces: int) -> Processes | RayTasks:
        """Who does so many independent pieces of work."""
        if self.ray:
            return RayTasks(self.workers, bool(self.gpus))
        return Processes(min(self.workers, pieces), self.gpus)


def run_scenario(
    named: NamedScenario, out: Path, machine: Machine, console: Console, *, again: bool = False
) -> tuple[Job, ...]:
    """Do every job of a scenario that ``out`` does not hold yet, or all; returns all jobs.

    Everything is checked before the first file is written. Raises SMR-E682 to E686, SMR-E632 where
    ``out`` holds other cohorts, and what training raises; finished jobs stay.
    """
    if machine.ray:
        require_ray()
    jobs = jobs_of(named)
    with _only_run(out), _bars(console) as bars, machine.workforce(_pieces(jobs)) as workforce:
        shutil.rmtree(out / "work", ignore_errors=True)
        records = Records(out / "records")
        waiting = [job for job in jobs if again or records.find(job) is None]
        _cohorts(waiting, out, machine, bars)
        _prepare(waiting, out, machine, bars, workforce)
        task = bars.add_task("training and testing", total=len(jobs))
        bars.update(task, completed=len(jobs) - len(waiting))
        usage: list[Usage] = []

        def finished(_job: Job, took: Usage) -> None:
            usage.append(took)
            write_usage(usage, out)
            bars.advance(task)

        workforce.spread(functools.partial(_run, out, machine.device), waiting, finished)
        shutil.rmtree(out / "work", ignore_errors=True)
    if usage:
        console.print(told(usage), highlight=False, soft_wrap=True)
    return jobs


def _pieces(jobs: Sequence[Job]) -> int:
    """The largest number of things that can be done at once."""
    return max(len(jobs), len({(job.seed, site) for job in jobs for site in job.sites}))


def _run(out: Path, device: str, job: Job) -> Usage:
    measuring = Measuring()
    path = run_job(job, _site_data(out, device))
    give_memory_back()
    return measuring.done(path.name)


def _warm(out: Path, device: str, item: tuple[Job, str]) -> None:
    """Tokens of a hospital's scans, or its region volumes, onto the disk."""
    job, site = item
    data = _site_data(out, device)
    if job.trains:
        data.hospital(job, site)
    else:
        data.volumes(job, site, data.patients(job, site))


@functools.cache
def _site_data(out: Path, device: str) -> SiteData:
    return SiteData(out, device)


def _cohorts(jobs: Sequence[Job], out: Path, machine: Machine, bars: Progress) -> None:
    """Write the cohorts that are not complete."""
    by_seed = {job.seed: job for job in jobs if job.cohort is not None}
    for seed, job in by_seed.items():
        assert job.cohort is not None
        total = sum(site.patients for site in job.cohort.sites)
        task = bars.add_task(f"synthetic patients, seed {seed}", total=total)
        tell = functools.partial(_tell, bars, task)
        generate_cohort(job.cohort, out / f"cohort-{seed}", machine.workers, tell)


def _tell(bars: Progress, task: TaskID, done: int, _total: int) -> None:
    bars.update(task, completed=done)


def _prepare(
    jobs: Sequence[Job],
    out: Path,
    machine: Machine,
    bars: Progress,
    workforce: Processes | RayTasks,
) -> None:
    """Read every hospital once, hospitals side by side, so that no two jobs do the same."""
    items: dict[tuple[int, str, bool], tuple[Job, str]] = {}
    for job in jobs:
        if job.trains or job.kind in MEASURED:
            for site in job.sites:
                items.setdefault((job.seed, site, job.trains), (job, site))
    if not items:
        return
    for seed in {seed for seed, _, _ in items}:
        # Before the workers: the hospitals' keys are made once.
        first = next(job for job, _ in items.values() if job.seed == seed)
        _site_data(out, machine.device).parties(first)
    task = bars.add_task("reading hospitals", total=len(items))
    workforce.spread(
        functools.partial(_warm, out, machine.device),
        list(items.values()),
        lambda _item, _nothing: bars.advance(task),
    )


@contextmanager
def _only_run(out: Path) -> Iterator[None]:
    """Hold ``out`` for this process; raises SMR-E685 while another one does."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SmrfedError(
                "SMR-E685",
                f"another run is at work in {out}",
                expected="one smrfed-sim run per folder; it uses all cores by itself",
                found="a held lock",
                remedy="wait for the other run, or choose another --out",
            ) from None
        yield


def _bars(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description:<34}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console)


def visible_gpus() -> tuple[str, ...]:
    """Names of the GPUs that this process may use, without starting any of them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return tuple(name for name in named.split(",") if name.strip() not in ("", "-1"))
    import torch

    return tuple(str(index) for index in range(torch.cuda.device_count()))
