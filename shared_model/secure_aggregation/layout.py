"""Integer arrays by name as one flat vector and back: the order that all sites share."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from shared_model.secure_aggregation.masks import Vector


class Layout:
    """Names in their sorted order, each array in C order, one after the other: P numbers."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._shapes = {name: tuple(shapes[name]) for name in sorted(shapes)}
        self.numbers = sum(math.prod(shape) for shape in self._shapes.values())

    def flatten(self, arrays: Mapping[str, npt.NDArray[np.int64]]) -> Vector:
        """(P,) uint64, two's complement: a copy; raises ValueError for other names or shapes."""
        found = {name: array.shape for name, array in arrays.items()}
        if found != self._shapes:
            raise ValueError(f"arrays {sorted(found)}, not those of the plan")
        out = np.empty(self.numbers, dtype=np.int64)
        at = 0
        for name, shape in self._shapes.items():
            if arrays[name].dtype != np.int64:
                raise ValueError(f"{name} is {arrays[name].dtype}, not int64")
            size = math.prod(shape)
            out[at : at + size] = arrays[name].reshape(-1)
            at += size
        return out.view(np.uint64)

    def restore(self, vector: Vector | npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.int64]]:
        """The arrays by name, as views of the vector; raises ValueError for another length."""
        if vector.shape != (self.numbers,):
            raise ValueError(f"{vector.shape} numbers, not {self.numbers}")
        signed = vector.view(np.int64)
        out, at = {}, 0
        for name, shape in self._shapes.items():
            size = math.prod(shape)
            out[name] = signed[at : at + size].reshape(shape)
            at += size
        return out
