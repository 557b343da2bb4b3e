"""Remove what was derived from scans that left the archive, or for plans that nobody accepted."""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from client.agent.durable import sweep, sync_folder
from client.agent.state import StateFolder
from client.agent.state_lock import StateLock
from client.archive.bids import survey_bids_archive
from client.archive.problems import Defect
from client.config import SiteConfig
from client.prepared.file_index import FileIndex
from client.prepared.native_recipe import NativeRecipe
from client.prepared.no_room import no_room
from client.prepared.preparing_lock import nobody_prepares
from client.prepared.store import PreparedStore
from shared_model.plan import AtlasSection, FederationPlan, InputSection
from shared_model.preparation import Preparation

# Names of ours below prepared/, those of files that a kill left half-written among them.
_OURS = re.compile(r"\.?[0-9a-f]{64}\.")


@dataclass(frozen=True)
class Pruned:
    """What was removed: files, and how large they were together."""

    files: int = 0
    bytes: int = 0

    def __add__(self, other: Pruned) -> Pruned:
        return Pruned(self.files + other.files, self.bytes + other.bytes)

    @property
    def megabytes(self) -> float:
        """Size in MB."""
        return round(self.bytes / 1e6, 1)


def prune(config: SiteConfig, plans: Sequence[FederationPlan], *, native: bool) -> Pruned:
    """Remove every derived file that no scan of the archive and no accepted plan refers to.

    Removed are prepared scans, results of steps and what a kill left of them; all cached tokens,
    which cannot tell whose they are and are made again; and, where the archive is not native or not
    DICOM any more, what only such an archive leaves behind. Kept is what an accepted plan (before
    any plan: the default steps) would find again for an image that the archive's tables name.

    To be called after ``prepare``, which brings derivatives, tables and page up to date. What is
    kept is decided before the first file goes, so a kill leaves some of the rest, and the next call
    goes on. When this returns, the removal survives a power failure. Backups, and space on the disk
    that was freed and not yet written again, are the hospital's matter.

    Args:
        config: the site's.
        plans: every accepted one.
        native: whether the last ``prepare`` was for a native archive.

    Raises SMR-E249 while scans are prepared, SMR-E408 while an agent uses the folder (it holds
    patients in memory), what makes the archive unusable (SMR-E203 to E222), SMR-E627 for an atlas
    that is not there, SMR-E241. Nothing was removed then, except with SMR-E241.
    """
    state = StateFolder(config.state_dir)
    lock = StateLock(config.state_dir)
    try:
        with nobody_prepares(config.state_dir):
            kept = _kept(config, plans)
            done = _remove(state.tokens.rglob("*"))
            done += _remove(_not_kept(state.path / "prepared", kept))
            sweep(state.path / "prepared", older_than_s=0)
            if native:
                sweep(state.derivatives, older_than_s=0)
            else:
                done += _remove_tree(state.derivatives)
                index = (state.path / "prepared" / name for name in ("files.json", "between.json"))
                done += _remove(index)
            if config.dicom is None and not _within(config.dataset, state.intake.parent):
                done += _remove_tree(state.intake.parent)
            return done
    except OSError as error:
        raise no_room(config.state_dir, error) from None
    finally:
        lock.release()


def _kept(config: SiteConfig, plans: Sequence[FederationPlan]) -> set[Path]:
    """Where everything lies that a plan would find again."""
    sources = _sources(config)
    kept: set[Path] = set()
    for plan in plans:
        if plan.input.preparation.source == "mni152":
            store = PreparedStore(config.state_dir, plan.input.grid, plan.input.intensity)
            kept.update(path for source in sources for path in store.files_of(source))
        else:
            kept |= _native(NativeRecipe(plan.input, plan.atlas, config.state_dir), sources)
    if not plans:
        section = InputSection(preparation=Preparation(source="native"))
        kept |= _native(NativeRecipe(section, AtlasSection(), config.state_dir), sources)
    return kept


def _native(recipe: NativeRecipe, sources: Iterable[str]) -> set[Path]:
    return {path for source in sources for path in recipe.files_of(source)}


def _sources(config: SiteConfig) -> set[str]:
    """Digests of the images of everybody in the archive, whatever their diagnosis."""
    digest = FileIndex(config.state_dir / "prepared" / "files.json").sha256
    survey = survey_bids_archive(config.dataset, config.label_mapping, (), digest)
    found = set()
    for patient in survey.patients:
        for scan in patient.scans:
            # One that cannot be read now is prepared again when it can.
            with suppress(Defect):
                found.add(digest(scan.path))
    return found


def _not_kept(prepared: Path, kept: Collection[Path]) -> Iterator[Path]:
    for path in sorted(prepared.rglob("*")):
        if path not in kept and _OURS.match(path.name):
            yield path


def _remove_tree(folder: Path) -> Pruned:
    done = _remove(sorted(folder.rglob("*")))
    if folder.is_dir():
        shutil.rmtree(folder)
        sync_folder(folder.parent)
    return done


def _remove(paths: Iterable[Path]) -> Pruned:
    """Remove files, and the folders that this empties; on the disk when it returns."""
    done, folders = Pruned(), set()
    for path in list(paths):
        if path.is_dir() or not (path.is_symlink() or path.exists()):
            continue
        size = path.lstat().st_size
        path.unlink(missing_ok=True)
        folders.add(path.parent)
        done += Pruned(1, size)
    for folder in folders:
        sync_folder(folder)
        with suppress(OSError):
            folder.rmdir()
    return done


def _within(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())
