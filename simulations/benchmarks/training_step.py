"""Time and memory of one training step, private beside non-private, in the same run.

Run ``python -m simulations.benchmarks.training_step``: two tables on stdout; with ``--json`` one
JSON object on stdout and the tables on stderr. Inputs are random numbers of the shapes of the
demonstration's model. Two cases: cached tokens (frozen encoder), and the encoder trained as well.
Three engines:

* ``plain``: SGD over all patients in one forward pass, no clipping, no noise;
* ``plain, one by one``: the same, a scan per pass, as volumes are read from disk (encoder only);
* ``private``: patient-level DP-SGD.

Times: one process per case, one thread, the engines in turn, medians over the repeats. Peaks: a
fresh process per case and engine, above what was resident before the first step.
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
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.progress import track
from rich.table import Table

from shared_model.plan import FederationPlan
from simulations.benchmarks.machine import ALLOCATOR, Machine, high_water_mb, reset_high_water

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from client.training.examples import PatientExamples
    from client.training.patient_sgd import PatientSGD
    from client.training.plain_sgd import PlainSGD
    from client.training.site_model import SiteModel

Kind = Literal["tokens", "encoder"]
Engine = Literal["plain", "plain, one by one", "private"]
ENGINES: dict[Kind, tuple[Engine, ...]] = {
    "tokens": ("plain", "private"),
    "encoder": ("plain", "plain, one by one", "private"),
}
# A step on cached tokens takes milliseconds, so that more of them cost nothing.
_MORE_REPEATS: dict[Kind, int] = {"tokens": 10, "encoder": 1}
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


def measure_here(case: Case, engines: Sequence[Engine], repeats: int) -> list[Steps]:
    """Take steps in this process, the engines in turn."""
    import torch

    from client.training.site_model import SiteModel
    from shared_model.atlas.select import load_atlas

    torch.set_num_threads(1)
    torch.manual_seed(0)
    plan = _plan(case)
    model = SiteModel.build(plan, load_atlas(plan.atlas, plan.input.grid))
    initial = model.shared_arrays()
    trained = sum(value.size for value in initial.values())
    model.model.train()
    patients = {engine: _patients(engine, model, case.patients) for engine in engines}
    reset_high_water()
    base = high_water_mb()
    wall: dict[Engine, list[float]] = {engine: [] for engine in engines}
    cpu: dict[Engine, list[float]] = {engine: [] for engine in engines}
    for repeat in range(-_WARM_UP, repeats):
        for engine in engines:
            model.load_shared(initial)
            sgd = _open(engine, model, case.patients)
            begin, cpu_begin = time.perf_counter(), time.process_time()
            sgd.step(patients[engine])
            seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu_begin
            sgd.close()
            if repeat >= 0:
                wall[engine].append(seconds)
                cpu[engine].append(cpu_seconds)
    peak = high_water_mb()
    return [Steps(e, tuple(wall[e]), tuple(cpu[e]), base, peak, trained) for e in engines]


def measure(
    case: Case, engines: Sequence[Engine], repeats: int, allocator: dict[str, str]
) -> list[Steps]:
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
    return [Steps(**item) for item in json.loads(done.stdout.splitlines()[-1])]


def compare(case: Case, repeats: int) -> tuple[list[Measured], list[Steps]]:
    """All engines of one case; also the steps of the processes that the peaks come from."""
    engines = ENGINES[case.kind]
    timed = measure(case, engines, repeats * _MORE_REPEATS[case.kind], ALLOCATOR)
    # glibc's defaults: memory that is kept between steps would hide how much a step needs.
    default = [measure(case, [engine], _repeats_alone(repeats), {})[0] for engine in engines]
    plain = timed[0]
    measured = [
        Measured(
            case=case,
            engine=steps.engine,
            trained=steps.trained,
            time_ratio=_paired(steps.wall_s, plain.wall_s),
            cpu_ratio=_paired(steps.cpu_s, plain.cpu_s),
            memory_ratio=alone.added_mb / default[0].added_mb,
            step_s=steps.wall_median_s,
            fastest_s=min(steps.wall_s),
            slowest_s=max(steps.wall_s),
            added_mb=alone.added_mb,
        )
        for steps, alone in zip(timed, default, strict=True)
    ]
    return measured, default


def compare_allocators(case: Case, default: Sequence[Steps], repeats: int) -> list[Allocation]:
    """Every engine of a case in a fresh process, beside one with glibc's defaults.

    CPU seconds, because the load of the machine may change between two processes.
    """
    out = []
    for without in default:
        kept = measure(case, [without.engine], _repeats_alone(repeats), ALLOCATOR)[0]
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
    if case.kind == "encoder":
        data["groups"] = default_groups(plan.model.name, "residual", "shared").model_dump()
    if case.spacing_mm != plan.input.grid.spacing_mm:
        data["input"]["grid"]["spacing_mm"] = case.spacing_mm
        data["model"]["weights_sha256"] = None
    return FederationPlan.parse(data)


def _patients(engine: Engine, model: SiteModel, count: int) -> list[PatientExamples]:
    """Patients of one scan each; volumes one by one as from disk, or as they come in a batch."""
    import torch

    from client.archive.patients import Scan
    from client.training.examples import PatientExamples, ScanVolumes
    from client.training.self_test import synthetic_inputs

    class Held:
        """A store whose volumes are in memory already."""

        def volume(self, scan: Scan) -> npt.NDArray[np.float32]:
            return volumes[scan]

    volumes: dict[Scan, npt.NDArray[np.float32]] = {}
    out = []
    for number in range(count):
        inputs = synthetic_inputs(model, 1)
        label = number % len(model.plan.task.labels)
        labels = torch.tensor([label])
        if isinstance(inputs, torch.Tensor) and engine != "plain":
            scan = Scan("", Path(f"scan-{number}"), label, None)
            volumes[scan] = inputs[0, 0].numpy()
            out.append(
                PatientExamples(str(number), ScanVolumes(Held(), (scan,), model.device), labels)
            )
        else:
            out.append(PatientExamples(str(number), inputs, labels))
    return out


def _open(engine: Engine, model: SiteModel, count: int) -> PatientSGD | PlainSGD:
    """An engine at the model's present parameters; all patients join every step."""
    from client.privacy.secure_random import SecureRandom, SeededRandom
    from client.training.flat_parameters import FlatParameters
    from client.training.patient_gradients import patient_gradients
    from client.training.patient_sgd import PatientSGD
    from client.training.plain_sgd import PlainSGD

    plan, names = model.plan, model.groups["shared"]
    if engine != "private":
        return PlainSGD(
            model.logits,
            model.parameters(names),
            sampling_rate=1.0,
            declared_patients=count,
            learning_rate=plan.training.learning_rate,
            weight_decay=plan.training.weight_decay,
            random=SeededRandom("benchmark"),
        )
    flat = FlatParameters(model.parameters(names))
    return PatientSGD(
        flat,
        patient_gradients(model, names, flat),
        sampling_rate=1.0,
        declared_patients=count,
        noise_multiplier=plan.privacy.noise_multiplier,
        clipping_norm=plan.privacy.clipping_norm,
        learning_rate=plan.training.learning_rate,
        weight_decay=plan.training.weight_decay,
        random=SecureRandom(),
    )


def _print_tables(
    measured: Sequence[Measured], allocations: Sequence[Allocation], console: Console
) -> None:
    table = Table(title="One training step, one thread; ratios to plain")
    for column in ("case", "engine", "time x", "CPU x", "memory x", "s/step", "min", "max", "MB"):
        table.add_column(column, justify="left" if column in ("case", "engine") else "right")
    for m in measured:
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
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        case, engines, repeats = json.loads(options.measure)
        print(json.dumps([asdict(s) for s in measure_here(Case(**case), engines, repeats)]))
        return
    console = Console(stderr=options.json, width=120)
    before = Machine.now()
    spacing = options.spacing_mm
    cases = [Case("tokens", count, spacing) for count in options.token_patients]
    cases += [Case("encoder", count, spacing) for count in options.encoder_patients]
    measured: list[Measured] = []
    default: list[Steps] = []
    for case in track(cases, "private beside non-private", console=Console(stderr=True)):
        rows, default = compare(case, options.repeats)
        measured += rows
    allocations = compare_allocators(cases[-1], default, options.repeats)
    after = Machine.now()
    _print_tables(measured, allocations, console)
    console.print(f"before: {before}\nafter: load average {after.load_average:g}")
    if options.json:
        record = {
            "machine": asdict(before),
            "load_average_after": after.load_average,
            "steps": [asdict(row) for row in measured],
            "allocator": [asdict(row) for row in allocations],
        }
        print(json.dumps(record))


if __name__ == "__main__":
    main()
