"""The same network without any pretraining: every weight learns from the labelled scans alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_model.atlas.seeded import seeded_atlas
from shared_model.grid import ModelGrid
from shared_model.registry import build_model

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ScratchOptions:
    """Schedule; the seed fixes every draw. At 4 mm, because 2 mm takes eight times as long."""

    steps: int = 80
    batch_size: int = 8
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    width: int = 8
    spacing_mm: float = 4.0
    seed: int = 0


def coarse(scan: npt.NDArray[np.float16]) -> Tensor:
    """``(1, D, H, W)`` at 4 mm of a scan at 2 mm, averaged over two voxels per axis."""
    return functional.avg_pool3d(torch.from_numpy(scan.astype(np.float32))[None], 2)


def train_from_scratch(
    scans: Tensor, label: Ints, classes: int, options: ScratchOptions
) -> nn.Module:
    """SMR-Net on ``(N, 1, D, H, W)`` scans, class-balanced batches, AdamW with a one-cycle rate."""
    atlas, grid = seeded_atlas(), ModelGrid(spacing_mm=options.spacing_mm)
    on_grid = atlas.resampled(grid)
    model = build_model(
        "smrnet",
        {"width": options.width, "site_norm": "shared"},
        grid,
        torch.from_numpy(on_grid.labels.astype(np.int64)),
        torch.from_numpy(on_grid.adjacency.copy()),
        num_classes=classes,
        seed=options.seed,
    )
    # The standardiser passes tokens on: there is no public population to compare with.
    trained = [p for name, p in model.named_parameters() if not name.startswith("standardiser.")]
    optimiser = torch.optim.AdamW(
        trained, lr=options.learning_rate, weight_decay=options.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, options.learning_rate, options.steps)
    rng = np.random.default_rng(options.seed)
    of_class = [np.flatnonzero(label == c) for c in np.unique(label)]
    model.train()
    for _ in range(options.steps):
        drawn = [int(rng.choice(of_class[i % len(of_class)])) for i in range(options.batch_size)]
        loss = functional.cross_entropy(model(scans[drawn]).logits, torch.from_numpy(label[drawn]))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def guesses(model: nn.Module, scans: Sequence[Tensor]) -> Ints:
    """``(N,)`` most probable class of each scan."""
    found = [int(model(scan[None]).logits.argmax()) for scan in scans]
    return np.asarray(found, dtype=np.int64)
