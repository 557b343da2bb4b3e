"""The parcellation whose regions are the nodes of the graph, and the digest that names it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.ndimage import affine_transform

from shared_model.errors import SmrfedError
from shared_model.grid import ModelGrid

Labels = npt.NDArray[np.int16]


@dataclass(frozen=True, eq=False)
class Atlas:
    """R regions on a RAS+ grid, with the graph between them.

    Attributes:
        name: the name that the plan uses.
        labels: ``(X, Y, Z)`` int16; 0 is background, region ``r`` is the value ``r + 1``.
        affine: ``(4, 4)`` voxel-to-MNI matrix, mm.
        names: R distinct region names in node order.
        homologs: per region the node of its mirror image, or -1 (midline, unknown).
        adjacency: ``(R, R)`` float32, symmetric, non-negative, zero diagonal.

    Raises:
        SmrfedError: SMR-E620 where the parts contradict each other.
    """

    name: str
    labels: Labels
    affine: npt.NDArray[np.float64]
    names: tuple[str, ...]
    homologs: tuple[int, ...]
    adjacency: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        count = len(self.names)
        problem = None
        if self.labels.ndim != 3 or self.labels.dtype != np.int16:
            problem = f"labels are {self.labels.dtype} of shape {self.labels.shape}"
        elif len(set(self.names)) != count or len(self.homologs) != count:
            distinct = len(set(self.names))
            problem = f"{count} names, {distinct} distinct, {len(self.homologs)} homologs"
        elif self.adjacency.shape != (count, count) or self.adjacency.dtype != np.float32:
            problem = f"adjacency is {self.adjacency.dtype} of shape {self.adjacency.shape}"
        elif not np.array_equal(self.adjacency, self.adjacency.T):
            problem = "the adjacency is not symmetric"
        elif not (self.adjacency >= 0).all() or np.diagonal(self.adjacency).any():
            problem = "the adjacency has a negative, missing or diagonal weight"
        elif self.labels.min() < 0 or self.labels.max() > count:
            problem = f"label values run from {self.labels.min()} to {self.labels.max()}"
        elif any(not -1 <= h < count for h in self.homologs):
            problem = "a homolog is not a region"
        if problem is not None:
            raise SmrfedError(
                "SMR-E620",
                f"The parts of atlas '{self.name}' contradict each other.",
                found=problem,
                expected=f"int16 labels 0..{count}, {count} distinct names and homologs, and a "
                f"symmetric, non-negative ({count}, {count}) adjacency",
                remedy="Build the atlas with load_dseg or seeded_atlas rather than by hand.",
            )
        for array in (self.labels, self.affine, self.adjacency):
            array.setflags(write=False)

    @property
    def region_count(self) -> int:
        """R, the number of nodes."""
        return len(self.names)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    @cached_property
    def sha256(self) -> str:
        """Digest over labels, names, homologs, affine and adjacency, as 64 hexadecimal digits.

        Little-endian C-order bytes, the affine rounded to 1e-4 mm; the display name is left out, so
        that the same parcellation has one digest however it is called.
        """
        head = {
            "format": 1,
            "shape": list(self.labels.shape),
            "names": list(self.names),
            "homologs": list(self.homologs),
            "affine_1e-4_mm": np.rint(self.affine * 1e4).astype(int).tolist(),
        }
        digest = hashlib.sha256(json.dumps(head, sort_keys=True, separators=(",", ":")).encode())
        digest.update(np.ascontiguousarray(self.labels, dtype="<i2").tobytes())
        digest.update(np.ascontiguousarray(self.adjacency, dtype="<f4").tobytes())
        return digest.hexdigest()

    def require(self, sha256: str | None) -> None:
        """Refuse to go on with another atlas than the plan's.

        Raises:
            SmrfedError: SMR-E621 where the digests differ; None in the plan accepts any atlas.
        """
        if sha256 is not None and sha256 != self.sha256:
            raise SmrfedError(
                "SMR-E621",
                f"Atlas '{self.name}' is not the one that the plan names.",
                found=self.sha256,
                expected=sha256,
                remedy="Install the atlas, or the smrfed version, that the plan was made with.",
            )

    def resampled(self, grid: ModelGrid) -> Atlas:
        """The same regions, by nearest neighbour through the affines, on the model grid.

        The graph stays that of the source: node order and edges do not depend on the spacing.

        Raises:
            SmrfedError: SMR-E622 where a region has no voxel on the grid.
        """
        to_source = np.linalg.inv(self.affine) @ grid.affine
        labels = affine_transform(
            self.labels,
            to_source[:3, :3],
            # A sample exactly between two voxels must fall to the same side on every machine.
            offset=to_source[:3, 3] + 1e-6,
            output_shape=grid.shape,
            order=0,
            mode="constant",
            cval=0,
        ).astype(np.int16)
        present = np.bincount(labels.ravel(), minlength=self.region_count + 1)[1:] > 0
        if not present.all():
            lost = [name for name, here in zip(self.names, present, strict=True) if not here]
            raise SmrfedError(
                "SMR-E622",
                f"{len(lost)} region(s) of atlas '{self.name}' vanish on the model grid.",
                found=", ".join(lost[:8]),
                expected=f"every region on at least one {grid.spacing_mm:g} mm voxel in the "
                "MNI152 field of view",
                remedy="Use a finer grid, merge the small regions, or check that the atlas is in "
                "MNI152 space.",
            )
        return Atlas(
            self.name, labels, grid.affine, self.names, self.homologs, self.adjacency.copy()
        )

    def region_ml(self, labels: npt.NDArray[np.integer] | None = None) -> npt.NDArray[np.float64]:
        """Millilitres per region ``(R,)``, of this atlas or of labels on a grid like it."""
        image = self.labels if labels is None else labels
        counts = np.bincount(image.ravel(), minlength=self.region_count + 1)[1:]
        return counts.astype(np.float64) * self.voxel_ml
