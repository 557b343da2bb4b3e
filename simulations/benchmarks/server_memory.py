"""Peak memory of the coordinator for one round, beside Flower's own FedAvg, by number of sites.

Run ``python -m simulations.benchmarks.server_memory --sites 3 12 --megabytes 50``: a table on
stderr, JSON on stdout. Every case runs in a fresh process; the updates lie on disk, so that a
process holds in memory only what its aggregation keeps. The peak is VmHWM of /proc (Linux), imports
included.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console
from rich.progress import track
from rich.table import Table

from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import body_digest, decode_arrays, encode_arrays
from shared_model.protocol.messages import RoundInstruction, RoundReply, decode_header
from shared_model.protocol.sealed import Sealed, seal
from simulations.benchmarks.machine import high_water_mb

Engine = Literal["smrfed", "flower"]
ENGINES: tuple[Engine, ...] = ("smrfed", "flower")
ARRAYS = 20
_PLAN = "plan.json"


@dataclass(frozen=True)
class Peak:
    """One measured process; ``base_mb`` is its peak before the first update was read."""

    engine: Engine
    sites: int
    model_mb: float
    base_mb: float
    peak_mb: float

    @property
    def models_held(self) -> float:
        """Memory above the base, in copies of the model."""
        return (self.peak_mb - self.base_mb) / self.model_mb


def measure(engine: Engine, sites: int, megabytes: float, folder: Path) -> Peak:
    """Write the sites' updates below ``folder`` and measure one round in a fresh process."""
    case = folder / f"{engine}-{sites}"
    case.mkdir(parents=True)
    for site in range(sites):
        (case / f"site-{site}.safetensors").write_bytes(encode_arrays(_arrays(megabytes, site)))
    (case / "global.safetensors").write_bytes(encode_arrays(_arrays(megabytes, sites)))
    module = "simulations.benchmarks.server_memory"
    command = [sys.executable, "-m", module, "--measure", engine, "--folder", str(case)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"the measured process failed:\n{done.stderr}")
    base, peak = json.loads(done.stdout.splitlines()[-1])
    return Peak(engine, sites, megabytes, base, peak)


def compare(sites: list[int], megabytes: float) -> list[Peak]:
    """Both engines at every number of sites, one process after another."""
    cases = [(engine, count) for engine in ENGINES for count in sites]
    with tempfile.TemporaryDirectory(prefix="smrfed-memory-") as folder:
        return [
            measure(engine, count, megabytes, Path(folder))
            for engine, count in track(cases, "measuring", console=Console(stderr=True))
        ]


def _arrays(megabytes: float, seed: int) -> dict[str, npt.NDArray[np.float32]]:
    size = max(int(megabytes * 1e6 / 4 / ARRAYS), 1)
    generator = np.random.default_rng(seed)
    return {
        f"layer{i:02d}.weight": generator.standard_normal(size, dtype=np.float32) * np.float32(0.01)
        for i in range(ARRAYS)
    }


class _DiskTransport:
    """Each site's reply is read from disk and signed when it is polled: one at a time."""

    def __init__(self, folder: Path, key: Ed25519PrivateKey) -> None:
        self._folder = folder
        self._key = key
        self._asked: dict[str, Sealed] = {}

    def push(self, site: str, message: Sealed, time_to_live_s: float) -> str:
        self._asked[site] = message
        return site

    def poll(self, handle: str) -> Sealed:
        message = self._asked[handle]
        asked = decode_header(RoundInstruction, message)
        body = encode_arrays({})
        if asked.kind == "train":
            body = (self._folder / f"{handle}.safetensors").read_bytes()
        reply = RoundReply(
            **asked.model_dump(exclude={"body_sha256", "acknowledged"}),
            body_sha256=body_digest(body),
            instruction_sha256=message.digest.hex(),
        )
        return seal(reply.canonical_json, body, self._key)


def _one_round_of_smrfed(folder: Path) -> float:
    from server.checkpoints.run_directory import RunDirectory
    from server.rounds.driver import RoundDriver
    from server.rounds.settings import DriverSettings

    sites = sorted(path.stem for path in folder.glob("site-*.safetensors"))
    plan = FederationPlan.parse(
        {
            "name": "server memory",
            "privacy": {"mode": "none"},
            "training": {"rounds": 1},
            "federation": {"sites": [{"name": n, "declared_patients": 1} for n in sites]},
        }
    )
    base = high_water_mb()
    initial = decode_arrays((folder / "global.safetensors").read_bytes())
    run = RunDirectory.create(folder / "run", plan, initial, "server-memory")
    del initial
    key = Ed25519PrivateKey.generate()
    driver = RoundDriver(
        plan,
        run,
        _DiskTransport(folder, key),
        key,
        dict.fromkeys(sites, key.public_key()),
        settings=DriverSettings.in_process(),
    )
    result = driver.run()
    if result.history[0].accepted != tuple(sites):
        raise RuntimeError(f"sites were set aside: {result.history[0].set_aside}")
    return base


def _one_round_of_flower(folder: Path) -> float:
    from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
    from flwr.serverapp.strategy import FedAvg
    from flwr.supercore.task_identity import TaskIdentity

    # Outside a Flower process a Message needs an identity before it can be made.
    TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1

    def record(path: Path) -> ArrayRecord:
        arrays = decode_arrays(path.read_bytes())
        return ArrayRecord({name: Array(value) for name, value in arrays.items()})

    def replies() -> Iterator[Message]:
        for path in sorted(folder.glob("site-*.safetensors")):
            content = {"arrays": record(path), "metrics": MetricRecord({"num-examples": 1})}
            question = Message(RecordDict(), dst_node_id=2, message_type="train")
            yield Message(RecordDict(content), reply_to=question)

    base = high_water_mb()
    held = record(folder / "global.safetensors")
    # Strategy.start hands over a list: the grid collects all replies of a round first.
    new, _ = FedAvg(fraction_evaluate=0.0).aggregate_train(1, list(replies()))
    if new is None or new.keys() != held.keys():
        raise RuntimeError("Flower did not aggregate the replies")
    return base


def _print_table(peaks: list[Peak]) -> None:
    table = Table(title="Coordinator, one round")
    for column in ("engine", "sites", "model MB", "base MB", "peak MB", "models held"):
        table.add_column(column, justify="left" if column == "engine" else "right")
    for p in peaks:
        numbers = (p.model_mb, p.base_mb, p.peak_mb)
        cells = [f"{value:.0f}" for value in numbers] + [f"{p.models_held:.1f}"]
        table.add_row(p.engine, str(p.sites), *cells)
    Console(stderr=True).print(table)


def main() -> None:
    """The command line of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, nargs="+", default=[3, 12])
    parser.add_argument("--megabytes", type=float, default=50.0, help="size of the model")
    parser.add_argument("--measure", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        one_round = _one_round_of_smrfed if options.measure == "smrfed" else _one_round_of_flower
        base = one_round(options.folder)
        print(json.dumps([base, high_water_mb()]))
        return
    peaks = compare(options.sites, options.megabytes)
    _print_table(peaks)
    print(json.dumps([asdict(p) | {"models_held": round(p.models_held, 2)} for p in peaks]))


if __name__ == "__main__":
    main()
