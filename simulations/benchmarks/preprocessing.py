"""What the steps from a native scan to MNI152 cost, and how good they are, on real scans.

Run ``python -m simulations.benchmarks.preprocessing --data ../shared/data``: tables on stdout; with
``--json`` one JSON object on stdout and the tables on stderr. Every scan is prepared in a process
of its own, whose peak memory is the kernel's. Beside it, in the same process, SimpleITK and, where
it can be imported, antspyx register the same brain.

Quality: brain masks against those of scans that were stripped by others, as they are and with a
rendered head put around the brain, and against a rendered head; and known affines, applied with
interpolation and recovered: how far apart the two maps to MNI152 are over the brain, mm in MNI.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from client.archive.nifti import read_volume
from client.archive.problems import Defect
from client.preprocessing.affine_search import AffineSearch
from client.preprocessing.agreement import agreement
from client.preprocessing.bias_field import CorrectBiasField
from client.preprocessing.brain_extraction import ExtractBrain, deepbet_mask, stripped_foreground
from client.preprocessing.image import Affine, Image, Mask, Volume, Work
from client.preprocessing.mattes import search_mattes
from client.preprocessing.region_volumes import region_volumes
from client.preprocessing.registration import RegisterToMNI
from client.preprocessing.reorient import Reorient
from client.preprocessing.resample_step import Resample
from client.preprocessing.template import mni_template
from shared_model.atlas.seeded import seeded_atlas
from shared_model.grid import ModelGrid
from simulations.benchmarks.machine import Machine
from simulations.benchmarks.synthetic_head import OUTSIDE, brain_of, embedded, read_labels, rendered

_SEED = 20261121
_LEVELS_MM = (8.0, 4.0, 2.0)


@dataclass
class Measured:
    """One scan.

    Attributes:
        scan: dataset and subject.
        seconds: wall time per step, and ``total``; ``total CPU`` adds up all threads.
        peak_mb: largest resident memory of the process up to the end of the pipeline.
        findings: what the steps recorded.
        refused: why the scan was refused, if it was.
        beside: per other registration tool: seconds, Dice, correlation.
        recovered_mm: per known affine, mean and maximum error over the brain.
        mask_dice: per kind of independent mask.
    """

    scan: str
    seconds: dict[str, float] = field(default_factory=dict)
    peak_mb: float = 0.0
    findings: dict[str, Any] = field(default_factory=dict)
    refused: str | None = None
    beside: dict[str, list[float]] = field(default_factory=dict)
    recovered_mm: list[list[float]] = field(default_factory=list)
    mask_dice: dict[str, float] = field(default_factory=dict)


def measure(path: Path, labels: Path | None, affines: int, beside: bool) -> Measured:
    """Prepare one scan here, then look at quality and alternatives."""
    out = Measured(_name(path))

    @contextmanager
    def timed(step: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        out.seconds[step] = round(time.perf_counter() - start, 2)

    start, cpu = time.perf_counter(), time.process_time()
    raw = read_volume(path)
    work = Work(Image(raw.voxels, raw.affine))
    del raw
    out.seconds["read"] = round(time.perf_counter() - start, 2)
    steps = (Reorient(), ExtractBrain(), CorrectBiasField(), RegisterToMNI(), Resample(ModelGrid()))
    before = work
    try:
        for step in steps:
            with timed(step.name):
                work = step(work)
            before = work if step.name == "brain_extraction" else before
        with timed("region_volumes"):
            volumes = region_volumes(work, seeded_atlas())
        tissues = volumes.brain_gm_mm3, volumes.brain_wm_mm3, volumes.brain_csf_mm3
        out.findings["tissues_ml"] = [round(v / 1000) for v in tissues]
    except Defect as defect:
        out.refused = f"{defect.kind.code}: {defect.case}"
    out.seconds["total"] = round(time.perf_counter() - start, 2)
    out.seconds["total CPU"] = round(time.process_time() - cpu, 2)
    out.peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    out.findings |= dict(work.findings)
    if out.refused or work.brain is None or work.to_mni is None:
        return out
    out.mask_dice = _masks(before.image, labels)
    rng = np.random.default_rng(_SEED)
    out.recovered_mm = [recovered(work, random_affine(rng)) for _ in range(affines)]
    if beside:
        out.beside = _beside(work)
    return out


def random_affine(rng: np.random.Generator) -> Affine:
    """Up to 20 degrees about each axis, 30 mm, 12 % of size, 0.05 of shear."""
    found = np.eye(4)
    turn = Rotation.from_euler("xyz", rng.uniform(-20, 20, 3), degrees=True).as_matrix()
    shear = np.eye(3)
    shear[np.triu_indices(3, 1)] = rng.uniform(-0.05, 0.05, 3)
    found[:3, :3] = turn @ np.diag(np.exp(rng.uniform(-0.12, 0.12, 3))) @ shear
    found[:3, 3] = rng.uniform(-30, 30, 3)
    return found


def recovered(work: Work, known: Affine) -> list[float]:
    """Mean and maximum, over the template's brain, of what is left of a known affine, mm.

    The scan and its mask are interpolated on new 1 mm voxels, moved by ``known``; both are
    registered, and the map of the moved scan after ``known`` should be the map of the scan.
    """
    image, brain, to_mni = work.image, work.brain, work.to_mni
    assert brain is not None
    assert to_mni is not None
    new = known @ image.affine
    corners = np.array(np.meshgrid(*[[0, s] for s in brain.shape])).reshape(3, -1)
    there = new[:3, :3] @ corners + new[:3, 3:]
    affine = np.eye(4)
    affine[:3, 3] = there.min(axis=1)
    shape = tuple(np.ceil(np.ptp(there, axis=1)).astype(int))
    voxel = np.linalg.inv(new) @ affine

    def moved(volume: Volume) -> Volume:
        out: Volume = affine_transform(
            volume, voxel[:3, :3], voxel[:3, 3], output_shape=shape, order=1
        )
        return out

    mask = moved(brain.astype(np.float32)) > 0.5
    again = AffineSearch(moved(image.voxels), mask, affine).best(_LEVELS_MM)
    template = mni_template()
    index = np.argwhere(template.mask[::4, ::4, ::4]) * 4
    points = index @ template.affine[:3, :3].T + template.affine[:3, 3]
    left = again @ known @ np.linalg.inv(to_mni)
    errors = np.linalg.norm(points @ left[:3, :3].T + left[:3, 3] - points, axis=1)
    return [round(float(errors.mean()), 3), round(float(errors.max()), 3)]


def _masks(image: Image, labels: Path | None) -> dict[str, float]:
    """deepbet against the mask of whoever stripped this scan, if somebody did."""
    voxel_ml = float(abs(np.linalg.det(image.affine[:3, :3]))) / 1000
    truth = stripped_foreground(image.voxels, voxel_ml)
    if truth is None:
        return {}
    found = {"as it is": _dice(deepbet_mask(image), truth)}
    if labels is not None:
        head = embedded(image, truth, labels, _SEED)
        margin = [(a - b) // 2 for a, b in zip(head.voxels.shape, truth.shape, strict=True)]
        found["in a head"] = _dice(deepbet_mask(head), np.pad(truth, [(m, m) for m in margin]))
    return found


def _beside(work: Work) -> dict[str, list[float]]:
    """Seconds, Dice and correlation of our search alone and of other tools' registrations."""
    image, brain = work.image, work.brain
    assert brain is not None
    tools: dict[str, Callable[[], Affine]] = {
        "smrfed": lambda: AffineSearch(image.voxels, brain, image.affine).best(_LEVELS_MM),
        "SimpleITK": lambda: search_mattes(image.voxels, brain, image.affine, mni_template()),
    }
    if find_spec("ants") is not None:
        tools["antspyx"] = lambda: _ants(image, brain)
    found = {}
    for tool, register in tools.items():
        start = time.perf_counter()
        to_mni = register()
        seconds = time.perf_counter() - start
        met = agreement(image.voxels, brain, image.affine, to_mni)
        found[tool] = [round(v, 4) for v in (seconds, met.dice, met.correlation)]
    return found


def _ants(image: Image, brain: Mask) -> Affine:
    """antspyx's AffineFast; its world is LPS, and its affine turns about a centre."""
    import ants  # type: ignore[import-not-found, unused-ignore]

    def as_ants(voxels: Volume, affine: Affine) -> Any:
        matrix = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)
        return ants.from_numpy(
            np.asarray(voxels, dtype=np.float32),
            origin=matrix[:3, 3].tolist(),
            spacing=spacing.tolist(),
            direction=matrix[:3, :3] / spacing,
        )

    template = mni_template()
    masked = np.where(brain, image.voxels, np.float32(0))
    result = ants.registration(
        as_ants(template.brain, template.affine),
        as_ants(masked, image.affine),
        type_of_transform="AffineFast",
        random_seed=1,
    )
    transform = ants.read_transform(result["fwdtransforms"][0])
    numbers = np.asarray(transform.parameters, dtype=np.float64)
    matrix, offset = numbers[:9], numbers[9:]
    centre = np.asarray(transform.fixed_parameters)
    to_scan = np.eye(4)
    to_scan[:3, :3] = matrix.reshape(3, 3)
    to_scan[:3, 3] = offset + centre - to_scan[:3, :3] @ centre
    lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    return np.asarray(np.linalg.inv(lps @ to_scan @ lps), dtype=np.float64)


def measure_rendered(labels_path: Path) -> Measured:
    """A rendered head whose mask and tissues are known."""
    out = Measured("rendered head (SynthSeg labels)")
    labels, affine = read_labels(labels_path)
    start = time.perf_counter()
    work = Work(Image(rendered(labels, _SEED), affine))
    for step in (Reorient(), ExtractBrain(), CorrectBiasField(), RegisterToMNI()):
        work = step(work)
    found = region_volumes(work, seeded_atlas())
    out.seconds["total"] = round(time.perf_counter() - start, 2)
    out.peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    out.findings = dict(work.findings)
    assert work.brain is not None
    inside_skull = (labels > 0) & (labels < OUTSIDE)
    out.mask_dice = {
        "without outer fluid": _dice(work.brain, brain_of(labels)),
        "all inside the skull": _dice(work.brain, inside_skull),
    }
    white = np.isin(labels, (2, 7, 16, 28, 41, 46, 60, 85)).sum()
    fluid = (brain_of(labels) & np.isin(labels, (4, 5, 14, 15, 24, 43, 44, 0))).sum()
    truth = float(brain_of(labels).sum() - white - fluid), float(white), float(fluid)
    out.findings["tissues_ml_true"] = [round(v / 1000) for v in truth]
    tissues = found.brain_gm_mm3, found.brain_wm_mm3, found.brain_csf_mm3
    out.findings["tissues_ml"] = [round(v / 1000) for v in tissues]
    return out


def _dice(one: Mask, other: Mask) -> float:
    return round(float(2 * (one & other).sum() / max(int(one.sum()) + int(other.sum()), 1)), 4)


def _name(path: Path) -> str:
    """Dataset and subject, of ``bids/DATASET/sub-X/anat/...``; the file's name elsewhere."""
    inside = path.parent.name == "anat"
    return f"{path.parents[2].name} {path.parents[1].name}" if inside else path.name.split(".")[0]


def _in_own_process(arguments: Sequence[str], threads: int) -> Measured:
    command = [sys.executable, "-m", "simulations.benchmarks.preprocessing", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def _print_tables(rows: Sequence[Measured], console: Console) -> None:
    steps = list(dict.fromkeys(step for row in rows for step in row.seconds))
    table = Table(title="Seconds per step (wall), and peak memory of the process")
    for column in ("scan", *steps, "peak MB"):
        table.add_column(column, justify="left" if column == "scan" else "right")
    for row in rows:
        seconds = (f"{row.seconds[s]:.1f}" if s in row.seconds else "" for s in steps)
        table.add_row(row.scan, *seconds, f"{row.peak_mb:.0f}")
    console.print(table)
    table = Table(title="Quality")
    columns = ("scan", "brain ml", "GM/WM/CSF ml", "Dice", "corr.", "mask Dice", "recovered mm")
    for column in columns:
        table.add_column(column, justify="left" if column == "scan" else "right")
    for row in rows:
        found = row.findings
        tissues = "/".join(map(str, found.get("tissues_ml", [])))
        if "tissues_ml_true" in found:
            tissues += " (true " + "/".join(map(str, found["tissues_ml_true"])) + ")"
        errors = np.array(row.recovered_mm)
        table.add_row(
            row.scan + (f"\nREFUSED {row.refused}" if row.refused else ""),
            f"{found.get('brain_ml', float('nan')):.0f}",
            tissues,
            f"{found['registration_dice']:.3f}" if "registration_dice" in found else "",
            f"{found['registration_correlation']:.3f}" if "registration_dice" in found else "",
            ", ".join(f"{kind} {dice:.3f}" for kind, dice in row.mask_dice.items()),
            f"{errors[:, 0].mean():.2f}, at most {errors[:, 1].max():.2f}" if errors.size else "",
        )
    console.print(table)
    table = Table(title="Registration beside others: seconds, Dice, correlation")
    tools = list(dict.fromkeys(tool for row in rows for tool in row.beside))
    for column in ("scan", *tools):
        table.add_column(column)
    for row in rows:
        cells = (row.beside.get(tool) for tool in tools)
        if row.beside:
            table.add_row(
                row.scan, *(f"{c[0]:.1f}, {c[1]:.3f}, {c[2]:.3f}" if c else "" for c in cells)
            )
    console.print(table)


def main() -> None:
    """The command line of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with bids/ and labelmaps/")
    parser.add_argument("--scan", type=Path, nargs="*", default=[], help="further NIfTI files")
    parser.add_argument("--affines", type=int, default=3, help="known affines per scan")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--no-beside", action="store_true", help="our own steps only")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        path, labels, affines, beside = json.loads(options.measure)
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        kept = Path(labels) if labels else None
        row = measure(Path(path), kept, affines, beside) if path else measure_rendered(Path(labels))
        print(json.dumps(asdict(row)))
        return
    console = Console(stderr=options.json, width=160)
    scans = [*options.scan]
    maps: list[Path] = []
    if options.data:
        scans += sorted(options.data.glob("bids/*/*/anat/*_T1w.nii.gz"))
        maps = sorted(options.data.glob("labelmaps/*.nii.gz"))[:1]
    labels = str(maps[0]) if maps else None
    tasks = [[str(path), labels, options.affines, not options.no_beside] for path in scans]
    tasks += [["", labels, 0, False]] if labels else []
    before = Machine.now()
    rows = [
        _in_own_process(["--measure", json.dumps(task)], options.threads)
        for task in track(tasks, "scans", console=Console(stderr=True))
    ]
    _print_tables(rows, console)
    console.print(
        f"{options.threads} threads; before: {before}\nafter: load {os.getloadavg()[0]:.2f}"
    )
    if options.json:
        print(json.dumps({"machine": asdict(before), "scans": [asdict(row) for row in rows]}))


if __name__ == "__main__":
    main()
