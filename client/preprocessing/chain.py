"""Run the steps of preparation on one scan, beginning after the last one that is still valid."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from client.preprocessing.checkpoints import Checkpoints
from client.preprocessing.image import Image, Step, Work


def step_identity(step: Step) -> dict[str, Any]:
    """What decides a step's result besides the scan: name, version, parameters."""
    return {"name": step.name, "version": step.version, "parameters": dict(step.parameters())}


class Chain:
    """Steps in order, whose results are kept by what they were made from.

    The key of a result is a digest of the scan's bytes and of every step up to it, so that a
    changed scan redoes everything and a changed plan only the steps from the first changed one on.
    A result is the same whether it was computed now or kept.

    Args:
        steps: in order.
        checkpoints: keeps the results of the steps named in ``kept``.
        kept: names of the steps that are worth more time than disk.
    """

    def __init__(
        self, steps: Sequence[Step], checkpoints: Checkpoints, kept: frozenset[str]
    ) -> None:
        self._steps = tuple(steps)
        self._checkpoints = checkpoints
        self._kept = kept

    def identity(self) -> list[dict[str, Any]]:
        """All steps with version and parameters, for provenance."""
        return [step_identity(step) for step in self._steps]

    def files_of(self, source_sha256: str) -> tuple[Path, ...]:
        """Where the results of a scan lie that are kept, whether or not they are there."""
        named = zip(self._steps, self._keys(source_sha256), strict=True)
        return tuple(self._checkpoints.path(k) for step, k in named if step.name in self._kept)

    def run(self, image: Image, source_sha256: str) -> Work:
        """Do what is missing for one scan. Raises the Defect of the step that cannot go on."""
        keys = self._keys(source_sha256)
        work, start = Work(image), 0
        for index in reversed(range(len(self._steps))):
            if self._steps[index].name in self._kept:
                found = self._checkpoints.load(keys[index])
                if found is not None:
                    work, start = found, index + 1
                    break
        for index, step in enumerate(self._steps[start:], start):
            work = step(work)
            if step.name in self._kept:
                work = self._checkpoints.save(keys[index], work)
        return work

    def _keys(self, source_sha256: str) -> list[str]:
        keys, key = [], source_sha256
        for step in self._steps:
            text = json.dumps([key, step_identity(step)], sort_keys=True)
            key = hashlib.sha256(text.encode()).hexdigest()
            keys.append(key)
        return keys
