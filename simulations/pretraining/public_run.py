"""One whole public pretraining: cohort, encoder, read-out, weights; with progress bars."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from shared_model.atlas.seeded import seeded_atlas
from shared_model.grid import ModelGrid
from shared_model.registry import build_model
from shared_model.smrnet.model import SMRNet
from simulations.cohort.cohort import generate_anatomy
from simulations.cohort.design import public_cohort
from simulations.pretraining.public_data import PublicData
from simulations.pretraining.train import (
    EpochReport,
    PretrainingOptions,
    PublicSubjects,
    ReadoutOptions,
    fit_readout,
    pretrain,
)
from simulations.pretraining.weights_file import write_weights

COHORT_SEED = 1
# Volume, CSF and grey matter of a region; the same number of quantities per slice.
NORMATIVE_FEATURES = 3


@dataclass(frozen=True)
class PublicRun:
    """Sizes and seed of a pretraining, and the command that its card names."""

    subjects: int
    epochs: int
    seed: int
    width: int
    workers: int
    command: str


def run_pretraining(run: PublicRun, out: Path, console: Console) -> Path:
    """Write ``OUT/smrnet-wW-synthetic-morphometry.{safetensors,json}`` and return the first.

    Subjects are kept in ``OUT/public`` and made only once. Raises SMR-E632 where that folder holds
    another cohort, and SMR-E602 for a width that the model refuses.
    """
    # One thread: the sums of a step then have one order, and a run repeats bit for bit.
    torch.set_num_threads(1)
    atlas, grid = seeded_atlas(), ModelGrid()
    on_grid = atlas.resampled(grid)
    model = build_model(
        "smrnet",
        {"width": run.width, "normative_features": NORMATIVE_FEATURES},
        grid,
        torch.from_numpy(on_grid.labels.astype(np.int64)),
        torch.from_numpy(on_grid.adjacency.copy()),
        num_classes=3,
        seed=run.seed,
    )
    assert isinstance(model, SMRNet)
    columns = (
        TextColumn("{task.description:<26}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        made = bars.add_task("1/3 public subjects", total=run.subjects)
        folders = generate_anatomy(
            public_cohort(run.subjects, COHORT_SEED),
            out / "public",
            run.workers,
            lambda count, _total: bars.update(made, completed=count),
        )
        public = PublicData(folders, on_grid)
        options = PretrainingOptions(epochs=run.epochs, seed=run.seed)
        readout = ReadoutOptions()

        def tell(report: EpochReport) -> None:
            console.print(
                f"epoch {report.epoch}: training loss {report.training_loss:.3f} (tissue "
                f"{report.training_tissue_loss:.3f}), watched subjects "
                f"{report.validation_loss:.3f}, correlation of volumes "
                f"{report.volume_correlation:.3f}",
                soft_wrap=True,
            )

        learnt = bars.add_task("2/3 encoder, looks", total=options.looks(len(public)))
        pretrain(model, _Counted(public, lambda: bars.advance(learnt)), options, tell)
        read = bars.add_task("3/3 read-out, looks", total=readout.looks * len(public))
        fit_readout(model, _Counted(public, lambda: bars.advance(read)), readout)
    path = out / f"smrnet-w{run.width}-synthetic-morphometry.safetensors"
    write_weights(
        model,
        path,
        atlas_sha256=atlas.sha256,
        trained_on=f"{run.subjects} public synthetic subjects (seed {COHORT_SEED}), a random "
        "scanner at every look; targets: tissue, region volumes, age and sex; no diagnosis",
        command=run.command,
    )
    return path


class _Counted:
    """Public subjects that tell a progress bar about every look."""

    def __init__(self, public: PublicSubjects, looked: Callable[[], None]) -> None:
        self._public, self._looked = public, looked
        self.targets = public.targets
        self.region_truth, self.slice_truth = public.region_truth, public.slice_truth

    def __len__(self) -> int:
        return len(self._public)

    def look(self, subject: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        self._looked()
        return self._public.look(subject, rng)

    def tissue(self, subject: int) -> npt.NDArray[np.float32]:
        return self._public.tissue(subject)
