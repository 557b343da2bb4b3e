"""Where every figure of docs/quality.md comes from.

Run ``python -m simulations.benchmarks.quality --data ../shared/data``: prepares the T1w images of
``data/bids`` and the DICOM series of ``data/dicom`` by the product's own steps, measures them,
changes them and registers them again, spoils them, and prints tables; with ``--json`` one JSON
object on stdout and the tables on stderr. With ``--out`` a second run finds what the first one
prepared, as the product does: by the scan's bytes and every step.

Not covered: true repeat scans, twins, children, severe atrophy, tumours, and hospitals with
many people; nobody may redistribute such scans. Limits were chosen with these heads in view.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console

from client.prepared.native_recipe import NativeRecipe
from shared_model.plan import AtlasSection, InputSection
from shared_model.preparation import Preparation
from simulations.benchmarks.machine import Machine
from simulations.benchmarks.quality_calibration.calibration import calibrate
from simulations.benchmarks.quality_calibration.heads import find_heads
from simulations.benchmarks.quality_calibration.tables import as_json, print_tables


def main() -> None:
    """The command line of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with bids/ and dicom/")
    parser.add_argument("--out", type=Path, help="keeps what was prepared; else it is thrown away")
    parser.add_argument("--heads", type=int, help="only so many, for a first look")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    # As in a process of the product that has one core to itself.
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    console, progress = Console(stderr=options.json, width=140), Console(stderr=True)
    before = Machine.now()
    with tempfile.TemporaryDirectory(prefix="smrfed-quality-") as temporary:
        out = Path(temporary) if options.out is None else options.out
        files = find_heads(options.data, out, options.heads)
        if not files:
            parser.error(f"no T1w images below {options.data / 'bids'}")
        section = InputSection(preparation=Preparation(source="native"))
        recipe = NativeRecipe(section, AtlasSection(), out)
        found = calibrate(files, recipe, lambda text: progress.print(text, highlight=False))
    print_tables(found, console)
    console.print(f"{before}")
    if options.json:
        print(json.dumps({"machine": asdict(before), **as_json(found)}))


if __name__ == "__main__":
    main()
