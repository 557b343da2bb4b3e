"""Atlases on disk: a label image and the ``dseg.tsv`` that BIDS puts beside it."""

from __future__ import annotations

import csv
import gzip
import zlib
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
from nibabel.filebasedimages import ImageFileError

from shared_model.atlas.atlas import Atlas
from shared_model.atlas.cache import write_atomically
from shared_model.atlas.region_graph import region_adjacency
from shared_model.errors import SmrfedError

_MISSING = {"", "n/a"}


def save_dseg(atlas: Atlas, image_path: Path, table_path: Path) -> None:
    """Write ``*_dseg.nii.gz`` (int16, MNI152 sform) and ``*_dseg.tsv``.

    The table's columns are index, name, hemisphere and homolog (the homolog's index); load_dseg
    gives the same atlas back, digest included.
    """
    image = nibabel.Nifti1Image(np.asarray(atlas.labels), atlas.affine)
    image.set_sform(atlas.affine, 4)
    image.set_qform(atlas.affine, 4)
    image.header.set_xyzt_units("mm")
    write_atomically(image_path, gzip.compress(image.to_bytes(), mtime=0))
    lines = ["index\tname\themisphere\thomolog"]
    for node, (name, homolog) in enumerate(zip(atlas.names, atlas.homologs, strict=True)):
        side = "L" if name.endswith("_left") else "R" if name.endswith("_right") else "n/a"
        lines.append(f"{node + 1}\t{name}\t{side}\t{homolog + 1 if homolog >= 0 else 'n/a'}")
    write_atomically(table_path, ("\n".join(lines) + "\n").encode())


def load_dseg(image_path: Path, table_path: Path, name: str) -> Atlas:
    """Read a site's or consortium's atlas and build its graph.

    The node order is the order of the table's indices. The image is reoriented to RAS+. Rows with
    index 0 (background) are left out. Homologs come from a column ``homolog`` (an index, or n/a).

    Args:
        image_path: 3-D integer NIfTI in MNI152 space.
        table_path: ``dseg.tsv`` with at least index and name.
        name: the atlas's name in plans.

    Raises:
        SmrfedError: SMR-E624 for the image, SMR-E625 for the table, SMR-E626 where they disagree.
    """
    rows = _read_table(table_path)
    values, affine = _read_labels(image_path)
    indices = sorted(rows)
    present = {int(v) for v in np.unique(values)} - {0}
    if present != set(indices):
        raise SmrfedError(
            "SMR-E626",
            f"{image_path.name} and {table_path.name} do not name the same regions.",
            found=f"only in the image: {sorted(present - set(indices))[:10]}; "
            f"only in the table: {sorted(set(indices) - present)[:10]}",
            expected="every index of the table in the image, and no other value but 0",
            remedy="Use the table that belongs to this image.",
        )
    node = {index: position for position, index in enumerate(indices)}
    lookup = np.zeros(max(indices) + 1, dtype=np.int16)
    for index, position in node.items():
        lookup[index] = position + 1
    labels = lookup[values]
    homologs = []
    for index in indices:
        mirror = rows[index][1]
        if mirror is not None and (mirror not in rows or rows[mirror][1] != index):
            raise _table_error(
                table_path, f"homolog {mirror} of index {index} does not point back to it"
            )
        homologs.append(-1 if mirror is None else node[mirror])
    adjacency = region_adjacency(labels, affine, tuple(homologs))
    return Atlas(
        name, labels, affine, tuple(rows[i][0] for i in indices), tuple(homologs), adjacency
    )


def _read_table(path: Path) -> dict[int, tuple[str, int | None]]:
    """Per index the name and the homolog's index."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _table_error(path, str(error)) from error
    reader = csv.DictReader(text.splitlines(), delimiter="\t")
    if not {"index", "name"} <= set(reader.fieldnames or ()):
        raise _table_error(path, f"columns {reader.fieldnames}")
    rows: dict[int, tuple[str, int | None]] = {}
    for line, row in enumerate(reader, start=2):
        label, homolog = (row["name"] or "").strip(), (row.get("homolog") or "").strip()
        try:
            index = int(row["index"])
            mirror = None if homolog in _MISSING else int(homolog)
        except (TypeError, ValueError) as error:
            raise _table_error(path, f"line {line}: {error}") from error
        if index == 0:
            continue
        if not 0 < index < 2**31 or not label or index in rows:
            raise _table_error(path, f"line {line}: index {index}, name '{label}'")
        if label in {known for known, _ in rows.values()}:
            raise _table_error(path, f"line {line}: the name '{label}' a second time")
        rows[index] = (label, mirror)
    if not 2 <= len(rows) < 2**15:
        raise _table_error(path, f"{len(rows)} regions")
    return rows


def _read_labels(path: Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    try:
        stored = nibabel.load(str(path))
        image = nibabel.as_closest_canonical(stored)
        values = np.asanyarray(image.dataobj)
    except (OSError, EOFError, ValueError, ImageFileError, zlib.error) as error:
        raise _image_error(path, str(error)) from error
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    if values.ndim != 3:
        raise _image_error(path, f"shape {values.shape}")
    if not np.isfinite(values).all() or (values != np.rint(values)).any() or values.min() < 0:
        raise _image_error(path, f"{values.dtype} values that are not whole and non-negative")
    if values.max() >= 2**20:
        raise _image_error(path, f"a label of {values.max():.0f}")
    if not isinstance(stored, nibabel.Nifti1Pair):
        raise _image_error(path, f"a {type(stored).__name__}")
    codes = [int(stored.header[field]) for field in ("sform_code", "qform_code")]
    if not any(code > 0 for code in codes):
        raise _image_error(path, "neither sform nor qform: its place in MNI space is unknown")
    affine = np.asarray(image.affine, dtype=np.float64)
    if abs(np.linalg.det(affine[:3, :3])) < 1e-6:
        raise _image_error(path, "an affine that is singular")
    return values.astype(np.int64), affine


def _image_error(path: Path, found: str) -> SmrfedError:
    return SmrfedError(
        "SMR-E624",
        f"Cannot use {path} as a label image.",
        found=found,
        expected="a 3-D NIfTI of whole labels from 0, with an affine into MNI152 space",
        remedy="Export the parcellation as an integer *_dseg.nii.gz in MNI152 space.",
    )


def _table_error(path: Path, found: str) -> SmrfedError:
    return SmrfedError(
        "SMR-E625",
        f"Cannot use {path} as a table of regions.",
        found=found,
        expected="tab-separated UTF-8 with columns index (distinct whole numbers) and name "
        "(distinct), optionally hemisphere and homolog (an index that points back, or n/a)",
        remedy="Correct the named line.",
    )
