"""Train the public encoder on synthetic anatomy with another random scanner at every look."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from shared_model.layers.site_norm import fold_site_residual
from shared_model.smrnet.model import SMRNet
from shared_model.smrnet.standardiser import NormativeReadout
from shared_model.smrnet.tokens import Tokens
from simulations.pretraining.heads import (
    MorphometryHeads,
    MorphometryTargets,
    TissueHeads,
    morphometry_loss,
)


class PublicSubjects(Protocol):
    """Public anatomy that can be looked at through another scanner each time."""

    targets: MorphometryTargets
    region_truth: Tensor
    slice_truth: Tensor

    def __len__(self) -> int: ...

    def look(self, subject: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """Model input ``(1, D, H, W)`` of one subject under a fresh random scanner."""
        ...

    def tissue(self, subject: int) -> npt.NDArray[np.float32]:
        """``(3, D, H, W)`` true CSF, grey and white matter."""
        ...


@dataclass(frozen=True)
class PretrainingOptions:
    """Schedule of the public pretraining; the seed fixes every draw."""

    epochs: int = 12
    batch_size: int = 4
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    validation_share: float = 0.1
    seed: int = 0

    def watched(self, subjects: int) -> int:
        """How many of the subjects, the last ones, are not trained on."""
        return max(1, round(subjects * self.validation_share))

    def looks(self, subjects: int) -> int:
        """Looks through a scanner that a whole training takes."""
        watched = self.watched(subjects)
        return self.epochs * (subjects - watched) + watched


@dataclass(frozen=True)
class ReadoutOptions:
    """How the normative read-out is fitted."""

    looks: int = 2
    ridge: float = 60.0
    seed: int = 5


@dataclass(frozen=True)
class EpochReport:
    """What one epoch reached: losses, and the mean correlation of predicted and true volumes."""

    epoch: int
    training_loss: float
    training_tissue_loss: float
    validation_loss: float
    volume_correlation: float


def pretrain(
    model: SMRNet,
    public: PublicSubjects,
    options: PretrainingOptions,
    observer: Callable[[EpochReport], None],
) -> None:
    """Fit ``model.encoder`` to predict tissue and morphometry through any scanner.

    The last ``validation_share`` of the subjects is only watched. The reasoner is not touched: it
    is the private part. Site residuals end at zero: what they learnt is part of the public affine.
    """
    subjects, targets = len(public), public.targets
    train = subjects - options.watched(subjects)
    rng = np.random.default_rng(options.seed)
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        heads = _heads_for(model, targets)
        laterals = cast(Iterable[nn.Linear], model.encoder.laterals)
        tissue_heads = TissueHeads([lateral.in_features for lateral in laterals])
    parameters = [
        *model.encoder.parameters(),
        *heads.parameters(),
        *tissue_heads.parameters(),
    ]
    optimiser = torch.optim.AdamW(
        parameters, lr=options.learning_rate, weight_decay=options.weight_decay
    )
    steps = options.epochs * -(-train // options.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, options.learning_rate, steps)
    watched = list(range(train, subjects))
    fixed_looks = [
        public.look(subject, np.random.default_rng([options.seed, subject])) for subject in watched
    ]
    for epoch in range(options.epochs):
        order = rng.permutation(train)
        losses = []
        for start in range(0, train, options.batch_size):
            rows = order[start : start + options.batch_size].tolist()
            batch = torch.from_numpy(np.stack([public.look(row, rng) for row in rows]))
            tissue = torch.from_numpy(np.stack([public.tissue(row) for row in rows]))
            maps = model.encoder(batch)
            tissue_loss = tissue_heads.loss(maps, tissue)
            loss = morphometry_loss(heads(model.pool(maps)), targets[rows]) + tissue_loss
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            losses.append((loss.item(), tissue_loss.item()))
        predicted = heads(_raw_tokens(model, fixed_looks))
        truth = targets[watched]
        observer(
            EpochReport(
                epoch + 1,
                float(np.mean(losses, axis=0)[0]),
                float(np.mean(losses, axis=0)[1]),
                morphometry_loss(predicted, truth).item(),
                _mean_correlation(predicted.volumes, truth.volumes),
            )
        )
    fold_site_residual(model.encoder)


def _heads_for(model: SMRNet, targets: MorphometryTargets) -> MorphometryHeads:
    regions, slices = targets.volumes.shape[1], targets.csf.shape[1]
    return MorphometryHeads(len(model.strides), regions, slices, model.config.features)


@torch.no_grad()
def fit_readout(model: SMRNet, public: PublicSubjects, options: ReadoutOptions) -> None:
    """Fit the model's normative read-out to what is true of the public subjects.

    Every subject is seen through ``looks`` random scanners, so that what a scanner changes is noise
    to the regression and not signal.
    """
    if not isinstance(model.standardiser, NormativeReadout):
        raise TypeError("the model has no normative read-out: set normative_features")
    rng = np.random.default_rng(options.seed)
    rows = [row for row in range(len(public)) for _ in range(options.looks)]
    tokens = Tokens.cat([_raw_tokens(model, [public.look(row, rng)]) for row in rows])
    model.standardiser.fit(
        tokens, public.region_truth[rows], public.slice_truth[rows], options.ridge
    )


@torch.no_grad()
def _raw_tokens(model: SMRNet, volumes: list[npt.NDArray[np.float32]]) -> Tokens:
    return Tokens.cat([model.raw_tokens(torch.from_numpy(volume)[None]) for volume in volumes])


def _mean_correlation(predicted: Tensor, truth: Tensor) -> float:
    p, t = predicted.detach() - predicted.detach().mean(0), truth - truth.mean(0)
    scale = (p.square().sum(0) * t.square().sum(0)).sqrt().clamp(min=1e-12)
    return float(((p * t).sum(0) / scale).mean())
