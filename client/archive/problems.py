"""What can be wrong with an archive: one number each, all cases of a kind reported together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import Enum

from shared_model.errors import SmrfedError

_SHOWN = 5


class Problem(Enum):
    """A kind of problem: error number, what it is, what was expected, and the remedy."""

    UNREADABLE_TABLE = (
        "SMR-E204",
        "a table of the archive is missing or cannot be read",
        "tab-separated UTF-8 text with a header line and as many cells in every row",
        "restore or correct the table; see docs/archive.md",
    )
    MISSING_COLUMN = (
        "SMR-E205",
        "a table of the archive lacks a column",
        "participant_id, session_id; a diagnosis in participants.tsv or the sessions table",
        "add the column, or name the one to use under [columns] in site.toml",
    )
    UNKNOWN_LABEL = (
        "SMR-E206",
        "the archive holds diagnoses that [labels] does not name",
        None,
        "add the value to a label under [labels] in site.toml, or to exclude there",
    )
    DUPLICATE_ROW = (
        "SMR-E207",
        "a person or a session stands in a table more than once",
        "one row per subject in participants.tsv, one per session in a sessions table",
        "keep one row; visits of one person belong into sub-XX_sessions.tsv",
    )
    NO_IMAGE = (
        "SMR-E208",
        "people in participants.tsv have no T1w image",
        "sub-XX[/ses-YY]/anat/*_T1w.nii.gz for everybody",
        'add the images, remove the rows, or set missing_images = "skip" in site.toml',
    )
    NO_ROW = (
        "SMR-E209",
        "there are images of people or sessions that no table names",
        "a row in participants.tsv, and in sub-XX_sessions.tsv where there is one",
        "add the missing rows, or move the images out of the archive",
    )
    BAD_VALUE = (
        "SMR-E210",
        "a table of the archive holds an impossible value",
        "age in years above 0 and at most 120, sex M, F or O, n/a where unknown",
        "correct the value, or write n/a",
    )
    OUTSIDE = (
        "SMR-E211",
        "the archive points out of its own folder",
        "files and links that stay below the archive's folder",
        "copy the files into the archive, or set archive in site.toml to the folder above",
    )
    UNREADABLE_IMAGE = (
        "SMR-E212",
        "an image cannot be read",
        "a whole NIfTI file of real numbers",
        "restore the file (datalad or git-annex: get it first), or take it out of the archive",
    )
    NOT_3D = (
        "SMR-E213",
        "an image is not one 3-D volume",
        "three dimensions, more than one voxel along each",
        "export the T1w image as a single volume, or take it out of the archive",
    )
    BAD_AFFINE = (
        "SMR-E214",
        "an image does not say where it lies in space",
        "an sform or qform with an invertible, finite matrix",
        "convert the image again from its DICOM series (dcm2niix writes both)",
    )
    BAD_VOXELS = (
        "SMR-E215",
        "an image holds voxels that are not finite, or only one value",
        "finite voxels with contrast",
        "look at the image in a viewer; convert it again or take it out of the archive",
    )
    DUPLICATE_IMAGE = (
        "SMR-E218",
        "the same image is filed under different people",
        "every image under one subject: a copy could be trained on and tested on",
        "find out whose image it is, and take the copy out of the archive",
    )
    MISFILED = (
        "SMR-E220",
        "an image's name does not belong to the folder it lies in",
        "sub-XX[_ses-YY]_..._T1w.nii.gz below sub-XX[/ses-YY]/anat",
        "find out whose image it is, and move or rename it",
    )
    NOT_IN_MNI = (
        "SMR-E240",
        "an image does not show a brain where MNI152 has one",
        "a skull-stripped T1w image, linearly aligned to MNI152, of at least 500 ml",
        "align the image to MNI152 first; see docs/archive.md",
    )

    @property
    def code(self) -> str:
        """The error number."""
        code: str = self.value[0]
        return code


def problem(kind: Problem, cases: Iterable[str]) -> SmrfedError:
    """One error for all cases of a kind: their number, and the first five."""
    found = list(cases)
    code, what, expected, remedy = kind.value
    shown = "; ".join(found[:_SHOWN])
    if len(found) > _SHOWN:
        shown = f"{len(found)} cases, among them {shown}"
    return SmrfedError(code, what, expected=expected, found=shown, remedy=remedy)


class Defect(Exception):  # noqa: N818 - a finding, not yet the error that a person sees
    """One case of a problem, before it is decided whether others are looked for."""

    def __init__(self, kind: Problem, case: str) -> None:
        self.kind = kind
        self.case = case
        super().__init__(case)

    def error(self) -> SmrfedError:
        """The case as a person sees it."""
        return problem(self.kind, [self.case])


class Problems:
    """Collects cases, so that a person sees everything that is wrong in one go."""

    def __init__(self) -> None:
        self._cases: dict[Problem, list[str]] = {}

    def add(self, kind: Problem, case: str) -> None:
        """Note one case."""
        self._cases.setdefault(kind, []).append(case)

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Note the defect that ends the block, if any."""
        try:
            yield
        except Defect as defect:
            self.add(defect.kind, defect.case)

    def raise_any(self) -> None:
        """Raise the kind that was seen first, naming the numbers of the others, if there is any."""
        if not self._cases:
            return
        (kind, cases), *others = self._cases.items()
        error = problem(kind, cases)
        if others:
            also = ", ".join(f"{other.code} ({len(c)})" for other, c in others)
            error = SmrfedError(
                error.code,
                f"{error.what} (also found: {also})",
                expected=error.expected,
                found=error.found,
                remedy=error.remedy,
            )
        raise error
