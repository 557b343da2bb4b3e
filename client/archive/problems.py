"""What can be wrong with an archive: one number each, all cases of a kind reported together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from shared_model.errors import SmrfedError

_SHOWN = 5


class Problem(Enum):
    """A kind of problem: error number, what it is, what was expected, and the remedy."""

    UNREADABLE_TABLE = (
        "SMR-E204",
        "a table of the archive cannot be read",
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
        "age in years above 0 and at most 120, sex M, F or O, a finite month, an ISO 8601 date, "
        "progression pMCI, sMCI or uMCI, n/a where unknown",
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
    NO_PARTICIPANTS = (
        "SMR-E222",
        "the archive has no participants.tsv",
        "participants.tsv beside dataset_description.json: participant_id, age, sex, diagnosis",
        "write the table, or set archive in site.toml to the folder that has it",
    )
    UNREADABLE_FOLDER = (
        "SMR-E223",
        "a folder of the archive cannot be listed",
        "folders that the account of smrfed may read",
        "correct the folder's permissions, or restore it",
    )
    WRONG_MODALITY = (
        "SMR-E224",
        "an image named T1w is something else",
        "a T1-weighted MR image",
        "rename the image after what it is, or correct its JSON file",
    )
    STEP_FAILED = (
        "SMR-E246",
        "a step of the preparation failed on a scan in a way that was not foreseen",
        "a scan that every step can read",
        "look at the scan in a viewer, and at agent.log; report it if the scan is sound",
    )
    PROCESS_DIED = (
        "SMR-E247",
        "the process that prepared a scan died",
        "3 GiB of free memory per process",
        "free memory or use --workers 1, then run smrfed-site prepare --again",
    )
    LABEL_IMAGE = (
        "SMR-E248",
        "an image named T1w holds labels, not greys",
        "a T1-weighted MR image, not a segmentation or a mask",
        "put the scan itself in its place; segmentations belong into derivatives",
    )
    NOT_IN_MNI = (
        "SMR-E240",
        "an image does not show a brain where MNI152 has one",
        "a skull-stripped T1w image, linearly aligned to MNI152, of at least 500 ml",
        "align the image to MNI152 first; see docs/archive.md",
    )
    NO_BRAIN = (
        "SMR-E243",
        "no brain was found in a scan, or one of an impossible volume",
        "a T1w image of a whole head, with 500 to 2400 ml of brain",
        "look at the image: a phantom, another body part or a cut-off head cannot be used",
    )
    NOT_REGISTERED = (
        "SMR-E244",
        "a scan could not be registered to MNI152",
        "a brain that overlaps the template's and correlates with it, as the plan demands",
        "look at the scan and at its orientation in a viewer; correct the header or leave it out",
    )
    TOO_COARSE = (
        "SMR-E245",
        "a scan is too coarse, or shows too little of the head",
        "voxels of at most 4 mm, and a field of view of at least 100 mm, along every axis",
        "take the 3-D T1w series of the examination; leave localizers and slabs out",
    )
    NO_T1W_SERIES = (
        "SMR-E250",
        "a study has no series that can be its T1w image",
        "a T1-weighted MR series of the whole head, slices at most [dicom] thickest_slice_mm apart",
        "look at the reasons per series in the intake report; see docs/intake.md for the rule",
    )
    NOT_CONVERTED = (
        "SMR-E251",
        "a DICOM series could not be converted",
        "one 3-D volume from dcm2niix, with as many planes as the series has",
        "open the series in a viewer; export it again from the archive system (PACS)",
    )
    NO_PATIENT_ID = (
        "SMR-E252",
        "there are DICOM files without a PatientID",
        "a PatientID in every header: it joins visits and the clinical table",
        "export them with their identifier, or take them out of the folder",
    )
    SEVERAL_PEOPLE = (
        "SMR-E253",
        "one PatientID stands for several people",
        "one date of birth per PatientID",
        "give each person an identifier of their own, or set use_issuer = true under [dicom] when "
        "several hospitals number their patients",
    )
    DAMAGED_DICOM = (
        "SMR-E254",
        "DICOM files cannot be read",
        "whole DICOM files with a readable header",
        "export them again from the archive system (PACS), or take them out of the folder",
    )
    INCOMPLETE_SERIES = (
        "SMR-E255",
        "slices of a T1w series are missing",
        "every slice of the series, at equal distances, in whole files",
        "export the series again from the archive system (PACS)",
    )
    NO_CLINICAL_ROW = (
        "SMR-E256",
        "a patient or visit with images has no row in the clinical table",
        "a row with the PatientID, and within visit_window_days of the scan where dates are given",
        "add the row, or correct patient_id, visit_date and date_formats under [dicom]",
    )
    BAD_CLINICAL_ROW = (
        "SMR-E257",
        "a row of the clinical table cannot be used",
        "an identifier, values that are possible, and one row per patient or visit",
        "correct the line in the table; see docs/intake.md",
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

    def __reduce__(self) -> tuple[object, ...]:
        """A defect may come from another process."""
        return Defect, (self.kind, self.case)

    def error(self) -> SmrfedError:
        """The case as a person sees it."""
        return problem(self.kind, [self.case])


@dataclass(frozen=True)
class Exclusion:
    """One scan, row or subject that takes no part, and why.

    Attributes:
        kind: what is wrong.
        case: the file and the value, as in the error's ``found``.
        subject: ``sub-XX``; empty where the case belongs to nobody.
        session: ``ses-YY``, or empty.
        path: the image or table, where it is one.
    """

    kind: Problem
    case: str
    subject: str = ""
    session: str = ""
    path: Path | None = None

    @property
    def code(self) -> str:
        """The error number."""
        return self.kind.code

    @property
    def reason(self) -> str:
        """What is wrong, without the file's name in front."""
        what: str = self.kind.value[1]
        rest = self.case if self.path is None else self.case.removeprefix(str(self.path))
        rest = rest.removeprefix(": ").strip()
        return f"{what}: {rest}" if rest else what


class Problems:
    """Collects cases, so that a person sees everything that is wrong in one go."""

    def __init__(self) -> None:
        self._found: list[Exclusion] = []

    @property
    def exclusions(self) -> tuple[Exclusion, ...]:
        """All cases so far, in the order they were found."""
        return tuple(self._found)

    def add(
        self,
        kind: Problem,
        case: str,
        *,
        subject: str = "",
        session: str = "",
        path: Path | None = None,
    ) -> None:
        """Note one case, and whom it is about."""
        self._found.append(Exclusion(kind, case, subject, session, path))

    @contextmanager
    def noting(
        self, *, subject: str = "", session: str = "", path: Path | None = None
    ) -> Iterator[None]:
        """Note the defect that ends the block, if any."""
        try:
            yield
        except Defect as defect:
            self.add(defect.kind, defect.case, subject=subject, session=session, path=path)

    def about(self, subject: str) -> bool:
        """Whether anything was noted about a subject."""
        return any(exclusion.subject == subject for exclusion in self._found)

    def raise_any(self) -> None:
        """Raise the kind that was seen first, naming the numbers of the others, if there is any."""
        if not self._found:
            return
        # A case that several files share, such as copies of one image, is told once.
        cases: dict[Problem, dict[str, None]] = {}
        for exclusion in self._found:
            cases.setdefault(exclusion.kind, {})[exclusion.case] = None
        (kind, first), *others = cases.items()
        error = problem(kind, first)
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
