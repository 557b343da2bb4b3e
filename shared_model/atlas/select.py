"""From the plan's atlas section to the atlas itself, on the model grid, or a refusal."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from shared_model.atlas.atlas import Atlas
from shared_model.atlas.bids import load_dseg
from shared_model.atlas.seeded import seeded_atlas, seeded_recipe
from shared_model.errors import SmrfedError
from shared_model.grid import ModelGrid
from shared_model.plan import AtlasSection

DEFAULT_ATLAS = "smrfed-seeded"
FOLDER_VARIABLE = "SMRFED_ATLASES"


def load_atlas(section: AtlasSection, grid: ModelGrid) -> Atlas:
    """The plan's atlas, checked against the plan's digest and resampled to ``grid``.

    The default atlas is built from what is installed; any other is read from
    ``$SMRFED_ATLASES/NAME_dseg.nii.gz`` and ``NAME_dseg.tsv``. The digest is that of the atlas
    before it is resampled, so a plan keeps it at every spacing. Raises SMR-E621 (another digest),
    SMR-E627 (not found) and what the loader raises.
    """
    return atlas_of(section).resampled(grid)


def atlas_of(section: AtlasSection) -> Atlas:
    """The plan's atlas as it is, whose digest plans and public references name; as above."""
    if section.name == DEFAULT_ATLAS:
        atlas = seeded_atlas()
    else:
        atlas = load_dseg(*_files(section.name), section.name)
    atlas.require(section.sha256)
    return atlas


def atlas_source(section: AtlasSection) -> str:
    """Digest of what the plan's atlas is read or grown from: another one, another atlas.

    Unlike ``Atlas.sha256`` it needs no voxel. Raises SMR-E627 (not found).
    """
    if section.name == DEFAULT_ATLAS:
        return seeded_recipe()
    digest = hashlib.sha256()
    for path in _files(section.name):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _files(name: str) -> tuple[Path, Path]:
    folder = os.environ.get(FOLDER_VARIABLE, "")
    image = Path(folder) / f"{name}_dseg.nii.gz"
    table = Path(folder) / f"{name}_dseg.tsv"
    if not folder or Path(name).name != name or not image.exists() or not table.exists():
        raise SmrfedError(
            "SMR-E627",
            f"the plan's atlas {name!r} is not installed here",
            expected=f"{image.name} and {table.name} in the folder that {FOLDER_VARIABLE} names",
            found=f"{FOLDER_VARIABLE} = {folder!r}",
            remedy="get both files from the coordinator; the plan's digest says if they are right",
        )
    return image, table
