"""A hospital's native archive: prepared, judged, written down, and handed to training."""

from __future__ import annotations

from dataclasses import dataclass

from client.agent.state import StateFolder
from client.archive.bids import ArchiveSurvey, survey_bids_archive
from client.archive.problems import Exclusion
from client.config import SiteConfig
from client.prepared.assessment import AssessedScan, Assessment, assess
from client.prepared.derivatives import write_derivatives
from client.prepared.native_run import Progress, prepare_missing
from client.prepared.native_scan import NativeRecipe
from client.prepared.native_store import no_room
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

    def recipe(self) -> NativeRecipe:
        """What the plan asks for."""
        return NativeRecipe(self.input, self.atlas, self.config.state_dir)

    def prepare(self, workers: int, progress: Progress, provenance: dict[str, str]) -> Assessment:
        """Prepare what is missing, judge everything, and write derivatives, tables and page.

        Raises what makes the whole archive unusable (SMR-E203 to E222), and SMR-E241.
        """
        survey = self._survey()
        recipe = self.recipe()
        paths = [scan.path for patient in survey.patients for scan in patient.scans]
        prepare_missing(recipe, paths, workers, progress)
        assessment = self._assess(recipe, survey)
        whole = Assessment(assessment.scans, (*survey.exclusions, *assessment.exclusions))
        self._write(recipe, whole, provenance)
        return whole

    def forget_failures(self) -> None:
        """Let the next :meth:`prepare` try scans again that failed before."""
        store = self.recipe().store
        for patient in self._survey().patients:
            for scan in patient.scans:
                store.forget_failure(store.files.sha256(scan.path))

    def assessment(self) -> Assessment:
        """What was prepared, as of now. Raises SMR-E286 when something is missing."""
        survey = self._survey()
        return self._assess(self.recipe(), survey)

    def _survey(self) -> ArchiveSurvey:
        return survey_bids_archive(self.config.dataset, self.config.label_mapping, self.labels)

    def _write(
        self, recipe: NativeRecipe, assessment: Assessment, provenance: dict[str, str]
    ) -> None:
        folder = StateFolder(self.config.state_dir).derivatives
        use = self.input.quality
        page = SitePage(
            site=self.config.name,
            scans=tuple(_page_scan(scan, recipe) for scan in assessment.scans),
            excluded=tuple(map(_page_exclusion, assessment.exclusions)),
            use=use,
            provenance={**provenance, "recipe": recipe.store.digest[:12], **_versions(recipe)},
        )
        try:
            write_derivatives(folder, assessment.scans, recipe.store, self.input.grid)
            write_tables(folder, assessment.scans, assessment.exclusions, use)
            write_page(folder / "quality.html", page)
        except OSError as error:
            raise no_room(folder, error) from None

    def _assess(self, recipe: NativeRecipe, survey: ArchiveSurvey) -> Assessment:
        decisions = Overrides(self.config.state_dir).latest()
        return assess(recipe.store, survey.patients, decisions, QualityLimits())


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
