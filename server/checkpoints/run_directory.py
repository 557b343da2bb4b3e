"""The run directory: plan, initial parameters and one checkpoint a round, never half-written.

::

    RUN_DIR/
      plan.json             canonical JSON of the plan (its SHA-256 is the plan digest)
      run.json              run identifier, plan digest, digest of the initial parameters
      initial.safetensors   shared parameters before round 1
      rounds/00007/         state.json and global.safetensors of each of the last rounds
      latest                name of the newest round
      finalised.json        which sites know the final parameters
      stopped.json          the round that missed its quorum, while that is the last word
      lock                  held by the process that drives the run; its time is a sign of life
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from server.checkpoints.durable import replace_durably, sync_folder, write_durably
from server.checkpoints.state import RunState, StateFile
from server.rounds.history import History
from server.rounds.records import RoundRecord
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan, Sha256
from shared_model.protocol.arrays import Arrays, body_digest, encode_arrays
from shared_model.protocol.messages import RunId

KEPT_ROUNDS = 3

_log = logging.getLogger(__name__)


class _RunFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    run_id: RunId
    plan_digest: Sha256
    initial_sha256: Sha256


class RunDirectory:
    """One run on disk; made by :meth:`create`, read by :meth:`open`."""

    def __init__(self, path: Path, plan: FederationPlan, run: _RunFile) -> None:
        self._path = path
        self._plan = plan
        self._run = run

    @classmethod
    def create(
        cls, path: Path, plan: FederationPlan, initial_arrays: Arrays, run_id: str
    ) -> RunDirectory:
        """Make a run directory with the shared parameters before round 1.

        Raises SMR-E531 when ``path`` exists, SMR-E515 when an array is not in the plan's shared
        group or there is none, SMR-E534 when it cannot be written.
        """
        foreign = [n for n in initial_arrays if plan.groups.group_of(n) != "shared"]
        if foreign or not initial_arrays:
            raise SmrfedError(
                "SMR-E515",
                "the initial parameters are not the plan's shared group",
                expected="at least one array, all of the shared group",
                found=f"{len(initial_arrays)} arrays; not shared: {', '.join(foreign[:5])}",
                remedy="pass only the parameters that the plan's [groups] call shared",
            )
        if path.exists():
            raise SmrfedError(
                "SMR-E531",
                f"the run directory {path} exists already",
                remedy="resume that run, or choose a new directory: runs are never overwritten",
            )
        body = encode_arrays(initial_arrays)
        run = _RunFile(run_id=run_id, plan_digest=plan.digest, initial_sha256=body_digest(body))
        temporary = path.with_name(f".tmp-{path.name}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(temporary, ignore_errors=True)
            (temporary / "rounds").mkdir(parents=True)
            write_durably(temporary / "plan.json", plan.canonical_json)
            write_durably(temporary / "run.json", run.model_dump_json(indent=1).encode())
            write_durably(temporary / "initial.safetensors", body)
            sync_folder(temporary)
            temporary.rename(path)
            sync_folder(path.parent)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise _cannot_write(path, error) from None
        return cls(path, plan, run)

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """Read a run directory; raises SMR-E530 (none there) or SMR-E535 (files do not belong)."""
        try:
            run = _RunFile.model_validate_json((path / "run.json").read_bytes())
            plan = FederationPlan.parse(
                json.loads((path / "plan.json").read_bytes()), source=str(path / "plan.json")
            )
        except (OSError, ValueError, ValidationError) as error:
            raise SmrfedError(
                "SMR-E530",
                f"{path} is not a run directory",
                expected="run.json and plan.json",
                found=f"{type(error).__name__}: {error}"[:300],
                remedy="give the directory that the run was created in",
            ) from None
        directory = cls(path, plan, run)
        directory.require_plan(plan)
        return directory

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self._path

    @property
    def plan(self) -> FederationPlan:
        """The plan of the run."""
        return self._plan

    @property
    def run_id(self) -> str:
        """The identifier that every instruction and reply of the run carries."""
        return self._run.run_id

    def require_plan(self, plan: FederationPlan) -> None:
        """Raise SMR-E535 unless this run was created for exactly this plan."""
        if plan.digest != self._run.plan_digest:
            raise SmrfedError(
                "SMR-E535",
                f"the run directory {self._path} belongs to another plan",
                expected=f"plan digest {self._run.plan_digest}",
                found=plan.digest,
                remedy="resume with the plan that the run was created for, or create a new run",
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the directory for one driver; raises SMR-E533 when another process holds it.

        The kernel drops the lock with the process, so a killed driver leaves nothing to clean up.
        """
        try:
            descriptor = os.open(self._path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise _cannot_write(self._path / "lock", error) from None
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(descriptor, 32).decode(errors="replace").strip()
                raise SmrfedError(
                    "SMR-E533",
                    f"another process drives the run in {self._path}",
                    found=f"process {holder or 'unknown'}",
                    remedy="wait for it, or stop it; its finished rounds are saved",
                ) from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def alive(self) -> None:
        """Set the lock's time: the process that holds it has not hung."""
        with contextlib.suppress(OSError):
            os.utime(self._path / "lock")

    def latest(self) -> RunState:
        """The newest state whose files match their digests; the initial one before round 1.

        A damaged round is passed over with a warning: its predecessor leads to the same bits.
        Raises SMR-E532 when there were rounds but none can be used, or the initial parameters
        cannot.
        """
        damaged = []
        for folder in self._round_folders():
            try:
                return self._read(folder)
            except (OSError, ValueError) as error:
                damaged.append(f"{folder.name}: {error}"[:200])
                _log.warning("checkpoint %s is damaged and passed over: %s", folder, error)
        if not damaged and (self._path / "latest").exists():
            damaged.append("rounds: empty, although a round was saved")
        if not damaged:
            initial = self._path / "initial.safetensors"
            try:
                body = initial.read_bytes()
            except OSError as error:
                damaged.append(f"{initial.name}: {error}")
            else:
                if body_digest(body) == self._run.initial_sha256:
                    return RunState(0, body)
                damaged.append(f"{initial.name}: does not match its digest")
        raise SmrfedError(
            "SMR-E532",
            f"no checkpoint in {self._path} can be used",
            expected="at least one undamaged round",
            found="; ".join(damaged),
            remedy="restore the rounds folder from a backup",
        )

    def save(self, state: RunState) -> None:
        """Add the checkpoint of a round, then forget all but the newest rounds.

        All files are on disk before the round's folder appears under its name, and the pointer
        moves last; a crash at any point leaves a state that :meth:`latest` can use. Raises
        SMR-E534.
        """
        rounds = self._path / "rounds"
        name = f"{state.round:05d}"
        temporary = rounds / f".tmp-{name}"
        content = StateFile.encode(state, self.run_id, self._run.plan_digest)
        try:
            for stale in rounds.glob(".tmp-*"):
                shutil.rmtree(stale)
            temporary.mkdir()
            write_durably(temporary / "global.safetensors", state.body)
            for optimiser, body in state.optimiser.items():
                write_durably(temporary / f"optimiser-{optimiser}.safetensors", body)
            write_durably(temporary / "state.json", content)
            sync_folder(temporary)
            if (rounds / name).exists():  # a damaged round that was passed over
                (rounds / name).rename(rounds / f".tmp-damaged-{name}")
            temporary.rename(rounds / name)
            sync_folder(rounds)
            replace_durably(self._path / "latest", f"{name}\n".encode())
            (self._path / "stopped.json").unlink(missing_ok=True)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise _cannot_write(rounds / name, error) from None
        for folder in self._round_folders()[KEPT_ROUNDS:]:
            shutil.rmtree(folder, ignore_errors=True)

    def finalised(self) -> RoundRecord | None:
        """Which sites were told the final parameters; none before the end of the run."""
        return self._record("finalised.json")

    def save_finalised(self, record: RoundRecord) -> None:
        """Remember who was told the final parameters; raises SMR-E534."""
        self._save_record("finalised.json", record)

    def stopped(self) -> RoundRecord | None:
        """The round that missed its quorum, when nothing was saved since."""
        return self._record("stopped.json")

    def save_stopped(self, record: RoundRecord) -> None:
        """Remember a round that missed its quorum; raises SMR-E534."""
        self._save_record("stopped.json", record)

    def _round_folders(self) -> list[Path]:
        folders = [f for f in (self._path / "rounds").glob("*") if f.name.isdigit()]
        return sorted(folders, key=lambda folder: int(folder.name), reverse=True)

    def _read(self, folder: Path) -> RunState:
        content = StateFile.decode((folder / "state.json").read_bytes())
        if (content.run_id, content.plan_digest, content.round) != (
            self.run_id,
            self._run.plan_digest,
            int(folder.name),
        ):
            raise ValueError("state.json belongs to another run, plan or round")
        body = _matching(folder / "global.safetensors", content.global_sha256)
        optimiser = {
            name: _matching(folder / f"optimiser-{name}.safetensors", digest)
            for name, digest in content.optimiser_sha256.items()
        }
        return RunState(content.round, body, History.of(content.history), optimiser)

    def _record(self, name: str) -> RoundRecord | None:
        try:
            return RoundRecord.model_validate_json((self._path / name).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            _log.warning("%s is damaged and passed over: %s", self._path / name, error)
            return None

    def _save_record(self, name: str, record: RoundRecord) -> None:
        try:
            replace_durably(self._path / name, record.model_dump_json(indent=1).encode())
        except OSError as error:
            raise _cannot_write(self._path / name, error) from None


def _matching(path: Path, sha256: str) -> bytes:
    body = path.read_bytes()
    if body_digest(body) != sha256:
        raise ValueError(f"{path.name} does not match its digest")
    return body


def _cannot_write(path: Path, error: OSError) -> SmrfedError:
    return SmrfedError(
        "SMR-E534",
        f"cannot write {path}",
        found=error,
        remedy="check free space and permissions, then resume: the checkpoint before is intact",
    )
