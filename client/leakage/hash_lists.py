"""Lists of image digests: what weights were pretrained on, and what cohorts elsewhere hold.

``python -m client.leakage.hash_lists FOLDER > cohort.hashes.txt`` writes the list of a folder of
NIfTI images.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from client.leakage.cohorts import Cohort
from shared_model.errors import SmrfedError
from shared_model.public_weights import find_public_weights

#: Beside weights ``NAME.safetensors`` lies ``NAME.hashes.txt``.
SUFFIX = ".hashes.txt"
_LINE = re.compile(r"([0-9a-fA-F]{64})(?:\s.*)?")


def read_hashes(path: Path) -> frozenset[str]:
    """SHA-256 digests, one at the start of each line; what follows it, and ``#`` lines, is ignored.

    So a list from ``sha256sum *.nii.gz`` is one. Raises SMR-E236 for a file that cannot be read or
    holds anything else.
    """
    found = set()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, str(error)) from None
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = _LINE.fullmatch(text)
        if match is None:
            raise _unreadable(path, f"line {number}: {text[:40]!r}")
        found.add(match[1].lower())
    return frozenset(found)


def external_cohorts(paths: Iterable[Path]) -> list[Cohort]:
    """A cohort for each list, named after its file. Raises SMR-E236."""
    return [
        Cohort(path.name.removesuffix(SUFFIX), frozenset(), read_hashes(path)) for path in paths
    ]


def pretraining_cohort(weights_sha256: str, folders: tuple[Path, ...] = ()) -> Cohort | None:
    """The images that public weights were trained on, as the list beside them says.

    None where there is no list: then nothing is known, which is not the same as an empty list.
    Raises SMR-E105 (weights missing) and SMR-E236.
    """
    weights = find_public_weights(weights_sha256, folders)
    listed = weights.with_name(weights.stem + SUFFIX)
    if not listed.exists():
        return None
    return Cohort(f"pretraining data of {weights.stem}", frozenset(), read_hashes(listed))


def hash_images(folder: Path) -> Iterator[tuple[str, str]]:
    """Digest of file and of voxels of every NIfTI image below ``folder``, in order of path.

    Raises SMR-E212 to E215 for an image that cannot be read.
    """
    from client.archive.content import file_sha256
    from client.archive.nifti import read_volume
    from client.archive.problems import Defect
    from client.prepared.resample import voxels_sha256

    for path in sorted([*folder.rglob("*.nii"), *folder.rglob("*.nii.gz")]):
        try:
            image = read_volume(path)
            yield file_sha256(path), voxels_sha256(image.voxels, image.affine)
        except Defect as defect:
            raise defect.error() from None


def _unreadable(path: Path, found: str) -> SmrfedError:
    return SmrfedError(
        "SMR-E236",
        f"{path} is not a list of image digests",
        expected="UTF-8 text with 64 hexadecimal digits at the start of each line",
        found=found,
        remedy="make it with python -m client.leakage.hash_lists FOLDER, or with sha256sum",
    )


def main() -> None:
    """Write the list of a folder to standard output; no path is written."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m client.leakage.hash_lists FOLDER")
    sys.stdout.write("# SHA-256 of the file and of its voxels in RAS+, for each image\n")
    for digests in hash_images(Path(sys.argv[1])):
        sys.stdout.write("\n".join(digests) + "\n")


if __name__ == "__main__":
    try:
        main()
    except SmrfedError as error:
        sys.exit(str(error))
