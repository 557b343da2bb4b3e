"""Which files of a run an evaluation reads, and where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shared_model.errors import SmrfedError

#: ``predictions/ARM.csv`` and the names of the training patients beside them.
PREDICTIONS, TRAINED_ON = "predictions", "trained_on.txt"
#: ``embeddings/ARM.csv`` and ``corrupted/ARM.csv``.
EMBEDDINGS, CORRUPTED = "embeddings", "corrupted"


@dataclass(frozen=True)
class RunFiles:
    """What an evaluation reads."""

    predictions: tuple[Path, ...]
    embeddings: tuple[Path, ...]
    corrupted: tuple[Path, ...]
    trained_on: Path | None


def run_files(
    given: Sequence[Path],
    embeddings: Sequence[Path],
    corrupted: Sequence[Path],
    trained_on: Path | None,
) -> RunFiles:
    """The files that were named, and all that lies in the folder of a run; raises SMR-E610."""
    tables: list[Path] = []
    sides: dict[str, list[Path]] = {EMBEDDINGS: [*embeddings], CORRUPTED: [*corrupted]}
    for path in given:
        if not path.is_dir():
            tables.append(path)
            continue
        found = sorted((path / PREDICTIONS).glob("*.csv"))
        if not found:
            raise SmrfedError(
                "SMR-E610",
                f"there is no table of predictions in {path}",
                expected=f"{PREDICTIONS}/ARM.csv, as smrfed-sim run and demo write them",
                found="a folder without them",
                remedy="name the folder of a finished run, or the tables themselves",
            )
        tables += found
        for name, paths in sides.items():
            paths += sorted((path / name).glob("*.csv"))
        names = path / PREDICTIONS / TRAINED_ON
        if trained_on is None and names.exists():
            trained_on = names
    return RunFiles(tuple(tables), tuple(sides[EMBEDDINGS]), tuple(sides[CORRUPTED]), trained_on)
