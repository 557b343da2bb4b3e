"""One patient's scans as the model takes them: cached tokens, or volumes read when needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from client.archive.patients import Patient, Scan
from client.training.site_model import SiteModel
from client.training.token_cache import TokenCache
from shared_model.smrnet.tokens import Tokens


class VolumeSource(Protocol):
    """Where prepared volumes come from; the prepared store of the hospital."""

    def volume(self, scan: Scan) -> npt.NDArray[np.float32]:
        """``(D, H, W)`` on the model grid, standardised."""
        ...


@dataclass(frozen=True)
class ScanVolumes:
    """The volumes of some scans, read one at a time, because one alone fills the working memory."""

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
    """

    id: str
    inputs: Tokens | Tensor | ScanVolumes
    labels: Tensor

    def __post_init__(self) -> None:
        if not 0 < len(self.inputs) == len(self.labels):
            raise ValueError(f"{len(self.inputs)} scans and {len(self.labels)} labels")

    def chunks(self) -> Iterator[tuple[Tokens | Tensor, Tensor]]:
        """Model inputs with their labels, as many scans at once as memory allows."""
        if isinstance(self.inputs, ScanVolumes):
            for index in range(len(self.inputs)):
                yield self.inputs.read(index), self.labels[index : index + 1]
        else:
            yield self.inputs, self.labels


def patient_examples(
    site_model: SiteModel,
    patients: Sequence[Patient],
    store: VolumeSource,
    token_folder: Path | None = None,
) -> Iterator[PatientExamples]:
    """Examples of every patient, in order; tokens are computed here when the encoder is frozen.

    With ``token_folder`` they are kept on disk for the next process (:class:`TokenCache`).
    """
    tokenise: Callable[[Tensor], Tokens] = site_model.tokenise
    if site_model.uses_tokens and token_folder is not None:
        tokenise = TokenCache(token_folder, site_model).tokens
    for patient in patients:
        labels = torch.tensor([scan.label for scan in patient.scans], device=site_model.device)
        volumes = ScanVolumes(store, patient.scans, site_model.device)
        if site_model.uses_tokens:
            parts = [tokenise(volumes.read(i)) for i in range(len(volumes))]
            yield PatientExamples(patient.id, Tokens.cat(parts), labels)
        else:
            yield PatientExamples(patient.id, volumes, labels)
