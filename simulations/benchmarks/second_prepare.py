"""How long ``smrfed-site prepare`` takes when nothing has changed.

A mock archive: the MNI152 brain on 2 mm voxels with noise of its own per subject. The first subject
is prepared by the real steps; the others get its results through ``NativeStore.save``, under their
own files' digests and with fingerprints of their own, because to prepare hundreds takes an hour and
the second run does not see the difference. Then the command runs twice as a process of its own. The
first run writes derivatives, tables and page; the second one has nothing to do.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import nibabel
import numpy as np
from scipy.ndimage import zoom

from client.commands.preparing import native_site
from client.config import SiteConfig
from client.prepared.native_recipe import NativeRecipe
from client.prepared.native_scan import prepare_native_scan
from client.prepared.native_store import NativeScan
from shared_model.atlas.tissue import load_tissue_maps
from simulations.benchmarks.machine import Machine

_SPACING_MM = 2.0
_SITE = """name = "mock"
archive = "archive"
state_dir = "state"
coordinator_key = "coordinator.key.pub"
policy = "policy.toml"
socket = "agent.sock"

[labels]
CN = ["CN"]
AD = ["AD"]
"""


@dataclass(frozen=True)
class Run:
    """One run of the command.

    Attributes:
        seconds: on the clock.
        cpu_seconds: user and system, of the command and its children.
    """

    seconds: float
    cpu_seconds: float


def main() -> None:
    """The command line of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=int, default=200)
    parser.add_argument("--json", action="store_true", help="for scripts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="smrfed-second-") as folder:
        first, second = measure(Path(folder), options.scans)
    if options.json:
        print(
            json.dumps({"scans": options.scans, "first": asdict(first), "second": asdict(second)})
        )
        return
    print(f"{options.scans} scans, prepared before ({Machine.now()})")
    for name, run in (("writes derivatives and page", first), ("nothing has changed", second)):
        print(f"{name:<28}{run.seconds:7.2f} s {run.cpu_seconds:7.2f} s CPU")


def measure(folder: Path, scans: int) -> tuple[Run, Run]:
    """Make the archive below ``folder``, fill the store, and run the command twice."""
    write_archive(folder / "archive", scans)
    config = folder / "site.toml"
    config.write_text(_SITE)
    site = SiteConfig.load(config)
    fill_store(native_site(site, None).recipe, sorted(site.archive.rglob("*_T1w.nii")))
    return _run(config), _run(config)


def write_archive(root: Path, scans: int) -> None:
    """A BIDS archive of so many subjects with one stripped scan of 1.8 MB each."""
    maps = load_tissue_maps()
    clean = zoom(
        maps.t1.astype(np.float32), 1 / _SPACING_MM, order=1, grid_mode=True, mode="grid-constant"
    )
    affine = maps.affine @ np.diag([_SPACING_MM] * 3 + [1.0])
    affine[:3, 3] += (_SPACING_MM - 1) / 2
    root.mkdir(parents=True)
    (root / "dataset_description.json").write_text('{"Name": "mock", "BIDSVersion": "1.10.0"}')
    rows = ["participant_id\tage\tsex\tdiagnosis"]
    for number in range(scans):
        name = f"sub-{number:04d}"
        rows.append(f"{name}\t{60 + number % 30}\t{'FM'[number % 2]}\t{('CN', 'AD')[number % 2]}")
        noise = np.random.default_rng(number).normal(0, 6, clean.shape)
        voxels = np.where(clean > 8, np.clip(clean + noise, 1, 300), 0) * 4
        image = nibabel.Nifti1Image(voxels.astype(np.int16), affine)
        image.set_sform(affine, 1)
        image.set_qform(affine, 1)
        path = root / name / "anat" / f"{name}_T1w.nii"
        path.parent.mkdir(parents=True)
        nibabel.save(image, path)
    (root / "participants.tsv").write_text("\n".join(rows) + "\n")


def fill_store(recipe: NativeRecipe, paths: list[Path]) -> None:
    """Prepare the first scan, and keep its results for the others as if they were theirs."""
    store = recipe.store
    prepare_native_scan(recipe, paths[0])
    source = store.files.sha256(paths[0])
    record, print_ = store.record(source), store.fingerprint(source)
    if record is None or not record.is_prepared or print_ is None:
        raise RuntimeError(f"the mock scan was not prepared: {record and record.defect}")
    volume, brain, mosaic = store.load_volume(source), store.brain(source), store.mosaic(source)
    for path in paths[1:]:
        own = store.files.sha256(path)
        theirs = np.random.default_rng(int(own[:8], 16)).normal(size=print_.shape)
        theirs /= np.linalg.norm(theirs)
        mine = record.model_copy(update={"source_sha256": own, "voxels_sha256": own[::-1]})
        store.save(NativeScan(mine, volume, brain, theirs.astype(np.float16), mosaic))


def _run(config: Path) -> Run:
    command = [sys.executable, "-m", "client.cli", "prepare", "--config", str(config), "--json"]
    begin = time.perf_counter()
    process = subprocess.Popen(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    # 3: prepared, but something is left out: the template reaches below the model grid.
    if process.returncode not in (0, 3):
        raise RuntimeError(f"smrfed-site prepare ended with {process.returncode}")
    return Run(round(seconds, 2), round(used.ru_utime + used.ru_stime, 2))


if __name__ == "__main__":
    main()
