"""What a deployment adds to a round: the same rounds over Flower's processes and in one process.

Run ``python -m simulations.benchmarks.round_overhead --sites 2 4``: a table on stdout; with
``--json`` one JSON object on stdout and the table on stderr. Real agents on small synthetic
archives train for one step on cached tokens at 4 mm, which takes next to nothing: what is left is
signing, checking, receipts and checkpoints, and in the deployment TLS, Flower and a new courier
process per message. Seconds of a round are the driver's own, from its question to the last reply
that counts. After every deployment no process may be left.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.progress import track
from rich.table import Table

from client.agent.agent import SiteAgent
from client.config import SiteConfig
from client.training.site_model import SiteModel
from server.checkpoints.run_directory import RunDirectory
from server.flower.deployment import Deployment
from server.rounds.records import RoundRecord
from server.rounds.releases import released_body
from shared_model.atlas.atlas import Atlas
from shared_model.atlas.select import load_atlas
from shared_model.plan import FederationPlan
from shared_model.registry import default_groups
from simulations.benchmarks.machine import Machine
from simulations.cohort.cohort import CohortFolders, generate_cohort
from simulations.cohort.spec import CohortSpec, SiteSpec
from simulations.deployed.federation import LOOPBACK_DRIVER, DeployedFederation, DeployedSite
from simulations.federation.run import run_in_process
from simulations.federation.workspace import Workspace, create_workspace

_PATIENTS = 8
_TIMEOUT_S = 1800.0


@dataclass(frozen=True)
class Seconds:
    """Seconds per round after the first, which also warms up."""

    first: float
    median: float
    fastest: float
    slowest: float

    @classmethod
    def of(cls, history: Sequence[RoundRecord]) -> Seconds:
        """Of a run of at least two rounds."""
        first, *later = (record.seconds for record in history)
        return cls(first, round(statistics.median(later), 3), min(later), max(later))


@dataclass(frozen=True)
class Overhead:
    """The same rounds twice.

    ``start_up_s`` is from nothing to all sites connected and ready. ``cpu_s`` is what all processes
    of the deployment computed per round, start and end of the run shared out over the rounds: other
    users of the machine hardly change it.
    """

    sites: int
    rounds: int
    start_up_s: float
    processes: int
    run_s: float
    cpu_s: float
    in_process: Seconds
    deployed: Seconds
    same_bits: bool

    @property
    def added_s(self) -> float:
        """What the deployment adds to a median round."""
        return self.deployed.median - self.in_process.median


def compare(sites: Sequence[int], rounds: int, console: Console) -> list[Overhead]:
    """Both ways at every number of sites."""
    # Not a long path: that of a unix socket may have 107 bytes at most.
    with tempfile.TemporaryDirectory(prefix="smrfed-") as folder:
        root = Path(folder)
        names = [f"hospital-{number}" for number in range(max(sites))]
        archives = _archives(root / "cohort", names)
        return [
            _overhead(root / str(count), archives, names[:count], rounds)
            for count in track(sites, "rounds", console=console)
        ]


def _overhead(root: Path, archives: CohortFolders, names: list[str], rounds: int) -> Overhead:
    plan = _plan(names, rounds)
    atlas = load_atlas(plan.atlas, plan.input.grid)
    initial = SiteModel.build(plan, atlas).shared_arrays()
    runs: list[tuple[Workspace, RunDirectory]] = []
    for way in ("one", "deployed"):
        workspace = create_workspace(
            root / way,
            {name: archives.archive(name) for name in names},
            plan.task.labels,
            modes=("none",),
        )
        for name in names:
            _accept(workspace, name, plan, atlas)
        # One identifier for both: the same instructions, so that the bits can be compared.
        run_dir = RunDirectory.create(root / way / "run", plan, initial, "overhead")
        runs.append((workspace, run_dir))
    (workspace, run_dir), (other, other_run) = runs
    result = run_in_process(plan, workspace, run_dir, atlas)
    Deployment(
        coordinator_key=other.coordinator_key_path.resolve(),
        site_keys=other.site_keys_folder.resolve(),
        driver=LOOPBACK_DRIVER,
    ).save(other_run.path)
    deployed_sites = [DeployedSite.from_config(other.site_config(name)) for name in names]
    groups: set[int] = set()
    with DeployedFederation(deployed_sites, root / "work") as federation:
        groups |= {child.pid for child in federation.processes.children}
        begin, cpu_begin = time.monotonic(), _cpu_s(groups)
        finished = federation.run(other_run.path, _TIMEOUT_S)
        run_s, cpu_s = time.monotonic() - begin, _cpu_s(groups) - cpu_begin
    _require_gone(groups)
    return Overhead(
        sites=len(names),
        rounds=rounds,
        start_up_s=round(federation.start_up_s, 1),
        processes=len(groups),
        run_s=round(run_s, 1),
        cpu_s=round(cpu_s / rounds, 2),
        in_process=Seconds.of(result.history),
        deployed=Seconds.of(finished.latest().history),
        same_bits=released_body(finished) == result.body,
    )


def _archives(folder: Path, names: Sequence[str]) -> CohortFolders:
    sites = tuple(
        SiteSpec(name=name, patients=_PATIENTS, prevalence=(0.34, 0.33, 0.33)) for name in names
    )
    return generate_cohort(CohortSpec(sites=sites, second_session_share=0.0), folder)


def _plan(names: Sequence[str], rounds: int) -> FederationPlan:
    return FederationPlan.parse(
        {
            "name": "round overhead",
            "input": {"grid": {"spacing_mm": 4.0}},
            "model": {"name": "smrnet", "config": {"width": 4}},
            "groups": default_groups("smrnet").model_dump(),
            "privacy": {"mode": "none"},
            # A few patients on random weights diverge at an ordinary learning rate.
            "training": {"rounds": rounds, "local_steps": 1, "learning_rate": 1e-3},
            "adaptation": {"personalise": "never"},
            "federation": {
                "sites": [{"name": name, "declared_patients": _PATIENTS // 2} for name in names],
                "min_sites": len(names),
                "round_deadline_s": 600.0,
            },
            "evaluation": {"test_fraction": 0.5, "bootstrap_draws": 100},
        }
    )


def _accept(workspace: Workspace, name: str, plan: FederationPlan, atlas: Atlas) -> None:
    """Accept the plan and prepare the scans, so that no round has to wait for it."""
    agent = SiteAgent(SiteConfig.load(workspace.site_config(name)), plan, atlas=atlas)
    try:
        agent.prepare()
    finally:
        agent.close()


def _cpu_s(pids: set[int]) -> float:
    """CPU seconds of these processes so far, with those of their children that have ended."""
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return float(sum(t.user + t.system + t.children_user + t.children_system for t in times))


def _require_gone(groups: set[int]) -> None:
    left = []
    for process in psutil.process_iter(["name"]):
        try:
            if os.getpgid(process.pid) in groups:
                left.append(f"{process.pid} {process.info['name']}")
        except ProcessLookupError:
            continue
    if left:
        raise RuntimeError(f"processes of the deployment are left: {left}")


def _print_table(measured: Sequence[Overhead], console: Console) -> None:
    table = Table(title="Seconds per round: one process, and deployed over Flower")
    columns = (
        *("sites", "way", "added", "median", "min", "max", "first", "CPU"),
        *("start-up", "processes"),
    )
    for column in columns:
        table.add_column(column, justify="left" if column == "way" else "right")
    for m in measured:
        for way, seconds in (("one process", m.in_process), ("deployed", m.deployed)):
            deployed = way == "deployed"
            table.add_row(
                str(m.sites),
                way,
                f"{m.added_s:.2f}" if deployed else "",
                f"{seconds.median:.2f}",
                f"{seconds.fastest:.2f}",
                f"{seconds.slowest:.2f}",
                f"{seconds.first:.2f}",
                f"{m.cpu_s:.1f}" if deployed else "",
                f"{m.start_up_s:.0f}" if deployed else "",
                str(m.processes) if deployed else "1",
            )
    console.print(table)
    for m in measured:
        console.print(
            f"{m.sites} sites: {m.rounds} rounds deployed, start and end of the run included, in "
            f"{m.run_s:.0f} s; same final bits: {'yes' if m.same_bits else 'NO'}; all processes "
            "gone: yes"
        )


def main() -> None:
    """The command line of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--rounds", type=int, default=10, help="at least 2; the first warms up")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds: at least 2")
    console = Console(stderr=options.json, width=100)
    before = Machine.now()
    measured = compare(options.sites, options.rounds, Console(stderr=True))
    after = Machine.now()
    _print_table(measured, console)
    console.print(f"before: {before}\nafter: load average {after.load_average:g}")
    if options.json:
        record = {"machine": asdict(before), "load_average_after": after.load_average}
        rows = [asdict(m) | {"added_s": round(m.added_s, 3)} for m in measured]
        print(json.dumps({**record, "rounds": rows}))


if __name__ == "__main__":
    main()
