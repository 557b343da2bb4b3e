"""Time and memory of one training step, private beside non-private, in the same run.

Run ``python -m simulations.benchmarks.training_step``: tables on stdout; with ``--json`` one JSON
object on stdout and the tables on stderr. Inputs are random numbers of the shapes of the
demonstration's model. Cases: ``tokens`` (frozen encoder, cached), ``encoder`` (trained as well),
``backbone`` (the encoder with a linear head, on which other libraries' engines run too). Engines:

* ``plain``: SGD over all patients in one forward pass, no clipping, no noise;
* ``plain, one by one``: the same, a scan per pass, as volumes are read from disk;
* ``private``: patient-level DP-SGD;
* others, left out with ``--no-others``: ``vmap(grad)`` over the whole batch, and Opacus with hooks,
  with functorch and with ghost clipping. Each is first held against ``private``'s clipped sum; one
  that cannot run on a model, or is wrong, stands in the table with the reason.

Times: one process per case, one thread, the engines in turn, medians over the repeats; the others
in a process each, in turn with ``plain``. Peaks: a fresh process per case and engine, above what
was resident before the first step.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.progress import track
from rich.table import Table

from shared_model.plan import FederationPlan
from shared_model.start_environment import ALLOCATOR
from simulations.benchmarks.machine import Machine, high_water_mb, reset_high_water

if TYPE_CHECKING:
    from client.training.site_model import SiteModel
    from simulations.benchmarks.step_engines import Engine

Kind = Literal["tokens", "encoder", "backbone"]
ENGINES: dict[Kind, tuple[Engine, ...]] = {
    "tokens": ("plain", "private"),
    "encoder": ("plain", "plain, one by one", "private"),
    "backbone": ("plain", "plain, one by one", "private"),
}
# A step on cached tokens takes milliseconds, so that more of them cost nothing.
_MORE_REPEATS: dict[Kind, int] = {"tokens": 10, "encoder": 1, "backbone": 1}
_WARM_UP = 1
_MODULE = "simulations.benchmarks.training_step"


@dataclass(frozen=True)
class Case:
    """What is trained, on how many patients of one scan each, at which voxel size in mm."""

    kind: Kind
    patients: int
    spacing_mm: float = 2.0


@dataclass(frozen=True)
class Steps:
    """The repeats of one engine in one process: seconds per step, peaks in MB.

    ``cpu_s`` is what the process computed: another user of the machine hardly changes it.
    """

    engine: Engine
    wall_s: tuple[float, ...]
    cpu_s: tuple[float, ...]
    base_mb: float
    peak_mb: float
    trained: int

    @property
    def wall_median_s(self) -> float:
        """Median seconds of a step."""
        return statistics.median(self.wall_s)

    @property
    def cpu_median_s(self) -> float:
        """Median CPU seconds of a step."""
        return statistics.median(self.cpu_s)

    @property
    def added_mb(self) -> float:
        """Peak above what was resident before."""
        return self.peak_mb - self.base_mb


@dataclass(frozen=True)
class Measured:
    """One engine of one case; ratios are to ``plain`` of the same case."""

    case: Case
    engine: Engine
    trained: int
    time_ratio: float
    cpu_ratio: float
    memory_ratio: float
    step_s: float
    fastest_s: float
    slowest_s: float
    added_mb: float


@dataclass(frozen=True)
class Allocation:
    """One engine with glibc's defaults, beside the allocator settings that smrfed starts with."""

    case: Case
    engine: Engine
    time_ratio: float
    default_s: float
    settings_s: float
    default_peak_mb: float
    settings_peak_mb: float


@dataclass(frozen=True)
class Refused:
    """An engine of others that cannot run on a model, or gives other gradients than it should."""

    case: Case
    engine: Engine
    reason: str


def measure_here(case: Case, engines: Sequence[Engine], repeats: int) -> list[Steps] | str:
    """Take steps in this process, the engines in turn; or say why one of them is refused."""
    import torch

    from simulations.benchmarks.step_engines import OTHERS, open_engine, patients_for, refusal

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = _model(case)
    # Not where a peak is measured: what the check allocates would hide what a step needs.
    for engine in set(engines) & set(OTHERS) if "plain" in engines else ():
        reason = refusal(engine, model, 2)
        if reason:
            return reason
    initial = model.shared_arrays()
    trained = sum(value.size for value in initial.values())
    patients = {engine: patients_for(engine, model, case.patients) for engine in engines}
    reset_high_water()
    base = high_water_mb()
    wall: dict[Engine, list[float]] = {engine: [] for engine in engines}
    cpu: dict[Engine, list[float]] = {engine: [] for engine in engines}
    for repeat in range(-_WARM_UP, repeats):
        for engine in engines:
            model.load_shared(initial)
            sgd = open_engine(engine, model, case.patients)
            begin, cpu_begin = time.perf_counter(), time.process_time()
            sgd.step(patients[engine])
            seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu_begin
            sgd.close()
            if repeat >= 0:
                wall[engine].append(seconds)
                cpu[engine].append(cpu_seconds)
    peak = high_water_mb()
    return [Steps(e, tuple(wall[e]), tuple(cpu[e]), base, peak, trained) for e in engines]


def _model(case: Case) -> SiteModel:
    """The model of a case, moved a little from its start, where some gradients would be zero."""
    import torch

    from client.training.site_model import SiteModel
    from shared_model.atlas.select import load_atlas
    from simulations.benchmarks.step_engines import encoder_classifier

    plan = _plan(case)
    model = SiteModel.build(plan, load_atlas(plan.atlas, plan.input.grid))
    if case.kind == "backbone":
        model = encoder_classifier(model)
    with torch.no_grad():
        for parameter in model.parameters(model.groups["shared"]):
            parameter.add_(0.02 * torch.randn_like(parameter))
    model.model.train()
    return model


def measure(
    case: Case, engines: Sequence[Engine], repeats: int, allocator: dict[str, str]
) -> list[Steps] | str:
    """The same in a fresh process with these settings of the C library's allocator."""
    asked = json.dumps([asdict(case), list(engines), repeats])
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(
        [sys.executable, "-m", _MODULE, "--measure", asked],
        capture_output=True,
        text=True,
        env={**environment, **threads, **allocator},
    )
    if done.returncode != 0:
        raise RuntimeError(f"the measured process failed:\n{done.stderr}")
    found = json.loads(done.stdout.splitlines()[-1])
    return found if isinstance(found, str) else [Steps(**item) for item in found]


def _measured(
    case: Case, engines: Sequence[Engine], repeats: int, allocator: dict[str, str]
) -> list[Steps]:
    steps = measure(case, engines, repeats, allocator)
    if isinstance(steps, str):
        raise RuntimeError(steps)
    return steps


def compare(case: Case, repeats: int) -> tuple[list[Measured], list[Steps]]:
    """Our engines on one case; also the steps of the processes that the peaks come from."""
    engines = ENGINES[case.kind]
    timed = _measured(case, engines, repeats * _MORE_REPEATS[case.kind], ALLOCATOR)
    # glibc's defaults: memory that is kept between steps would hide how much a step needs.
    default = [_measured(case, [engine], _repeats_alone(repeats), {})[0] for engine in engines]
    measured = [
        _row(case, steps, timed[0], alone, default[0])
        for steps, alone in zip(timed, default, strict=True)
    ]
    return measured, default


def compare_others(case: Case, plain_alone: Steps, repeats: int) -> list[Measured | Refused]:
    """The engines of others on one case, each in turn with ``plain``; or why one is refused."""
    from simulations.benchmarks.step_engines import OTHERS

    out: list[Measured | Refused] = []
    for engine in OTHERS:
        steps = measure(case, ["plain", engine], max(2, repeats // 2), ALLOCATOR)
        if isinstance(steps, str):
            out.append(Refused(case, engine, steps))
            continue
        alone = _measured(case, [engine], 2, {})[0]
        out.append(_row(case, steps[1], steps[0], alone, plain_alone))
    return out


def _row(case: Case, steps: Steps, plain: Steps, alone: Steps, plain_alone: Steps) -> Measured:
    return Measured(
        case=case,
        engine=steps.engine,
        trained=steps.trained,
        time_ratio=_paired(steps.wall_s, plain.wall_s),
        cpu_ratio=_paired(steps.cpu_s, plain.cpu_s),
        memory_ratio=alone.added_mb / plain_alone.added_mb,
        step_s=steps.wall_median_s,
        fastest_s=min(steps.wall_s),
        slowest_s=max(steps.wall_s),
        added_mb=alone.added_mb,
    )


def compare_allocators(case: Case, default: Sequence[Steps], repeats: int) -> list[Allocation]:
    """Every engine of a case in a fresh process, beside one with glibc's defaults.

    CPU seconds, because the load of the machine may change between two processes.
    """
    out = []
    for without in default:
        kept = _measured(case, [without.engine], _repeats_alone(repeats), ALLOCATOR)[0]
        out.append(
            Allocation(
                case=case,
                engine=without.engine,
                time_ratio=without.cpu_median_s / kept.cpu_median_s,
                default_s=without.cpu_median_s,
                settings_s=kept.cpu_median_s,
                default_peak_mb=without.peak_mb,
                settings_peak_mb=kept.peak_mb,
            )
        )
    return out


def _repeats_alone(repeats: int) -> int:
    return max(2, repeats // 2)


def _paired(these: Sequence[float], those: Sequence[float]) -> float:
    """Median over the repeats of the ratio within a repeat."""
    return statistics.median(a / b for a, b in zip(these, those, strict=True))


def _plan(case: Case) -> FederationPlan:
    """The demonstration's plan; away from its voxel size without the weights that belong to it."""
    from shared_model.registry import default_groups
    from simulations.demo.settings import DemoSettings, demo_plan

    plan = demo_plan(DemoSettings(), {"hospital": case.patients}, "local")
    data = plan.model_dump(mode="json")
    if case.kind != "tokens":
        data["groups"] = default_groups(plan.model.name, "residual", "shared").model_dump()
    if case.spacing_mm != plan.input.grid.spacing_mm:
        data["input"]["grid"]["spacing_mm"] = case.spacing_mm
        data["model"]["weights_sha256"] = None
    return FederationPlan.parse(data)


def _print_tables(
    measured: Sequence[Measured | Refused], allocations: Sequence[Allocation], console: Console
) -> None:
    table = Table(title="One training step, one thread; ratios to plain")
    for column in ("case", "engine", "time x", "CPU x", "memory x", "s/step", "min", "max", "MB"):
        table.add_column(column, justify="left" if column in ("case", "engine") else "right")
    for m in measured:
        if isinstance(m, Refused):
            continue
        ratios = (m.time_ratio, m.cpu_ratio, m.memory_ratio)
        seconds = (m.step_s, m.fastest_s, m.slowest_s)
        table.add_row(
            _title(m.case, m.trained),
            m.engine,
            *(f"{value:.2f}" for value in ratios),
            *(f"{value:.3g}" for value in seconds),
            f"{m.added_mb:.0f}",
        )
    console.print(table)
    for r in measured:
        if isinstance(r, Refused):
            console.print(f"{r.case.kind}: {r.engine} cannot be used: {r.reason}", markup=False)
    table = Table(title="glibc's default allocation beside smrfed's settings, CPU seconds")
    for column in ("case", "engine", "default x", "default s", "with s", "peak MB", "with MB"):
        table.add_column(column, justify="left" if column in ("case", "engine") else "right")
    for a in allocations:
        table.add_row(
            f"{a.case.kind}, {a.case.patients} patients",
            a.engine,
            f"{a.time_ratio:.2f}",
            *(f"{value:.3g}" for value in (a.default_s, a.settings_s)),
            *(f"{value:.0f}" for value in (a.default_peak_mb, a.settings_peak_mb)),
        )
    console.print(table)


def _title(case: Case, trained: int) -> str:
    return f"{case.kind}, {case.patients} patients, {trained} weights"


def main() -> None:
    """The command line of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--token-patients", type=int, nargs="+", default=[45])
    parser.add_argument("--encoder-patients", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--spacing-mm", type=float, default=2.0, help="voxel size; 2 has weights")
    parser.add_argument("--repeats", type=int, default=7, help="encoder steps; tokens: ten times")
    parser.add_argument("--backbone-patients", type=int, nargs="*", default=[8])
    parser.add_argument("--no-others", action="store_true", help="leave other libraries out")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        case, engines, repeats = json.loads(options.measure)
        found = measure_here(Case(**case), engines, repeats)
        print(json.dumps(found if isinstance(found, str) else [asdict(s) for s in found]))
        return
    console = Console(stderr=options.json, width=120)
    before = Machine.now()
    spacing = options.spacing_mm
    cases = [Case("tokens", count, spacing) for count in options.token_patients]
    cases += [Case("encoder", count, spacing) for count in options.encoder_patients]
    cases += [Case("backbone", count, spacing) for count in options.backbone_patients]
    measured: list[Measured | Refused] = []
    allocations: list[Allocation] = []
    for case in track(cases, "private beside non-private", console=Console(stderr=True)):
        rows, default = compare(case, options.repeats)
        measured += rows
        if not options.no_others and case.patients == max(
            c.patients for c in cases if c.kind == case.kind
        ):
            measured += compare_others(case, default[0], options.repeats)
        if case.kind == "encoder" and case.patients == options.encoder_patients[-1]:
            allocations = compare_allocators(case, default, options.repeats)
    after = Machine.now()
    _print_tables(measured, allocations, console)
    console.print(f"before: {before}\nafter: load average {after.load_average:g}")
    if options.json:
        record = {
            "machine": asdict(before),
            "load_average_after": after.load_average,
            "steps": [asdict(row) for row in measured if isinstance(row, Measured)],
            "refused": [asdict(row) for row in measured if isinstance(row, Refused)],
            "allocator": [asdict(row) for row in allocations],
        }
        print(json.dumps(record))


if __name__ == "__main__":
    main()
