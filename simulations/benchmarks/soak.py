"""Weeks of rounds in an hour: does anything grow while processes are killed at random?

Run ``python -m simulations.benchmarks.soak --rounds 500 --restarts 40 --seed 0 --out FOLDER``. Two
hospitals and a coordinator run as real processes under ``up`` (agents without torch; ledger, gate,
receipts, answers on disk are the real ones). A round takes some seconds, and most restarts half a
minute to two minutes. After each round the resident memory, descriptors and threads of every
process and the bytes on disk are written to ``FOLDER/samples.jsonl``; at the end
``FOLDER/soak.json`` holds growth per round with 95 % intervals, and a table is printed. The final
parameters must be, bit for bit, those of a run to which nothing happened.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from server.checkpoints.run_directory import RunDirectory
from shared_model.protocol.arrays import body_digest
from simulations.benchmarks.growth import Growth, growth
from simulations.benchmarks.machine import Machine
from simulations.deployed.supervised import SupervisedFederation, toy_plan
from simulations.deployed.undisturbed import undisturbed_sha256
from simulations.deployed.victims import processes

SITES = ("north", "south")
_LOOK_S = 0.2
_ROUND_S = 600.0
_KILLS_AFTER_S = (0.0, 7.0)


@dataclass
class Soak:
    """What was done and seen."""

    rounds_wanted: int
    seed: int
    samples: list[dict[str, Any]] = field(default_factory=list)
    killed: list[dict[str, Any]] = field(default_factory=list)
    same_bits: bool | None = None
    trained_twice: int = 0
    minutes: float = 0.0


def soak(
    rounds: int, restarts: int, seed: int, out: Path, minutes: float, console: Console
) -> Soak:
    """Drive the run and disturb it; ends early, with what was seen, after ``minutes``."""
    plan = toy_plan(SITES, rounds, min_sites=len(SITES), deadline_s=_ROUND_S, noise=30.0)
    result, chance = Soak(rounds, seed), random.Random(seed)
    due = Counter(chance.randint(2, rounds) for _ in range(restarts))
    begin = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="smrfed-") as folder,
        SupervisedFederation(Path(folder), plan, without=()) as federation,
    ):
        run = federation.new_run("soak")
        federation.want(run)
        samples = (out / "samples.jsonl").open("w", buffering=1)
        for number in _saved_rounds(federation, run, begin + 60 * minutes):
            sample = {"round": number, "at_s": time.monotonic() - begin}
            sample |= _measure(federation, run)
            result.samples.append(sample)
            samples.write(json.dumps(sample) + "\n")
            for _ in range(due.pop(number, 0)):
                time.sleep(chance.uniform(*_KILLS_AFTER_S))
                killed = _kill_one(federation, chance)
                result.killed.append({"round": number, "process": killed})
                console.print(f"round {number}: killed {killed}")
            if number % 10 == 0:
                console.print(f"round {number} after {sample['at_s']:.0f} s")
        samples.close()
        reached = result.samples[-1]["round"] if result.samples else 0
        if reached == rounds:
            federation.wait_finished(run, _ROUND_S)
        # Ended early, the newest saved round is compared: with so many rounds, nothing else
        # of the plan enters the arithmetic.
        state = RunDirectory.open(run.path).latest()
        shorter = toy_plan(SITES, state.round, min_sites=len(SITES), deadline_s=_ROUND_S)
        expected = undisturbed_sha256(shorter, Path(folder))
        result.same_bits = body_digest(state.body) == expected
        for site in federation.sites.values():
            counts = [site.computed("soak", number) for number in range(1, reached + 1)]
            result.trained_twice += sum(count > 1 for count in counts)
    result.minutes = (time.monotonic() - begin) / 60
    return result


def _saved_rounds(federation: SupervisedFederation, run: RunDirectory, end: float) -> Iterator[int]:
    """Each round as soon as it is saved, until the last one or the end of time."""
    seen, heard = 0, time.monotonic()
    while seen < run.plan.training.rounds and time.monotonic() < end:
        with contextlib.suppress(OSError, ValueError):
            newest = int((run.path / "latest").read_text())
            if newest > seen:
                seen, heard = newest, time.monotonic()
                yield newest
        if not federation.wanted(run).open and seen < run.plan.training.rounds:
            raise RuntimeError(f"the run ended: {federation.wanted(run)}")
        if time.monotonic() - heard > 2 * _ROUND_S:
            raise TimeoutError(f"no round after {seen}: {federation.events(run)[-5:]}")
        time.sleep(_LOOK_S)


def _kill_one(federation: SupervisedFederation, chance: random.Random) -> str:
    alive = processes(federation)
    # A courier that is not there at this moment would never be chosen.
    name = chance.choice(sorted(alive))
    with contextlib.suppress(psutil.NoSuchProcess):
        alive[name].kill()
    return name


def _measure(federation: SupervisedFederation, run: RunDirectory) -> dict[str, Any]:
    """Every process, and the bytes of every folder that anything is written to."""
    seen = {}
    for name, process in processes(federation).items():
        with contextlib.suppress(psutil.NoSuchProcess), process.oneshot():
            seen[name] = {
                "life": f"{process.pid}-{process.create_time():.0f}",
                "rss": process.memory_info().rss,
                "descriptors": process.num_fds(),
                "threads": process.num_threads(),
            }
    home = federation.home
    disk = {
        "SuperLink database": _bytes_of(home.superlink_database.parent, "superlink.db*"),
        "SuperLink database without its WAL": _bytes_of(home.superlink_database.parent, "*.db"),
        "coordinator FLWR_HOME": _bytes_of(home.flower_home),
        "coordinator logs": _bytes_of(home.logs),
        "run directory": _bytes_of(run.path),
        "run events": _bytes_of(run.path, "events.jsonl"),
        "run receipts": _bytes_of(run.path, "receipts.jsonl*"),
        "run checkpoints": _bytes_of(run.path / "rounds"),
    }
    for site in federation.sites.values():
        state, logs = _bytes_of(site.state.path), _bytes_of(site.state.path / "logs")
        logs += _bytes_of(site.connection.path / "logs")
        disk[f"{site.name} state"] = state - logs
        disk[f"{site.name} logs"] = logs
        disk[f"{site.name} ledger"] = _bytes_of(site.state.path, "ledger*")
        disk[f"{site.name} answers"] = _bytes_of(site.state.replies) + _bytes_of(site.state.sent)
    return {"processes": seen, "disk": disk, "rows": _rows(home.superlink_database)}


def _rows(database: Path) -> dict[str, int]:
    """Rows of every table of the SuperLink."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as link:
            tables = [
                n for (n,) in link.execute("select name from sqlite_master where type='table'")
            ]
            return {t: link.execute(f'select count(*) from "{t}"').fetchone()[0] for t in tables}
    except sqlite3.Error:
        return {}


def _bytes_of(folder: Path, pattern: str = "**/*") -> int:
    total = 0
    for path in folder.glob(pattern):
        with contextlib.suppress(OSError):
            if path.is_file() and not path.is_symlink():
                total += path.stat().st_size
    return total


def fitted(result: Soak) -> dict[str, dict[str, Growth]]:
    """Growth per round: of memory, descriptors and threads per process, and of each folder."""
    found: dict[str, dict[str, Growth]] = {}
    names = dict.fromkeys(n for s in result.samples for n in s["processes"])
    for name in names:
        if name.endswith("/carrier"):
            continue  # lives for one message
        seen = [
            (s["round"], s["processes"][name]) for s in result.samples if name in s["processes"]
        ]
        rounds, facts = [number for number, _ in seen], [fact for _, fact in seen]
        lives = [fact["life"] for fact in facts]
        for what in ("rss", "descriptors", "threads"):
            grown = growth(rounds, [fact[what] for fact in facts], lives)
            if grown is not None:
                found.setdefault(what, {})[name] = grown
    rounds = [s["round"] for s in result.samples]
    for what in ("disk", "rows"):
        for name in dict.fromkeys(n for s in result.samples for n in s[what]):
            values = [s[what].get(name, 0) for s in result.samples]
            grown = growth(rounds, values, ["one"] * len(rounds), warm_up=3)
            if grown is not None:
                found.setdefault(what, {})[name] = grown
    return found


def print_tables(result: Soak, found: dict[str, dict[str, Growth]], console: Console) -> None:
    """Memory, descriptors and disk, with intervals."""
    done = result.samples[-1]["round"] if result.samples else 0
    killed = [one["process"] for one in result.killed]
    bits = {True: "yes", False: "NO", None: "not compared"}
    console.print(
        f"{done} of {result.rounds_wanted} rounds in {result.minutes:.0f} min, "
        f"{len(result.killed)} processes killed: {dict(Counter(killed))}"
        f"; same bits as undisturbed: {bits[result.same_bits]}; rounds that a killed agent began "
        f"twice: {result.trained_twice}"
    )
    units = {"rss": ("kB", 1e3), "descriptors": ("", 1.0), "disk": ("kB", 1e3), "rows": ("", 1.0)}
    for what, (unit, scale) in units.items():
        table = Table(title=f"{what}, {unit}" if unit else what)
        for column in ("what", "first", "last", "largest", "per round", "95 % interval"):
            table.add_column(column, justify="left" if column == "what" else "right")
        for name, g in found.get(what, {}).items():
            cells = (g.first, g.last, g.largest)
            table.add_row(
                name, *(f"{cell / scale:.0f}" for cell in cells), f"{g.per_round / scale:.3f}",
                f"{g.low / scale:.3f} to {g.high / scale:.3f}",
            )  # fmt: skip
        console.print(table)


def main() -> None:
    """The command line of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--restarts", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=600.0, help="end early after so many")
    parser.add_argument("--out", type=Path, default=Path("soak"), help="folder for the figures")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    console, before = Console(width=120), Machine.now()
    result = soak(
        options.rounds, options.restarts, options.seed, options.out, options.minutes, console
    )
    found = fitted(result)
    record = {
        "machine": asdict(before),
        "rounds_wanted": result.rounds_wanted,
        "rounds": result.samples[-1]["round"] if result.samples else 0,
        "restarts": len(result.killed),
        "seed": result.seed,
        "minutes": round(result.minutes, 1),
        "same_bits": result.same_bits,
        "began_twice": result.trained_twice,
        "killed": result.killed,
        "growth_per_round": {w: {n: asdict(g) for n, g in f.items()} for w, f in found.items()},
    }
    (options.out / "soak.json").write_text(json.dumps(record, indent=1))
    print_tables(result, found, console)
    if result.same_bits is False:
        raise SystemExit("the result is not that of an undisturbed run")


if __name__ == "__main__":
    main()
