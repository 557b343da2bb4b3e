"""A hospital's native archive: prepared, judged, written down, and handed to training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

from client.agent.durable import sweep
from client.agent.state import StateFolder
from client.archive.bids import ArchiveSurvey, survey_bids_archive
from client.archive.problems import Defect, Exclusion
from client.config import SiteConfig
from client.prepared.assessment import AssessedScan, Assessment, assess
from client.prepared.derivatives import write_derivatives
from client.prepared.native_recipe import NativeRecipe
from client.prepared.native_run import Progress, prepare_missing
from client.prepared.no_room import no_room
from client.prepared.preparing_lock import preparing
from client.prepared.site_tables import write_tables
from client.quality.limits import QualityLimits
from client.quality.overrides import Overrides
from client.quality.page import write_page
from client.quality.site_page import PageExclusion, PageScan, SitePage
from shared_model.plan import AtlasSection, InputSection


@dataclass(frozen=True, eq=False)
class NativeSite:
    """The archive of one hospital under the plan's recipe.

    Args:
        config: the site's configuration.
        input: the plan's section, with ``preparation.source = "native"``.
        atlas: the plan's section.
        labels: the plan's labels; none before there is a plan, and then no diagnosis is needed.
    """

    config: SiteConfig
    input: InputSection
    atlas: AtlasSection
    labels: tuple[str, ...]

    @cached_property
    def recipe(self) -> NativeRecipe:
        """What the plan asks for, and where it is kept."""
        return NativeRecipe(self.input, self.atlas, self.config.state_dir)

    def prepare(
        self,
        workers: int,
        progress: Progress,
        provenance: dict[str, str],
        *,
        again: bool = False,
        not_taken_in: Sequence[Exclusion] = (),
    ) -> Assessment:
        """Prepare what is missing, judge everything, and write derivatives, tables and page.

        With ``again``, scans that failed before are tried again; ``not_taken_in`` is what the
        intake of DICOM files left out already, to be listed with the rest. Raises what makes the
        whole archive unusable (SMR-E203 to E222), and SMR-E241.
        """
        with preparing(self.config.state_dir):
            for folder in (self.recipe.store.folder, self.derivatives):
                sweep(folder)
            survey = self._survey()
            early = (*not_taken_in, *survey.exclusions)
            left_out = tuple(map(self._without_place, early))
            if again:
                self._forget_failures(survey)
            paths = [scan.path for patient in survey.patients for scan in patient.scans]
            prepare_missing(self.recipe, paths, workers, progress)
            assessment = self._assess(survey)
            late = tuple(map(self._without_place, assessment.exclusions))
            whole = Assessment(assessment.scans, (*left_out, *late))
            self._write(whole, provenance)
            return whole

    def assessment(self) -> Assessment:
        """What was prepared, as of now. Raises SMR-E286 when something is missing."""
        return self._assess(self._survey())

    @property
    def derivatives(self) -> Path:
        """Where derivatives, tables and the page are written."""
        return StateFolder(self.config.state_dir).derivatives

    def _forget_failures(self, survey: ArchiveSurvey) -> None:
        store = self.recipe.store
        for patient in survey.patients:
            for scan in patient.scans:
                try:
                    store.forget_failure(store.files.sha256(scan.path))
                except Defect:
                    # A file that cannot be read has no record either.
                    continue

    def _survey(self) -> ArchiveSurvey:
        digest = self.recipe.store.files.sha256
        return survey_bids_archive(
            self.config.dataset, self.config.label_mapping, self.labels, digest
        )

    def _without_place(self, exclusion: Exclusion) -> Exclusion:
        """The same without where the archive lies: its folders may be named after people."""
        case = exclusion.case
        if exclusion.path is not None:
            case = case.removeprefix(str(exclusion.path)).removeprefix(": ")
        for root in (self.config.dataset, self.config.archive):
            for place in (str(root.resolve()), str(root)):
                case = case.replace(f"{place}/", "").replace(place, "the archive")
        return replace(exclusion, case=case, path=None)

    def _write(self, assessment: Assessment, provenance: dict[str, str]) -> None:
        use, store = self.input.quality, self.recipe.store
        page = SitePage(
            site=self.config.name,
            scans=tuple(_page_scan(scan, self.recipe) for scan in assessment.scans),
            excluded=tuple(map(_page_exclusion, assessment.exclusions)),
            use=use,
            provenance={
                **provenance,
                "smrfed": version("smrfed"),
                "recipe": store.digest[:12],
                **_versions(self.recipe),
            },
        )
        try:
            write_derivatives(self.derivatives, assessment.scans, store, self.input.grid)
            write_tables(self.derivatives, assessment.scans, assessment.exclusions, use)
            write_page(self.derivatives / "quality.html", page)
        except OSError as error:
            raise no_room(self.derivatives, error) from None

    def _assess(self, survey: ArchiveSurvey) -> Assessment:
        decisions = Overrides(self.config.state_dir).latest()
        return assess(self.recipe.store, survey.patients, decisions, QualityLimits())


def _page_scan(scan: AssessedScan, recipe: NativeRecipe) -> PageScan:
    assert scan.record.measures is not None
    return PageScan(
        scan.record.source_sha256,
        scan.patient.id,
        scan.scan.session,
        scan.record.measures,
        scan.verdict,
        recipe.store.mosaic(scan.record.source_sha256),
        scan.override,
    )


def _page_exclusion(exclusion: Exclusion) -> PageExclusion:
    return PageExclusion(
        exclusion.code,
        exclusion.reason,
        exclusion.kind.value[3],
        exclusion.subject,
        exclusion.session,
    )


def _versions(recipe: NativeRecipe) -> dict[str, str]:
    return {f"step {s['name']}": f"version {s['version']}" for s in recipe.identity}
