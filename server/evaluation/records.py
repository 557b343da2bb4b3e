"""What was asked of the sites' patients and what came back, kept for good in the run directory."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from server.checkpoints.durable import replace_durably, sync_folder
from server.rounds.records import RoundRecord
from shared_model.errors import SmrfedError
from shared_model.plan import Sha256
from shared_model.protocol.arrays import body_digest
from shared_model.protocol.messages import Kind

FOLDER = "releases"


class ReleaseRecord(BaseModel):
    """One evaluation or calibration: who was asked what, and the noised sums of those who answered.

    Attributes:
        asked: the exchange, as the history of a run has it; its ``round`` is the number in the run.
        after_round: rounds of training behind the model that was looked at; fewer than the run has
            where an earlier model is released.
        body_sha256: digest of that model's shared parameters.
        arrays: site -> array name -> values as released, flat; their shapes are the plan's, and
            float32 values are exact in JSON.
        offsets: ``calibrate`` only: what the class biases of the released model get.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    asked: RoundRecord
    after_round: int = Field(ge=0)
    body_sha256: Sha256
    arrays: dict[str, dict[str, tuple[float, ...]]]
    offsets: tuple[float, ...] | None = None


class ReleaseStore:
    """``RUN_DIR/releases/0000004-evaluate.json`` and so on, each written once, whole or absent."""

    def __init__(self, run_dir: Path) -> None:
        self._folder = run_dir / FOLDER

    def find(self, kind: Kind, number: int) -> ReleaseRecord | None:
        """The record of one release; raises SMR-E572 when it is damaged."""
        path = self._path(kind, number)
        return _read(path) if path.exists() else None

    def all(self) -> tuple[ReleaseRecord, ...]:
        """All records in the order of the run; raises SMR-E572."""
        records = (_read(path) for path in sorted(self._folder.glob("[0-9]*.json")))
        # A calibration comes before the last evaluation, and so in the alphabet.
        return tuple(sorted(records, key=lambda r: (r.asked.round, r.asked.kind)))

    def save(self, record: ReleaseRecord) -> None:
        """Keep a record before anything follows from it; raises SMR-E534."""
        path = self._path(record.asked.kind, record.asked.round)
        content = record.model_dump(mode="json")
        document = {"sha256": _digest(content), "record": content}
        self._write(path, json.dumps(document, sort_keys=True, indent=1).encode())

    def keep_best(self, body: bytes) -> None:
        """Keep the parameters of the best evaluation so far, in place of others; raises SMR-E534.

        Checkpoints of the rounds are deleted in time, and the best one may be older than they are.
        """
        if not self._best.exists() or self._best.read_bytes() != body:
            self._write(self._best, body)

    def best(self, sha256: str) -> bytes:
        """The parameters with this digest that were kept; raises SMR-E572 when they are damaged."""
        try:
            body = self._best.read_bytes()
            if body_digest(body) != sha256:
                raise ValueError("its digest is not that of the best evaluation")
        except (OSError, ValueError) as error:
            raise _damaged(self._best, error) from None
        return body

    @property
    def _best(self) -> Path:
        return self._folder / "best.safetensors"

    def _write(self, path: Path, content: bytes) -> None:
        try:
            if not self._folder.exists():
                self._folder.mkdir()
                sync_folder(self._folder.parent)
            replace_durably(path, content)
        except OSError as error:
            raise SmrfedError(
                "SMR-E534",
                f"cannot write {path}",
                found=error,
                remedy="check free space and permissions, then resume: the sites give the same "
                "answers again",
            ) from None

    def _path(self, kind: Kind, number: int) -> Path:
        return self._folder / f"{number:07d}-{kind}.json"


def _read(path: Path) -> ReleaseRecord:
    try:
        document = json.loads(path.read_bytes())
        if _digest(document["record"]) != document["sha256"]:
            raise ValueError("it does not match its own digest")
        return ReleaseRecord.model_validate(document["record"])
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> SmrfedError:
    return SmrfedError(
        "SMR-E572",
        f"a stored release of the sites is damaged: {path}",
        expected="the file as the coordinator wrote it",
        found=f"{type(error).__name__}: {error}"[:300],
        remedy="restore the file from a backup; do not delete it: sites may have dropped their "
        "answers, and the run would go on from other figures",
    )


def _digest(content: object) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
