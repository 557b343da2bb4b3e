"""The heads through the product's own steps, with what is kept of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

from client.archive.nifti import read_volume
from client.prepared.native_recipe import NativeRecipe
from client.prepared.native_scan import prepare_native_scan
from client.prepared.record import ScanRecord
from client.preprocessing.chain import Chain
from client.preprocessing.checkpoints import Checkpoints
from client.preprocessing.image import Image, Mask, Step, Volume, Work
from client.quality.fingerprint import Fingerprint
from client.quality.scan_measures import ScanMeasures
from simulations.benchmarks.quality_calibration.heads import HeadFile


@dataclass(frozen=True, eq=False)
class OnGrid:
    """What is compared of a head once its scan is not needed any more.

    Attributes:
        volume: ``(D, H, W)`` greys on the model grid.
        brain: ``(D, H, W)`` its brain.
    """

    volume: Volume
    brain: Mask

    @classmethod
    def of(cls, work: Work) -> OnGrid:
        """The end of a work that went through all steps."""
        assert work.on_grid is not None
        assert work.brain_on_grid is not None
        return cls(work.on_grid, work.brain_on_grid)


@dataclass(frozen=True)
class PreparedHead:
    """One head that went through all steps.

    Attributes:
        file: where it came from.
        record: what the product keeps of it.
        recipe: what it was prepared by, and where it lies.
    """

    file: HeadFile
    record: ScanRecord
    recipe: NativeRecipe

    @property
    def name(self) -> str:
        """As in tables."""
        return self.file.name

    @property
    def measures(self) -> ScanMeasures:
        """What quality control measured."""
        assert self.record.measures is not None
        return self.record.measures

    @property
    def mosaic(self) -> bytes:
        """The picture of the page."""
        return self.recipe.store.mosaic(self.record.source_sha256) or b""

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """The one that the product keeps."""
        found = self.recipe.store.fingerprint(self.record.source_sha256)
        if found is None:
            raise self.recipe.store.unprepared(self.record.source_sha256)
        return found

    def work(self, *changes: Step) -> Work:
        """The work up to the model grid; ``changes`` come between bias field and registration.

        Kept and found again as the product does: by the scan's bytes and every step.
        """
        steps = list(self.recipe.steps)
        place = next(i for i, step in enumerate(steps) if step.name == "registration")
        steps[place:place] = changes
        checkpoints = Checkpoints(self.recipe.state_dir / "prepared" / "steps")
        chain = Chain(steps, checkpoints, frozenset({"bias_field", "registration"}))
        raw = read_volume(self.file.path)
        return chain.run(Image(raw.voxels, raw.affine), raw.file_sha256)


@dataclass(frozen=True)
class Refused:
    """A head that the steps refuse, as they should a phantom."""

    name: str
    code: str
    case: str


def prepare_heads(
    files: Iterable[HeadFile], recipe: NativeRecipe, told: Callable[[str], None]
) -> tuple[tuple[PreparedHead, ...], tuple[Refused, ...]]:
    """Prepare what is missing, one after the other, in this process; what is whole is reused."""
    heads, refused = [], []
    store = recipe.store
    for file in files:
        told(f"preparing {file.name}")
        source = store.files.sha256(file.path)
        if not store.is_whole(source):
            prepare_native_scan(recipe, file.path)
        record = store.record(source)
        assert record is not None
        if record.defect is None:
            heads.append(PreparedHead(file, record, recipe))
        else:
            refused.append(Refused(file.name, record.defect.code, record.defect.case))
    store.files.save()
    return tuple(heads), tuple(refused)
