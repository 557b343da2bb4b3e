"""Answers on disk: asked again, the site gives the same bytes and does no work twice.

One folder per run. ``0000003-train.claim`` names the instruction that the site began to work on;
``0000003-train.reply`` holds the sealed answer. Both are replaced in one step and synchronised
before anything else happens, so a kill at any moment leaves either the whole answer or none.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from client.agent.durable import TEMPORARY, write_durably
from shared_model.errors import SmrfedError
from shared_model.protocol.sealed import SIGNATURE_BYTES, Sealed

Kind = Literal["train", "finalise"]

_MAGIC = b"smrfed-reply-1\n"
_PREAMBLE = len(_MAGIC) + 32 + 32 + 8 + 8
_STEM = re.compile(r"(\d{7})-(train|finalise)")
_ORDER: tuple[Kind, ...] = ("train", "finalise")


@dataclass(frozen=True)
class Question:
    """What a site is asked: which run, round and kind, and the digest of the instruction itself."""

    run_id: str
    round: int
    kind: Kind
    instruction_sha256: str

    @property
    def place(self) -> tuple[int, int]:
        """Where the question stands in its run: rounds ascend, ``finalise`` comes last."""
        return self.round, _ORDER.index(self.kind)


class ReplyStore:
    """The sealed answers of one site, below ``folder``.

    Bounded: the answers of the last ``keep`` rounds of an unfinished run, and only the last answer
    of a finalised run; of every question ever begun, a claim of some 100 bytes. Not safe for two
    processes at once: the agent holds the lock of the state folder.
    """

    def __init__(self, folder: Path, keep: int = 3) -> None:
        self._folder = folder
        self._keep = keep

    def remove_leftovers(self) -> None:
        """Remove what a kill left half written; only for the holder of the state folder's lock."""
        for leftover in self._folder.glob(f"*/.*{TEMPORARY}"):
            leftover.unlink()

    def find(self, question: Question) -> Sealed | None:
        """The stored answer to this question, or ``None`` when it has not been answered yet.

        Raises SMR-E403 when the same run, round and kind was asked in other bytes, SMR-E404 when a
        later round of the run was answered or the run finalised, and SMR-E407 when the stored
        answer is damaged.
        """
        claim = self._path(question, "claim")
        if claim.exists():
            known = self._read_claim(claim)
            if known != question.instruction_sha256:
                raise SmrfedError(
                    "SMR-E403",
                    f"round {question.round} ({question.kind}) of run {question.run_id} was asked "
                    "before with another instruction",
                    expected=known,
                    found=question.instruction_sha256,
                    remedy="the coordinator must repeat the instruction it sent first, or start a "
                    "new run",
                )
            reply = self._path(question, "reply")
            if reply.exists():
                return self._read_reply(reply, known)
        newest = self.newest(question.run_id)
        if newest is not None and (question.place < newest or _ORDER[newest[1]] == "finalise"):
            raise SmrfedError(
                "SMR-E404",
                f"round {question.round} ({question.kind}) of run {question.run_id} comes too late",
                expected=f"a question after round {newest[0]} ({_ORDER[newest[1]]}), answered "
                "already; none after finalise",
                found=f"round {question.round} ({question.kind})",
                remedy="the coordinator must resume from its last checkpoint, or start a new run",
            )
        return None

    def claim(self, question: Question) -> None:
        """Note durably that work on this question begins; call after :meth:`find`."""
        path = self._path(question, "claim")
        if not path.exists():
            write_durably(
                path, json.dumps({"instruction_sha256": question.instruction_sha256}).encode()
            )

    def save(self, question: Question, reply: Sealed) -> None:
        """Store the answer durably, then drop the answers that nobody can ask for any more."""
        content = hashlib.sha256(reply.header + reply.body + reply.signature).digest()
        write_durably(
            self._path(question, "reply"),
            _MAGIC,
            bytes.fromhex(question.instruction_sha256),
            content,
            len(reply.header).to_bytes(8, "little"),
            len(reply.body).to_bytes(8, "little"),
            reply.header,
            reply.body,
            reply.signature,
        )
        keep = 1 if question.kind == "finalise" else self._keep
        for old in self._answered(question.run_id)[:-keep]:
            (self._run(question.run_id) / f"{_stem(*old)}.reply").unlink()

    def newest(self, run_id: str) -> tuple[int, int] | None:
        """Place of the last answered question of a run."""
        answered = self._answered(run_id)
        return answered[-1] if answered else None

    def runs(self) -> dict[str, tuple[int, Kind]]:
        """Run -> round and kind of its last answer; the run that was answered last comes last."""
        answers = {}
        for run in self._folder.glob("*"):
            newest = self.newest(run.name)
            if newest is not None:
                written = (run / f"{_stem(*newest)}.reply").stat().st_mtime_ns
                answers[written, run.name] = newest[0], _ORDER[newest[1]]
        return {name: answer for (_, name), answer in sorted(answers.items())}

    def _answered(self, run_id: str) -> list[tuple[int, int]]:
        matches = (_STEM.fullmatch(path.stem) for path in self._run(run_id).glob("*.reply"))
        return sorted((int(m[1]), 0 if m[2] == "train" else 1) for m in matches if m)

    def _run(self, run_id: str) -> Path:
        return self._folder / run_id

    def _path(self, question: Question, ending: str) -> Path:
        return self._run(question.run_id) / f"{_stem(*question.place)}.{ending}"

    def _read_claim(self, path: Path) -> str:
        try:
            return str(json.loads(path.read_bytes())["instruction_sha256"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _damaged(path, error) from None

    def _read_reply(self, path: Path, instruction_sha256: str) -> Sealed:
        data = path.read_bytes()
        header = int.from_bytes(data[_PREAMBLE - 16 : _PREAMBLE - 8], "little")
        body = int.from_bytes(data[_PREAMBLE - 8 : _PREAMBLE], "little")
        content = data[_PREAMBLE:]
        digests = data[len(_MAGIC) : _PREAMBLE - 16]
        if (
            not data.startswith(_MAGIC)
            or len(content) != header + body + SIGNATURE_BYTES
            or digests != bytes.fromhex(instruction_sha256) + hashlib.sha256(content).digest()
        ):
            raise _damaged(path, f"{len(data)} bytes")
        end = len(content) - SIGNATURE_BYTES
        return Sealed(content[:header], content[header:end], content[end:])


def _stem(round_number: int, order: int) -> str:
    return f"{round_number:07d}-{_ORDER[order]}"


def _damaged(path: Path, found: object) -> SmrfedError:
    return SmrfedError(
        "SMR-E407",
        f"a stored answer of this site is damaged: {path}",
        expected="the bytes that the agent wrote",
        found=found,
        remedy="check the disk and restore the state folder from a backup; do not delete the file: "
        "the round would be trained, and charged, once more",
    )
