"""What a plan asks for of native scans: the steps, and everything that decides their result."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from client.prepared.native_store import NativeStore
from client.preprocessing.bias_field import CorrectBiasField
from client.preprocessing.brain_extraction import ExtractBrain
from client.preprocessing.chain import Chain, step_identity
from client.preprocessing.checkpoints import Checkpoints
from client.preprocessing.greys import StandardiseGreys
from client.preprocessing.image import Step
from client.preprocessing.registration import RegisterToMNI
from client.preprocessing.reorient import Reorient
from client.preprocessing.resample_step import Resample
from client.quality.fingerprint import FINGERPRINT_VERSION
from client.quality.scan_measures import MEASURES_VERSION
from shared_model.atlas.atlas import Atlas
from shared_model.atlas.select import atlas_source, load_atlas
from shared_model.grid import ModelGrid
from shared_model.plan import AtlasSection, InputSection

# Steps whose result is kept: half a minute each, and what follows them takes seconds.
_KEPT = frozenset({"bias_field", "registration"})


@dataclass(frozen=True)
class NativeRecipe:
    """What a plan asks for of native scans; sent to every process that prepares some.

    Needs no engine: to know that nothing has to be done costs neither torch nor SimpleITK.

    Attributes:
        input: the plan's section.
        atlas: the plan's atlas, for region volumes.
        state_dir: the site's state folder.
    """

    input: InputSection
    atlas: AtlasSection
    state_dir: Path

    def __reduce__(self) -> tuple[Any, ...]:
        """What was derived from the three fields is derived again where it is needed."""
        return NativeRecipe, (self.input, self.atlas, self.state_dir)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """From the scan to the model grid."""
        preparation, grid = self.input.preparation, self.input.grid
        return (
            Reorient.of(preparation),
            ExtractBrain.of(preparation),
            CorrectBiasField.of(preparation),
            RegisterToMNI.of(preparation),
            Resample.of(preparation, grid),
        )

    @cached_property
    def greys(self) -> StandardiseGreys:
        """The last step, after everything was measured in the scan's own greys."""
        return StandardiseGreys(self.input.intensity, self.input.preparation.brain_extraction.strip)

    @cached_property
    def identity(self) -> tuple[dict[str, Any], ...]:
        """Name, version and parameters of every step."""
        return tuple(step_identity(step) for step in (*self.steps, self.greys))

    @cached_property
    def loaded_atlas(self) -> Atlas:
        """The atlas at 1 mm: volumes are counted in the scan's own voxels, not the model's."""
        return load_atlas(self.atlas, ModelGrid(spacing_mm=1.0))

    @cached_property
    def store(self) -> NativeStore:
        """Where the results are kept."""
        recipe = {
            "steps": self.identity,
            "measures": MEASURES_VERSION,
            "fingerprint": FINGERPRINT_VERSION,
            "atlas": atlas_source(self.atlas),
        }
        return NativeStore(self.state_dir, self.input.grid, recipe)

    def files_of(self, source_sha256: str) -> tuple[Path, ...]:
        """Everything that is kept of a scan under this recipe, whether or not it is there."""
        return (*self.store.files_of(source_sha256), *self.chain.files_of(source_sha256))

    @cached_property
    def chain(self) -> Chain:
        """The steps, with what is kept between them."""
        return Chain(self.steps, Checkpoints(self.state_dir / "prepared" / "steps"), _KEPT)
