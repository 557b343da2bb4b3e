"""From a tree of DICOM files to a private BIDS dataset: what is taken, and what is not."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from client.agent.durable import write_durably
from client.archive.problems import Defect, Exclusion, Problem, Problems
from client.intake.bids_writer import cannot_write, files_of, write_dataset
from client.intake.clinical_table import ClinicalRows, read_clinical_table
from client.intake.conversions import Conversions
from client.intake.convert import CONVERTER_VERSION, converter
from client.intake.options import IntakeOptions
from client.intake.place import alone, check_places
from client.intake.pseudonym import keyed_symbols, pseudonym
from client.intake.read_tree import Counts, read_tree
from client.intake.report import IntakeReport
from client.intake.series import Collection, candidate_files
from client.intake.studies import Job, Outcome, Studies, refusals, session_report, subject_records
from client.intake.t1w_ranking import Rank
from shared_model.errors import SmrfedError

#: Called with what is done, and how many of how many: "reading headers", "converting".
Progress = Callable[[str, int, int], None]
_INTAKE_VERSION = 2
_log = logging.getLogger(__name__)


def take_in(
    source: Path,
    target: Path,
    options: IntakeOptions,
    key: bytes,
    progress: Progress | None = None,
) -> IntakeReport:
    """Take the T1w image of every study below ``source`` into the BIDS dataset ``target``.

    Nothing that identifies a patient is written: no name, identifier, date, or free text of a
    header, and no path of ``source``. Beside ``target`` lie the converted series, so that an
    unchanged one is not converted again, and the report; when no file has changed since, it is
    returned at once.

    Args:
        source: folder of DICOM files, in any order and mixed with others; only read.
        target: below ``state_dir``; made, or replaced by a newer one in a single step.
        options: ``[dicom]`` of site.toml.
        key: of :func:`client.intake.pseudonym.load_pseudonym_key`.
        progress: called now and then.

    Raises:
        SmrfedError: SMR-E261 without dcm2niix, E262 for an unusable clinical table, E263 when
            there is no DICOM file, E264 when ``target`` cannot be written, E265 while another
            intake runs. Defects of single files, series and patients are in the report.
    """
    converter()
    source, target = source.resolve(), target.resolve()
    check_places(source, target)
    with alone(target):
        return _Intake(source, target, options, key, progress or (lambda *_: None)).run()


class _Intake:
    def __init__(
        self, source: Path, target: Path, options: IntakeOptions, key: bytes, progress: Progress
    ) -> None:
        self._source = source
        self._target = target
        self._options = options
        self._key = key
        self._progress = progress
        self._problems = Problems()
        self._warnings: list[str] = []
        store = target.with_name(f"{target.name}.converted")
        self._conversions = Conversions(store, key, options.timeout_s)
        self._report_path = target.with_name(f"{target.name}.report.json")

    def run(self) -> IntakeReport:
        rows = self._clinical_rows()
        unreadable: list[Path] = []
        files = list(candidate_files(self._source, unreadable))
        fingerprint = self._fingerprint(files)
        before = self._unchanged(fingerprint)
        if before is not None:
            _log.info("intake: nothing has changed, %d scans are kept", before.images)
            return before
        collection = Collection(self._name)
        counts = read_tree(
            files,
            collection,
            self._options.workers,
            lambda done, total: self._progress("reading headers", done, total),
        )
        if not counts.dicom:
            raise SmrfedError(
                "SMR-E263",
                f"there is no DICOM file below {self._source}",
                expected="DICOM files in any folders, with or without extensions; not in archives",
                found=f"{counts.other + counts.damaged + counts.unreadable} other files",
                remedy="set archive in site.toml to the folder of the DICOM files; unpack archives",
            )
        self._note_files(counts, collection, len(unreadable))
        studies = Studies(self._options, rows, self._problems)
        people = sorted(collection.people.items())
        jobs = [job for name, person in people for job in studies.jobs(name, person)]
        done = self._convert(jobs)
        report = self._report(done, counts, collection, rows)
        try:
            outputs = write_dataset(
                self._target, subject_records(done, collection.people, rows), rows.columns
            )
            self._conversions.keep_only([d.kept.nifti for d in done if d.kept is not None])
            written = {
                "fingerprint": fingerprint,
                "outputs": outputs,
                "report": report.to_json(),
            }
            write_durably(self._report_path, json.dumps(written).encode())
        except OSError as error:
            raise cannot_write(self._target, error) from None
        _log.info(
            "intake: %d scans of %d patients, %d exclusions",
            report.images, len({s.subject for s in report.sessions if s.image}),
            len(report.exclusions),
        )  # fmt: skip
        return report

    def _name(self, patient_id: str, issuer: str) -> str:
        return pseudonym(self._key, patient_id, issuer if self._options.use_issuer else "")

    def _clinical_rows(self) -> ClinicalRows:
        table = self._options.clinical_table
        if table is None:
            self._warnings.append("no clinical table is configured: nobody has a diagnosis")
            return ClinicalRows()
        return read_clinical_table(table, self._name, self._options.use_issuer)

    def _fingerprint(self, files: Sequence[tuple[Path, os.stat_result]]) -> str:
        """Keyed hash of everything that decides the dataset: no path can be read from it."""
        digest = hmac.new(self._key, digestmod=hashlib.sha256)
        try:
            tool = version("dcm2niix")
        except PackageNotFoundError:
            tool = ""
        table = self._options.clinical_table
        content = b"" if table is None else table.path.read_bytes()
        options = self._options.model_dump_json(exclude={"workers"})
        head = ["smrfed intake", _INTAKE_VERSION, CONVERTER_VERSION, tool, options]
        digest.update(json.dumps([*head, hashlib.sha256(content).hexdigest()]).encode())
        for path, state in files:
            line = f"\n{path.relative_to(self._source)}\0{state.st_size}\0{state.st_mtime_ns}"
            digest.update(line.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def _unchanged(self, fingerprint: str) -> IntakeReport | None:
        """The last report, if it was made from the same files and its dataset is still there."""
        try:
            kept = json.loads(self._report_path.read_text("utf-8"))
            outputs = {name: tuple(state) for name, state in kept["outputs"].items()}
            if kept["fingerprint"] != fingerprint or files_of(self._target) != outputs:
                return None
            report = IntakeReport.from_json(kept["report"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return replace(report, converted=0, kept=report.images)

    def _note_files(self, counts: Counts, collection: Collection, unlisted: int) -> None:
        if unlisted:
            self._problems.add(Problem.UNREADABLE_FOLDER, f"{unlisted} files or folders")
        if counts.unreadable:
            self._problems.add(Problem.DAMAGED_DICOM, f"{counts.unreadable} files cannot be opened")
        if counts.damaged:
            self._problems.add(Problem.DAMAGED_DICOM, f"{counts.damaged} files, by their headers")
        if collection.without_id:
            self._problems.add(Problem.NO_PATIENT_ID, f"{collection.without_id} files")

    def _convert(self, jobs: Sequence[Job]) -> list[Outcome]:
        self._conversions.open()
        done = []
        with ThreadPoolExecutor(self._options.workers) as pool:
            for number, result in enumerate(pool.map(self._take, jobs), start=1):
                done.append(result)
                self._progress("converting", number, len(jobs))
        return done

    def _take(self, job: Job) -> Outcome:
        """The best series that can be converted."""
        failures = []
        for judgement in job.judged:
            if judgement.rank is Rank.REFUSED or judgement.stack is None:
                break
            serial = judgement.series.device_serial
            device = keyed_symbols(self._key, "device", serial, 12) if serial else None
            try:
                kept = self._conversions.get(judgement.stack, device)
            except Defect as defect:
                failures.append(f"series {judgement.series.number}: {defect.case}")
                continue
            return Outcome(job, judgement, kept, tuple(failures))
        return Outcome(job, None, None, tuple(failures))

    def _report(
        self, done: Sequence[Outcome], counts: Counts, collection: Collection, rows: ClinicalRows
    ) -> IntakeReport:
        for result in done:
            self._note_job(result)
        bad = [Exclusion(row.kind, row.case, row.name) for row in rows.bad]
        without = set(rows.visits) - set(collection.people)
        if without:
            self._warnings.append(
                f"{len(without)} patients of the clinical table have no DICOM files"
            )
        converted = sum(result.kept is not None and result.kept.new for result in done)
        images = sum(result.kept is not None for result in done)
        return IntakeReport(
            dicom_files=counts.dicom,
            other_files=counts.other,
            sessions=tuple(session_report(result) for result in done),
            exclusions=(*bad, *self._problems.exclusions),
            warnings=(*self._warnings, *rows.warnings),
            converted=converted,
            kept=images - converted,
            rows_without_images=len(without),
        )

    def _note_job(self, done: Outcome) -> None:
        subject, session = done.job.subject, done.job.session
        for failure in done.failures:
            self._problems.add(Problem.NOT_CONVERTED, failure, subject=subject, session=session)
        if done.taken is not None or done.failures:
            return
        incomplete = [one for one in done.job.judged if one.incomplete]
        kind = Problem.INCOMPLETE_SERIES if incomplete else Problem.NO_T1W_SERIES
        self._problems.add(
            kind, refusals(incomplete or done.job.judged), subject=subject, session=session
        )
