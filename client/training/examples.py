"""One patient's scans as the model takes them: cached tokens, or inputs read when needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from torch import Tensor

from client.archive.patients import Patient
from client.training.augmentation.views import PlannedViews
from client.training.scan_inputs import FieldSource, ScanInputs, VolumeSource, with_volume
from client.training.site_model import SiteModel
from client.training.token_cache import TokenCache
from shared_model.batch import Batch, Inputs, join
from shared_model.inputs import input_fields


class InputReader(Protocol):
    """Inputs that are read one scan at a time, because one volume fills the working memory."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> Inputs:
        """One scan, such as ``(1, 1, D, H, W)``."""
        ...


@dataclass(frozen=True)
class PatientExamples:
    """All scans of one patient, S of them, with a label each.

    Attributes:
        id: the patient within this hospital; never leaves it.
        inputs: tokens of S scans, a tensor ``(S, ...)``, or inputs that are read when needed.
        labels: targets of the model's task, on its device: ``(S,)`` int64 class indices, or
            ``(S, D, H, W)`` lesion numbers.
        views: for training with a frozen encoder under augmentation: tokens of V augmented
            views of each scan, scan by scan, S * V in all. Evaluation and personalisation do not
            look at them.
    """

    id: str
    inputs: Inputs | InputReader
    labels: Tensor
    views: Batch | None = None

    def __post_init__(self) -> None:
        if not 0 < len(self.inputs) == len(self.labels):
            raise ValueError(f"{len(self.inputs)} scans and {len(self.labels)} labels")
        if self.views is not None and (not len(self.views) or len(self.views) % len(self.labels)):
            raise ValueError(f"{len(self.views)} views of {len(self.labels)} scans")

    def chunks(self) -> Iterator[tuple[Inputs, Tensor]]:
        """Model inputs with their labels, as many scans at once as memory allows."""
        if isinstance(self.inputs, Batch | Tensor):
            yield self.inputs, self.labels
        else:
            for index in range(len(self.inputs)):
                yield self.inputs.read(index), self.labels[index : index + 1]


def patient_examples(
    site_model: SiteModel,
    patients: Sequence[Patient],
    source: VolumeSource,
    token_folder: Path | None = None,
    *,
    training: bool = False,
    fields: FieldSource | None = None,
) -> Iterator[PatientExamples]:
    """Examples of every patient, in order; tokens are computed here when the encoder is frozen.

    With ``token_folder`` they are kept on disk for the next process (:class:`TokenCache`).
    ``training`` says that rounds will train on these patients: where the plan augments and the
    encoder is frozen, their views are tokenised too. ``fields`` are what models beside that of a
    single volume ask for. Inputs without a volume stay in memory.
    """
    cache = None
    if site_model.uses_tokens and token_folder is not None:
        cache = TokenCache(token_folder, site_model)
    views = PlannedViews.of(site_model.plan) if training else None
    small = "volume" not in input_fields(site_model.entry.batch)
    for patient in patients:
        scans = ScanInputs(site_model, source, patient, fields)
        targets = scans.targets()
        if not site_model.uses_tokens:
            held = join([scans.read(i) for i in range(len(scans))]) if small else scans
            yield PatientExamples(patient.id, held, targets)
            continue
        plain, augmented = [], []
        for index in range(len(scans)):
            scan = scans.read(index)
            plain.append(site_model.tokenise(scan) if cache is None else cache.tokens(scan))
            if views is not None:
                augmented += _kept_views(site_model, views, cache, scan, patient.id, index)
        yield PatientExamples(
            patient.id,
            plain[0].cat(plain),
            targets,
            augmented[0].cat(augmented) if augmented else None,
        )


def _kept_views(
    site_model: SiteModel,
    views: PlannedViews,
    cache: TokenCache | None,
    inputs: Inputs,
    patient: str,
    scan: int,
) -> list[Batch]:
    out = []
    for view in range(views.section.views):
        kept = partial(views.kept, patient=patient, scan=scan, view=view)
        make = partial(with_volume, inputs, kept)
        if cache is None:
            out.append(site_model.tokenise(make()))
        else:
            out.append(cache.view(inputs, views.recipe(patient, scan, view), make))
    return out
