"""From patients and their studies to the scans that are wanted, and what became of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from client.archive.problems import Problem, Problems
from client.intake.bids_writer import SessionRecord, SubjectRecord, age_text, image_name
from client.intake.clinical_table import ClinicalRows, Visit, visit_of
from client.intake.conversions import Kept
from client.intake.course import follow_ups, months_after
from client.intake.options import IntakeOptions
from client.intake.report import SeriesReport, SessionReport
from client.intake.series import Person, Study, age_at, in_time
from client.intake.t1w_ranking import Judgement, rank_series

#: Years; below, birthdays and rounding explain it.
_DIFFERENT_AGE = 2


@dataclass(frozen=True)
class Job:
    """A study whose T1w image is wanted, and what else is known of it."""

    subject: str
    session: str
    study: Study
    age: float | None
    visit: Visit | None
    judged: tuple[Judgement, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """A job, the series that was taken and its conversion (None: none could), and failures."""

    job: Job
    taken: Judgement | None
    kept: Kept | None
    failures: tuple[str, ...]


class Studies:
    """Decides what is wanted of each patient; what is not is noted in ``problems``."""

    def __init__(self, options: IntakeOptions, rows: ClinicalRows, problems: Problems) -> None:
        self._options = options
        self._rows = rows
        self._problems = problems

    def jobs(self, subject: str, person: Person) -> Iterator[Job]:
        """The studies of one patient whose T1w image is wanted, in the order of time."""
        if len(person.birth_dates) > 1:
            case = f"{len(person.birth_dates)} dates of birth in {len(person.studies)} studies"
            self._problems.add(Problem.SEVERAL_PEOPLE, case, subject=subject)
            return
        if self._options.clinical_table is not None and not self._rows.visits.get(subject):
            # A row that cannot be used has been told already.
            if not any(bad.name == subject for bad in self._rows.bad):
                self._problems.add(Problem.NO_CLINICAL_ROW, "no row at all", subject=subject)
            return
        studies, dated = in_time(person)
        warnings: tuple[str, ...] = ()
        if not dated and len(studies) > 1:
            warnings = ("without valid dates: sessions are in the order of series numbers",)
        number = 0
        for study in studies:
            judged = rank_series(list(study.series.values()), self._options)
            if not any(one.series.tags.modality == "MR" for one in judged):
                self._problems.add(Problem.NO_T1W_SERIES, refusals(judged), subject=subject)
                continue
            number += 1
            job = Job(subject, f"ses-{number:02d}", study, None, None, judged, warnings)
            known = self._with_visit(job, person)
            if known is not None:
                yield known

    def _with_visit(self, job: Job, person: Person) -> Job | None:
        """The job with age and row of the clinical table; None where the scan has no row."""
        table = self._options.clinical_table
        age: float | None = age_at(job.study, person)
        if table is None:
            return replace(job, age=age)
        rows = self._rows.visits[job.subject]
        visit = visit_of(rows, job.study.date, self._rows.dated, table.visit_window_days)
        if visit is None:
            case = f"no row within {table.visit_window_days} days of the scan"
            if job.study.date is None:
                case = "the scan has no valid date, and the patient several rows"
            self._problems.add(
                Problem.NO_CLINICAL_ROW, case, subject=job.subject, session=job.session
            )
            return None
        warnings = list(job.warnings)
        # Without dates a row is about one visit, and nobody knows about which of several.
        of_this_visit = self._rows.dated or len(person.studies) == 1
        if visit.age is not None and (of_this_visit or age is None):
            if age is not None and abs(visit.age - age) > _DIFFERENT_AGE:
                warnings.append("the clinical table and the header differ in age by over two years")
            age = visit.age
        if visit.sex and person.sexes and visit.sex not in person.sexes:
            warnings.append("the clinical table and the header differ in sex")
        return replace(job, age=age, visit=visit, warnings=tuple(warnings))


def session_report(done: Outcome) -> SessionReport:
    """What a person reads about one study."""
    job = done.job
    warnings = list(job.warnings)
    if done.taken is not None and done.kept is not None:
        warnings += [*done.taken.warnings, *done.kept.warnings]
        passed_over = [one for one in job.judged if one.incomplete]
        warnings += [f"series {one.series.number} was passed over: {one.reasons[0]}"
                     for one in passed_over]  # fmt: skip
    if job.study.date is None:
        warnings.append("no valid date")
    return SessionReport(
        subject=job.subject,
        session=job.session,
        image=image_name(job.subject, job.session) if done.kept is not None else None,
        age=age_text(job.age),
        series=tuple(
            SeriesReport(
                number=one.series.number,
                files=len(one.series.files),
                chosen=one is done.taken,
                rank=one.rank.name.lower(),
                score=one.score,
                reasons=(*one.reasons, *one.warnings),
            )
            for one in job.judged
        ),
        warnings=tuple(warnings),
    )


def refusals(judged: Sequence[Judgement]) -> str:
    """How many series were refused for what."""
    counts = Counter(reason for one in judged for reason in one.reasons[:1])
    return "; ".join(
        reason if count == 1 else f"{count} x {reason}" for reason, count in counts.most_common()
    )


def subject_records(
    done: Sequence[Outcome], people: Mapping[str, Person], rows: ClinicalRows
) -> list[SubjectRecord]:
    """What is written about every patient with a scan, and about later visits without one."""
    written: dict[str, list[Outcome]] = {}
    for result in done:
        if result.kept is not None:
            written.setdefault(result.job.subject, []).append(result)
    return [_subject(name, own, people[name], rows) for name, own in written.items()]


def _subject(
    name: str, own: Sequence[Outcome], person: Person, rows: ClinicalRows
) -> SubjectRecord:
    days = [_day(result.job) for result in own]
    sessions = tuple(
        _session(result, months_after(days[0], day)) for result, day in zip(own, days, strict=True)
    )
    visits = [result.job.visit for result in own if result.job.visit is not None]
    told = next((visit.sex for visit in visits if visit.sex), None)
    header = next(iter(person.sexes)) if len(person.sexes) == 1 else None
    return SubjectRecord(
        name,
        told or header,
        sessions,
        follow_ups(rows.visits.get(name, ()), days[0], {visit.line for visit in visits}),
        undated=bool(visits) and not rows.dated,
    )


def _day(job: Job) -> date | None:
    """Day of a scan: of the study, else of the only row that can be its visit."""
    if job.study.date is not None or job.visit is None:
        return job.study.date
    return job.visit.day


def _session(result: Outcome, months: int | None) -> SessionRecord:
    assert result.kept is not None
    visit = result.job.visit
    return SessionRecord(
        session=result.job.session,
        nifti=result.kept.nifti,
        sidecar=result.kept.sidecar,
        age=result.job.age,
        diagnosis="" if visit is None else visit.diagnosis,
        numbers={} if visit is None else dict(visit.numbers),
        months=months,
    )
