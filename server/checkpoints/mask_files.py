"""What a run keeps of its secure sums, so that a killed coordinator asks the same again.

::

    RUN_DIR/masked/
      block-00001.json              keys and shares of the block that begins with round 1
      order-00003.json              for which sites vectors were masked in round 3
      collected-00003.safetensors   their masked sum, its survivors fixed; until it is opened
      opened-00003.safetensors      the opened sum as it may be released: with all its noise

Every file is whole or absent, holds the run's identifier and a digest of itself, and is on the disk
before the question or the parameters that rest on it. Nothing here shows one site's numbers. Mode
``central``: the opened sum is stored with the coordinator's noise, and never again without.
"""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from server.checkpoints.durable import replace_durably
from server.rounds.records import RoundRecord
from shared_model.errors import SmrfedError
from shared_model.protocol.arrays import decode_integers, encode_integers
from shared_model.secure_aggregation.messages import MaskingOrder

_FOLDER = "masked"
_NAME = re.compile(r"(block|order|collected|opened)-(\d{5,7})\.(?:json|safetensors)")


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BlockFile(_File):
    """How far the set-up of a block is; ``keys`` and ``shares`` by site, in base64."""

    first_round: int
    keys: dict[str, str] = {}
    asked: RoundRecord | None = None
    shares: dict[str, str] = {}
    shared: RoundRecord | None = None


class _Collected(_File):
    record: RoundRecord


class OpenedFile(_File):
    """Whose sum was opened; ``record`` is that of the round."""

    record: RoundRecord
    survivors: tuple[str, ...]


_F = TypeVar("_F", bound=BaseModel)


class MaskFiles:
    """The files of one run; made when first written."""

    def __init__(self, run: Path, run_id: str) -> None:
        self.folder = run / _FOLDER
        self._run_id = run_id

    def block(self, first_round: int) -> BlockFile | None:
        """The block that begins with this round."""
        return self._read(BlockFile, f"block-{first_round:05d}.json")

    def last_block(self) -> BlockFile | None:
        """The block that was begun last."""
        rounds = self._rounds("block")
        return self.block(max(rounds)) if rounds else None

    def save_block(self, file: BlockFile) -> None:
        """Keep how far a set-up is; raises SMR-E534."""
        self._write(f"block-{file.first_round:05d}.json", file)

    def order(self, number: int) -> MaskingOrder | None:
        """For which sites vectors of a round are masked, once that is fixed."""
        return self._read(MaskingOrder, f"order-{number:05d}.json")

    def save_order(self, number: int, order: MaskingOrder) -> None:
        """Fix it; raises SMR-E534."""
        self._write(f"order-{number:05d}.json", order)

    def collected(self, number: int) -> tuple[RoundRecord, bytes] | None:
        """The masked sum of a round whose survivors are fixed, with the record of its training."""
        found = self._read_arrays(_Collected, f"collected-{number:05d}.safetensors")
        return None if found is None else (found[0].record, found[1])

    def save_collected(self, number: int, record: RoundRecord, collected: bytes) -> None:
        """Fix the survivors; raises SMR-E534."""
        name = f"collected-{number:05d}.safetensors"
        self._write_arrays(name, _Collected(record=record), collected)

    def opened(self, number: int) -> tuple[OpenedFile, npt.NDArray[np.int64]] | None:
        """The opened sum (P,) of a round, with all its noise."""
        found = self._read_arrays(OpenedFile, f"opened-{number:05d}.safetensors")
        if found is None:
            return None
        return found[0], decode_integers(found[1])["sum"].view(np.int64)

    def save_opened(self, number: int, file: OpenedFile, total: npt.NDArray[np.int64]) -> None:
        """Keep it, and drop the masked sum; raises SMR-E534."""
        name = f"opened-{number:05d}.safetensors"
        self._write_arrays(name, file, encode_integers({"sum": total.view(np.uint64)}))
        (self.folder / f"collected-{number:05d}.safetensors").unlink(missing_ok=True)

    def prune(self, number: int, kept_rounds: int) -> None:
        """Once round ``number`` is saved: forget what no kept checkpoint can lead to again."""
        first_kept = number - kept_rounds + 1
        blocks = {self._rounds("block")[-1]} if self._rounds("block") else set()
        for kept in range(max(first_kept, 1), number + 1):
            order = self.order(kept)
            blocks |= set() if order is None else {order.first_round}
        for path in self.folder.glob("*-*"):
            match = _NAME.fullmatch(path.name)
            if match is None:
                continue
            kind, place = match[1], int(match[2])
            if kind == "block":
                gone = place not in blocks
            else:
                gone = place <= number if kind == "collected" else place < first_kept
            if gone:
                path.unlink()

    def _rounds(self, kind: str) -> list[int]:
        matches = (_NAME.fullmatch(path.name) for path in self.folder.glob(f"{kind}-*"))
        return sorted(int(match[2]) for match in matches if match)

    def _write(self, name: str, content: BaseModel) -> None:
        said = content.model_dump(mode="json")
        document = {"run_id": self._run_id, "sha256": _digest(said), "content": said}
        self._replace(name, json.dumps(document, sort_keys=True).encode())

    def _read(self, model: type[_F], name: str) -> _F | None:
        path = self.folder / name
        try:
            return self._parsed(model, path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise damaged(path, error) from None

    def _write_arrays(self, name: str, content: BaseModel, arrays: bytes) -> None:
        said = content.model_dump(mode="json")
        digest = hashlib.sha256(arrays).hexdigest()
        document = {
            "run_id": self._run_id, "sha256": _digest(said), "content": said, "arrays": digest,
        }  # fmt: skip
        head = json.dumps(document, sort_keys=True).encode()
        self._replace(name, len(head).to_bytes(8, "little") + head + arrays)

    def _read_arrays(self, model: type[_F], name: str) -> tuple[_F, bytes] | None:
        path = self.folder / name
        try:
            data = path.read_bytes()
            end = 8 + int.from_bytes(data[:8], "little")
            arrays = data[end:]
            if json.loads(data[8:end])["arrays"] != hashlib.sha256(arrays).hexdigest():
                raise ValueError("the numbers do not match their digest")
            return self._parsed(model, data[8:end]), arrays
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise damaged(path, error) from None

    def _parsed(self, model: type[_F], data: bytes) -> _F:
        document: Any = json.loads(data)
        if document["run_id"] != self._run_id or document["sha256"] != _digest(document["content"]):
            raise ValueError("of another run, or not what was written")
        return model.model_validate(document["content"])

    def _replace(self, name: str, data: bytes) -> None:
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            replace_durably(self.folder / name, data)
        except OSError as error:
            raise SmrfedError(
                "SMR-E534",
                f"cannot write {self.folder / name}",
                found=error,
                remedy="check free space and permissions, then resume: the checkpoint before is "
                "intact",
            ) from None


def as_text(values: dict[str, bytes]) -> dict[str, str]:
    """Bytes by name for a JSON file."""
    return {name: b64encode(value).decode() for name, value in values.items()}


def as_bytes(values: dict[str, str]) -> dict[str, bytes]:
    """The same again."""
    return {name: b64decode(value) for name, value in values.items()}


def damaged(path: Path, error: object) -> SmrfedError:
    """SMR-E564: a file here cannot be used."""
    return SmrfedError(
        "SMR-E564",
        f"a file of the run's secure sums is damaged: {path}",
        expected="the bytes that the coordinator wrote",
        found=str(error)[:300],
        remedy="check the disk and restore the file from a backup. Never delete an opened file "
        "in privacy mode 'central': noise would be added to one sum a second time. Without a "
        "backup, begin a new run from the newest parameters",
    )


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
