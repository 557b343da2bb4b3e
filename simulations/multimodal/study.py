"""All arms on complementary data, over seeds, with and without privacy."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.progress import track
from rich.table import Table

from shared_model.atlas.select import load_atlas
from shared_model.privacy.plan_cost import plan_epsilon
from simulations.multimodal.complementary import ARMS, GRID, accuracy, arm_plan


class ComplementaryStudy(BaseModel):
    """Balanced accuracies by arm: one for each seed.

    Attributes:
        train, test: patients of a seed.
        epsilon: that the private arms cost.
        plain, private: without and with patient-level privacy.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: int
    test: int
    epsilon: float
    plain: dict[str, tuple[float, ...]]
    private: dict[str, tuple[float, ...]]


def run_study(seeds: int, train: int, test: int, console: Console) -> ComplementaryStudy:
    """Train and test every arm; minutes."""
    plan = arm_plan("fusion", 0, train, private=True)
    atlas = load_atlas(plan.atlas, GRID)
    jobs = [(arm, private, seed) for arm in ARMS for private in (False, True)
            for seed in range(seeds)]  # fmt: skip
    found: dict[bool, dict[str, list[float]]] = {False: {}, True: {}}
    for arm, private, seed in track(jobs, "training and testing", console=console):
        value = accuracy(arm, atlas, seed, train, test, private=private)
        found[private].setdefault(arm, []).append(value)
    return ComplementaryStudy(
        train=train,
        test=test,
        epsilon=plan_epsilon(plan),
        plain={arm: tuple(values) for arm, values in found[False].items()},
        private={arm: tuple(values) for arm, values in found[True].items()},
    )


def print_study(study: ComplementaryStudy, console: Console) -> None:
    """Mean and range over the seeds."""
    table = Table(title="Balanced accuracy (chance 0.333), mean and range over seeds")
    for title in ("arm", "without privacy", f"epsilon {study.epsilon:.1f}"):
        table.add_column(title)
    for arm, plain in study.plain.items():
        cells = [
            f"{np.mean(v):.3f} ({min(v):.3f} to {max(v):.3f})" for v in (plain, study.private[arm])
        ]
        table.add_row(arm, *cells)
    console.print(table)
