"""What a plan would send from here, listed without importing torch."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

from rich.table import Table

from client.agent.acceptance import Shapes
from client.commands.display import out
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.releases.schedule import calibration_due, evaluation_due, moments_due
from shared_model.releases.statistics import Statistics, noise_multiplier, shapes


def outgoing_arrays(plan: FederationPlan, config: Path) -> Shapes | None:
    """Names and shapes of the shared parameters; ``None`` where the training stack is missing.

    The model is built in a process of its own, so that this one needs no torch. Raises the error of
    that process when the model cannot be built.
    """
    done = subprocess.run(
        [sys.executable, "-m", "client.agent.outgoing", str(config)],
        input=plan.canonical_json,
        capture_output=True,
        check=False,
    )
    if done.returncode == 3:
        return None
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise SmrfedError(
            "SMR-E418",
            "the process that lists what a plan would send ended without an answer",
            expected="names and shapes",
            found=done.stderr.decode(errors="replace").strip()[-500:],
            remedy="run `python -m client.agent.outgoing SITE_TOML < plan.json` to see its error",
        ) from None
    if "error" in answer:
        raise SmrfedError(**answer["error"])
    return {name: tuple(shape) for name, shape in answer["shapes"].items()}


def print_outgoing(plan: FederationPlan, outgoing: Shapes | None) -> None:
    """The arrays of an update, or the names that they match; then the sums beside updates."""
    _print_update(plan, outgoing)
    if plan.privacy.summed:
        out.print(
            "these numbers leave as one masked vector of 64-bit integers per round; beside it keys "
            "and encrypted shares of masks, which hold nothing about patients "
            "(docs/secure_aggregation.md)"
        )
    _print_statistics(plan)


def _print_update(plan: FederationPlan, outgoing: Shapes | None) -> None:
    if outgoing is None:
        out.print(
            f"no torch here: the shared parameters match {list(plan.groups.shared)}, less "
            f"{list(plan.groups.frozen + plan.groups.site)}; the agent refuses any other"
        )
        return
    table = Table("array that leaves per round", "shape", "bytes")
    for name, shape in outgoing.items():
        table.add_row(name, " x ".join(map(str, shape)) or "1", f"{4 * math.prod(shape):,}")
    numbers = sum(math.prod(shape) for shape in outgoing.values())
    table.add_section()
    table.add_row(f"{len(outgoing)} arrays", f"{numbers:,} numbers", f"{4 * numbers:,}")
    out.print(table)


def _print_statistics(plan: FederationPlan) -> None:
    rounds = range(1, plan.training.rounds + 1)
    asked: tuple[tuple[Statistics, int, str], ...] = (
        ("evaluate", sum(evaluation_due(plan, number) for number in rounds), "test patients"),
        ("calibrate", sum(calibration_due(plan, number) for number in rounds), "training patients"),
        ("moments", sum(moments_due(plan, number) for number in rounds), "training patients"),
    )
    table = Table("sum over patients that leaves", "shape", "of", "times", "noise")
    for kind, times, patients in asked:
        for name, shape in shapes(plan, kind).items() if times else ():
            size = " x ".join(map(str, shape))
            noise = f"{noise_multiplier(plan, kind):g}"
            table.add_row(f"{kind}: {name}", size, patients, str(times), noise)
    if table.row_count:
        out.print(table)
