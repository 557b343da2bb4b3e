"""What a finished job leaves behind: one file, written whole, known by the job's digest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from shared_model.atlas.cache import write_atomically
from shared_model.errors import SmrfedError
from shared_model.evaluation.side_tables import CorruptedTable, Embeddings
from shared_model.evaluation.table import PredictionTable
from shared_model.evaluation.table_file import from_json, to_json
from simulations.scenarios.jobs import Job

#: ``released``: the model as it left the federation; ``own``: with what a hospital kept for itself;
#: ``adapted``: also adapted to the scans of an unseen hospital.
View = str
Views = Mapping[View, Sequence[PredictionTable]]


@dataclass(frozen=True, eq=False)
class Record:
    """Predictions of one job.

    Attributes:
        views: per view one table per model: a federation has one, K hospitals alone have K.
        epsilon: largest epsilon that a hospital's own ledger shows; None without privacy.
        trained_on: ``site/patient`` of everybody whom the hospitals may have trained on.
        embeddings, corrupted: of the released model, where the scenario asks for them.
    """

    views: Views
    epsilon: float | None
    trained_on: tuple[str, ...] = ()
    embeddings: Embeddings | None = None
    corrupted: CorruptedTable | None = None

    def tables(self, view: View) -> Sequence[PredictionTable]:
        """The tables of a view; a model without anything of its own is as released."""
        found = self.views.get(view)
        return self.views["released"] if found is None else found


class Records:
    """The records of a run: ``FOLDER/JOB.json``; what is not whole is absent."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, job: Job) -> Path:
        """Where the job's record is, or will be."""
        return self._folder / job.file_name

    def keep(self, job: Job, record: Record) -> None:
        """Write a record in one step."""
        content = {
            "key": job.key,
            "seed": job.seed,
            "held_out": list(job.held_out),
            "arms": list(job.arms),
            "kind": job.kind,
            "repeat": job.repeat,
            "plan": job.plan.digest,
            "epsilon": record.epsilon,
            "views": {
                view: [json.loads(to_json(table)) for table in tables]
                for view, tables in record.views.items()
            },
            "trained_on": list(record.trained_on),
            "embeddings": None if record.embeddings is None else _listed(record.embeddings),
            "corrupted": None if record.corrupted is None else _listed(record.corrupted),
        }
        write_atomically(
            self.path(job), (json.dumps(content, separators=(",", ":")) + "\n").encode()
        )

    def line(self, job: Job) -> str:
        """The record as one line of ``results.jsonl``, with its line end."""
        return self.path(job).read_text(encoding="utf-8")

    def find(self, job: Job) -> Record | None:
        """The record of a job that is done; a damaged one counts as missing."""
        try:
            content = json.loads(self.path(job).read_text(encoding="utf-8"))
            if content["key"] != job.key:
                return None
            return Record(
                {
                    view: [from_json(json.dumps(table)) for table in tables]
                    for view, tables in content["views"].items()
                },
                content["epsilon"],
                tuple(content.get("trained_on", ())),
                _embeddings(content.get("embeddings")),
                _corrupted(content.get("corrupted")),
            )
        except (OSError, ValueError, KeyError, TypeError, SmrfedError):
            return None


def _listed(table: Embeddings | CorruptedTable) -> dict[str, Any]:
    """Arrays as lists, floats with six digits."""
    out: dict[str, Any] = {}
    for each in fields(table):
        value = getattr(table, each.name)
        if isinstance(value, np.ndarray):
            value = np.round(value, 6).tolist() if value.dtype == np.float64 else value.tolist()
        out[each.name] = value
    return out


def _embeddings(content: dict[str, Any] | None) -> Embeddings | None:
    if content is None:
        return None
    texts = (tuple(content[name]) for name in ("model", "patient", "site", "label"))
    trained, z = np.array(content["trained"], dtype=bool), np.array(content["z"], dtype=np.float64)
    model, patient, site, label = texts
    return Embeddings(model, patient, site, label, trained, z)


def _corrupted(content: dict[str, Any] | None) -> CorruptedTable | None:
    if content is None:
        return None
    return CorruptedTable(
        tuple(content["labels"]),
        tuple(content["kind"]),
        np.array(content["severity"], dtype=np.int64),
        tuple(content["patient"]),
        np.array(content["probability"], dtype=np.float64),
    )
