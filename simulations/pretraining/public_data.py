"""The public cohort as pretraining sees it: clean anatomy, fresh scanners, morphometric targets."""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import torch

from client.prepared.intensity import standardise
from shared_model.atlas.atlas import Atlas
from simulations.cohort.cohort import CohortFolders
from simulations.cohort.scanner import apply_scanner, random_scanner
from simulations.pretraining.heads import MorphometryTargets

# Half-way between the canonical greys of the synthetic head: CSF 0.18, grey 0.62, white 1.
_CSF_BELOW = 0.4
_GREY_BELOW = 0.81
_SLICE_VOXELS = 2


class PublicData:
    """Clean volumes of a public cohort in memory (float16), with their targets.

    ``look(i, rng)`` is subject i under a new random scanner, standardised as at a hospital:
    ``(1, D, H, W)`` float32.
    """

    def __init__(self, folders: CohortFolders, atlas: Atlas) -> None:
        paths = sorted(folders.volumes.glob("*.npz"))
        self._volumes = []
        region_ml, icv_ml, slices, regions, person = [], [], [], [], []
        for path in paths:
            with np.load(path) as data:
                volume = data["volume"]
                region_ml.append(data["region_ml"])
                icv_ml.append(float(data["icv_ml"]))
            self._volumes.append(volume)
            tissue = self.tissue(len(self._volumes) - 1)
            slices.append(_slice_shares(tissue))
            regions.append(_region_shares(tissue, atlas.labels, len(atlas.names)))
            person.append(_person(folders, path.stem))
        ratio = np.log(np.stack(region_ml) / np.asarray(icv_ml)[:, None])
        shares = np.stack(slices)
        self.targets = MorphometryTargets(
            _z(ratio), _z(shares[..., 0]), _z(np.asarray(person, dtype=np.float64))
        )
        #: What the normative read-out estimates. Of every region ``(N, R, 3)``: log volume, share
        #: of CSF and of grey matter. Of every slice ``(N, L, 3)``: how far the tissue regions that
        #: it cuts deviate in volume, the same for the ventricles, and the age of the subject.
        self.region_truth = torch.from_numpy(
            np.concatenate([ratio[..., None], np.stack(regions)], axis=2)
        )
        deviations = _slice_deviations(self.targets.volumes.double().numpy(), atlas)
        age = np.asarray(person)[:, None, :1].repeat(shares.shape[1], axis=1)
        self.slice_truth = torch.from_numpy(np.concatenate([deviations, age], axis=2))

    def __len__(self) -> int:
        return len(self._volumes)

    def look(self, subject: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """One subject as a random scanner would have seen it."""
        clean = self._volumes[subject].astype(np.float32)
        return standardise(apply_scanner(clean, random_scanner(rng), rng))[None]

    def tissue(self, subject: int) -> npt.NDArray[np.float32]:
        """``(3, D, H, W)`` CSF, grey and white matter of one subject, 0 or 1."""
        clean = self._volumes[subject]
        csf = (clean > 0) & (clean < _CSF_BELOW)
        grey = (clean >= _CSF_BELOW) & (clean < _GREY_BELOW)
        return np.stack([csf, grey, clean >= _GREY_BELOW]).astype(np.float32)


def _slice_shares(tissue: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """``(L, 3)`` share of each tissue in the head per 4 mm slice: sagittal, coronal, axial."""
    planes = []
    for axis in range(3):
        others = tuple(a + 1 for a in range(3) if a != axis)
        counts = tissue.sum(others, dtype=np.float64)
        counts = counts.reshape(len(tissue), -1, _SLICE_VOXELS).sum(2).T
        planes.append(counts / np.maximum(counts.sum(1, keepdims=True), 1))
    return np.concatenate(planes)


def _slice_deviations(volumes: npt.NDArray[np.float64], atlas: Atlas) -> npt.NDArray[np.float64]:
    """``(N, L, 2)`` mean volume z-score of the tissue regions, and of the ventricles, in a slice.

    ``volumes`` ``(N, R)``; a region counts by the voxels that the slice has of it.
    """
    ventricle = np.asarray(["ventricle" in name for name in atlas.names])
    planes = []
    for axis in range(3):
        layers = np.moveaxis(atlas.labels, axis, 0)
        layers = layers.reshape(len(layers) // _SLICE_VOXELS, -1)
        counts = np.stack([np.bincount(layer, minlength=len(atlas.names) + 1) for layer in layers])
        planes.append(counts[:, 1:].astype(np.float64))
    overlap = np.concatenate(planes)
    parts = []
    for kind in (~ventricle, ventricle):
        weight = overlap * kind
        weight = weight / np.maximum(weight.sum(1, keepdims=True), 1)
        parts.append(volumes @ weight.T)
    return np.stack(parts, axis=2)


def _region_shares(
    tissue: npt.NDArray[np.float32], labels: npt.NDArray[np.int16], regions: int
) -> npt.NDArray[np.float64]:
    """``(R, 2)`` share of CSF and of grey matter where the atlas has each region."""
    flat = labels.ravel()
    size = np.bincount(flat, minlength=regions + 1)[1:]
    counts = [np.bincount(flat, part.ravel(), regions + 1)[1:] for part in tissue[:2]]
    return np.stack(counts, axis=1) / size[:, None]


def _person(folders: CohortFolders, participant: str) -> tuple[float, float]:
    (path,) = folders.truth.glob(f"*/sub-{participant}.json")
    truth = json.loads(path.read_text("utf-8"))
    return float(truth["visits"][0]["age"]), 1.0 if truth["sex"] == "M" else -1.0


def _z(values: npt.NDArray[np.float64]) -> torch.Tensor:
    spread = values.std(0)
    return torch.from_numpy(
        ((values - values.mean(0)) / np.where(spread > 0, spread, 1.0)).astype(np.float32)
    )
