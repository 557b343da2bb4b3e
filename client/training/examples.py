"""One patient's scans as the model takes them: cached tokens, or volumes read when needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from client.archive.patients import Patient, Scan
from client.training.augmentation.views import PlannedViews
from client.training.site_model import SiteModel
from client.training.token_cache import TokenCache
from shared_model.smrnet.tokens import Tokens


class VolumeSource(Protocol):
    """Where prepared volumes come from; the prepared store of the hospital."""

    def volume(self, scan: Scan) -> npt.NDArray[np.float32]:
        """``(D, H, W)`` on the model grid, standardised."""
        ...


class VolumeReader(Protocol):
    """Volumes that are read one at a time, because one alone fills the working memory."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> Tensor:
        """``(1, 1, D, H, W)`` of one."""
        ...


@dataclass(frozen=True)
class ScanVolumes:
    """The volumes of some scans as they were prepared."""

    store: VolumeSource
    scans: tuple[Scan, ...]
    device: torch.device

    def __len__(self) -> int:
        return len(self.scans)

    def read(self, index: int) -> Tensor:
        """``(1, 1, D, H, W)`` of one scan."""
        volume = torch.from_numpy(np.ascontiguousarray(self.store.volume(self.scans[index])))
        return volume[None, None].to(self.device)


@dataclass(frozen=True)
class PatientExamples:
    """All scans of one patient, S of them, with a label each.

    Attributes:
        id: the patient within this hospital; never leaves it.
        inputs: ``Tokens`` of S scans, a tensor ``(S, ...)``, or volumes that are read when needed.
        labels: ``(S,)`` int64 class indices, on the device of the model.
        views: for training with a frozen encoder under augmentation: ``Tokens`` of V augmented
            views of each scan, scan by scan, S * V in all. Evaluation and personalisation do not
            look at them.
    """

    id: str
    inputs: Tokens | Tensor | VolumeReader
    labels: Tensor
    views: Tokens | None = None

    def __post_init__(self) -> None:
        if not 0 < len(self.inputs) == len(self.labels):
            raise ValueError(f"{len(self.inputs)} scans and {len(self.labels)} labels")
        if self.views is not None and (not len(self.views) or len(self.views) % len(self.labels)):
            raise ValueError(f"{len(self.views)} views of {len(self.labels)} scans")

    def chunks(self) -> Iterator[tuple[Tokens | Tensor, Tensor]]:
        """Model inputs with their labels, as many scans at once as memory allows."""
        if isinstance(self.inputs, Tokens | Tensor):
            yield self.inputs, self.labels
        else:
            for index in range(len(self.inputs)):
                yield self.inputs.read(index), self.labels[index : index + 1]


def patient_examples(
    site_model: SiteModel,
    patients: Sequence[Patient],
    store: VolumeSource,
    token_folder: Path | None = None,
    *,
    training: bool = False,
) -> Iterator[PatientExamples]:
    """Examples of every patient, in order; tokens are computed here when the encoder is frozen.

    With ``token_folder`` they are kept on disk for the next process (:class:`TokenCache`).
    ``training`` says that rounds will train on these patients: where the plan augments and the
    encoder is frozen, their views are tokenised too.
    """
    cache = None
    if site_model.uses_tokens and token_folder is not None:
        cache = TokenCache(token_folder, site_model)
    views = PlannedViews.of(site_model.plan) if training else None
    for patient in patients:
        labels = torch.tensor([scan.label for scan in patient.scans], device=site_model.device)
        volumes = ScanVolumes(store, patient.scans, site_model.device)
        if not site_model.uses_tokens:
            yield PatientExamples(patient.id, volumes, labels)
            continue
        plain, augmented = [], []
        for index in range(len(volumes)):
            volume = volumes.read(index)
            plain.append(site_model.tokenise(volume) if cache is None else cache.tokens(volume))
            if views is not None:
                augmented += _kept_views(site_model, views, cache, volume, patient.id, index)
        yield PatientExamples(
            patient.id, Tokens.cat(plain), labels, Tokens.cat(augmented) if augmented else None
        )


def _kept_views(
    site_model: SiteModel,
    views: PlannedViews,
    cache: TokenCache | None,
    volume: Tensor,
    patient: str,
    scan: int,
) -> list[Tokens]:
    out = []
    for view in range(views.section.views):
        make = partial(views.kept, volume, patient, scan, view)
        if cache is None:
            out.append(site_model.tokenise(make()))
        else:
            out.append(cache.view(volume, views.recipe(patient, scan, view), make))
    return out
