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

from client.agent.durable import TEMPORARY, write_durably
from client.agent.sent_archive import SentArchive
from shared_model.errors import SmrfedError
from shared_model.protocol.messages import Kind
from shared_model.protocol.sealed import SIGNATURE_BYTES, Sealed

_MAGIC = b"smrfed-reply-1\n"
_PREAMBLE = len(_MAGIC) + 32 + 32 + 8 + 8
# Within a round: keys, the update and what opens its sum, then the moments that the next one uses;
# at the end, the decision rule before the last look at the result.
_ORDER: tuple[Kind, ...] = (
    "keys", "shares", "train", "unmask", "moments", "calibrate", "evaluate", "finalise",
)  # fmt: skip
# An instruction costs nothing to invent, and every run leaves claims and a model folder.
MAX_RUNS = 1000
_STEM = re.compile(rf"(\d{{7}})-({'|'.join(_ORDER)})")


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
    of a finalised run; of every question ever begun, a claim of some 100 bytes; ``max_runs`` runs.
    Older answers go to ``archive``. Not safe for two processes at once: the agent holds the lock of
    the state folder.
    """

    def __init__(
        self,
        folder: Path,
        keep: int = 3,
        archive: SentArchive | None = None,
        max_runs: int = MAX_RUNS,
    ) -> None:
        self._folder = folder
        self._keep = keep
        self._archive = archive
        self._max_runs = max_runs

    def remove_leftovers(self) -> None:
        """Remove what a kill left half written; only for the holder of the state folder's lock."""
        for leftover in self._folder.glob(f"*/.*{TEMPORARY}"):
            leftover.unlink()

    def find(self, question: Question) -> Sealed | None:
        """The stored answer to this question, or ``None`` when it has not been answered yet.

        Raises SMR-E403 when the same run, round and kind was asked in other bytes, SMR-E404 when a
        later round of the run was answered or the run finalised, SMR-E407 when the stored answer
        is damaged, and the gate's own number when it refused the answer (:meth:`refuse`).
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
            self._require_not_refused(question)
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

    def claim(self, question: Question) -> bool:
        """Note durably that work on this question begins; call after :meth:`find`.

        False when it had begun before. Raises SMR-E423 for one run more than the store holds.
        """
        path = self._path(question, "claim")
        if path.exists():
            return False
        if not path.parent.exists():
            self._require_room(question.run_id)
        write_durably(
            path, json.dumps({"instruction_sha256": question.instruction_sha256}).encode()
        )
        return True

    def withdraw(self, question: Question) -> None:
        """Forget a claim on which no work was done, and the run if it has nothing else."""
        self._path(question, "claim").unlink(missing_ok=True)
        run = self._run(question.run_id)
        if not any(run.iterdir()):
            run.rmdir()

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
        answered = self._answered(question.run_id)
        if question.kind == "finalise":
            past = answered[:-1]
        else:
            rounds = sorted({number for number, _ in answered})[-self._keep :]
            past = [place for place in answered if place[0] not in rounds]
        for old in past:
            path = self._run(question.run_id) / f"{_stem(*old)}.reply"
            if self._archive is None:
                path.unlink()
            else:
                self._archive.take(path)

    def refuse(self, question: Question, code: str) -> None:
        """Note durably that the gate refused the answer for what it holds.

        Computed again it would be charged again, and a question costs a coordinator nothing.
        """
        write_durably(self._path(question, "refused"), code.encode())

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

    def _require_not_refused(self, question: Question) -> None:
        refused = self._path(question, "refused")
        if refused.exists():
            raise SmrfedError(
                refused.read_text(encoding="utf-8", errors="replace")[:16],
                f"the egress gate refused the answer to round {question.round} ({question.kind}) "
                f"of run {question.run_id} before; it is not computed, and charged, once more",
                expected="an answer that the gate lets out",
                found=f"the refusal noted in {refused}",
                remedy="find the refusal with 'smrfed-site receipts'; once its cause is removed, "
                "ask the coordinator for a new run",
            )

    def _require_room(self, run_id: str) -> None:
        runs = sum(1 for _ in self._folder.glob("*"))
        if runs >= self._max_runs:
            raise SmrfedError(
                "SMR-E423",
                f"run {run_id} would be one more than this site keeps",
                expected=f"at most {self._max_runs} runs",
                found=f"{runs} below {self._folder}",
                remedy="ask the coordinator what so many runs are for; if they were real, stop the "
                "agent and move this folder to an archive: ledger and receipts stay",
            )

    def _answered(self, run_id: str) -> list[tuple[int, int]]:
        matches = (_STEM.fullmatch(path.stem) for path in self._run(run_id).glob("*.reply"))
        order = {str(kind): place for place, kind in enumerate(_ORDER)}
        return sorted((int(m[1]), order[m[2]]) for m in matches if m)

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
        answered, reply = read_reply(path)
        if answered != instruction_sha256:
            raise _damaged(path, f"an answer to instruction {answered}")
        return reply


def read_reply(path: Path) -> tuple[str, Sealed]:
    """The digest of the instruction that a stored answer answers, and the answer; SMR-E407."""
    data = path.read_bytes()
    header = int.from_bytes(data[_PREAMBLE - 16 : _PREAMBLE - 8], "little")
    body = int.from_bytes(data[_PREAMBLE - 8 : _PREAMBLE], "little")
    content = data[_PREAMBLE:]
    instruction = data[len(_MAGIC) : len(_MAGIC) + 32]
    digest = data[len(_MAGIC) + 32 : _PREAMBLE - 16]
    if (
        not data.startswith(_MAGIC)
        or len(content) != header + body + SIGNATURE_BYTES
        or digest != hashlib.sha256(content).digest()
    ):
        raise _damaged(path, f"{len(data)} bytes")
    end = len(content) - SIGNATURE_BYTES
    return instruction.hex(), Sealed(content[:header], content[header:end], content[end:])


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
