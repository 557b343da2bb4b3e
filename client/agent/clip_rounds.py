"""Where adaptive clipping arrived in each round: state of the site between rounds of a run."""

from __future__ import annotations

import json
import re
from pathlib import Path

from client.agent.durable import write_durably

_NAME = re.compile(r"clip-(\d{7})\.json")


def restore_clip(folder: Path, before_round: int) -> float | None:
    """The norm after the last round before ``before_round``; None: the plan's start.

    A round that crashed and is trained again starts where it started the first time. The norm was
    computed from noised counts only, so what it steers is as private as they are.
    """
    rounds = [number for number in _stored(folder) if number < before_round]
    if not rounds:
        return None
    return float(json.loads(_path(folder, max(rounds)).read_bytes())["clipping_norm"])


def store_clip(folder: Path, clipping_norm: float, round_number: int) -> None:
    """Keep the norm after a round, and that of the round before it."""
    text = json.dumps({"clipping_norm": clipping_norm})
    write_durably(_path(folder, round_number), text.encode())
    for number in sorted(_stored(folder))[:-2]:
        _path(folder, number).unlink()


def _stored(folder: Path) -> list[int]:
    matches = (_NAME.fullmatch(path.name) for path in folder.glob("clip-*.json"))
    return [int(match[1]) for match in matches if match]


def _path(folder: Path, round_number: int) -> Path:
    return folder / f"clip-{round_number:07d}.json"
