"""From predictions per patient to one document that holds everything of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from shared_model.errors import SmrfedError
from shared_model.evaluation.attacks import shown_audit
from shared_model.evaluation.beyond import Audit, Recalibration
from shared_model.evaluation.cohort import no_overlap, site_patients
from shared_model.evaluation.comparisons import across_sites, paired_differences, spread
from shared_model.evaluation.corruptions import corruption_figures
from shared_model.evaluation.details import (
    conversion_figures,
    group_curves,
    prevalence_shift,
    subgroup_figures,
)
from shared_model.evaluation.domain import site_probes
from shared_model.evaluation.figures import Scored, group_figures
from shared_model.evaluation.groups import groups_of, same_patients
from shared_model.evaluation.notes import notes_on
from shared_model.evaluation.recalibration import recalibration
from shared_model.evaluation.results import (
    SEEN,
    UNSEEN,
    ArmFigures,
    EvaluationDocument,
    OddsGap,
    PrevalenceShift,
    Privacy,
    Provenance,
    Scope,
    Subgroup,
)
from shared_model.evaluation.side_tables import CorruptedTable, Embeddings
from shared_model.evaluation.table import PredictionTable
from shared_model.metrics.bootstrap import DRAWS

CONFIDENCE = 0.95
#: Called with how many of how many groups are done.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Beside:
    """What was measured beside the predictions, by arm; every part may be missing."""

    embeddings: Mapping[str, Embeddings] = field(default_factory=dict)
    corrupted: Mapping[str, CorruptedTable] = field(default_factory=dict)
    audit: Audit | None = None


def evaluate(
    arms: Mapping[str, PredictionTable],
    *,
    draws: int = DRAWS,
    seed: int = 0,
    headline: str | None = None,
    alone: str | None = None,
    titles: Mapping[str, str] | None = None,
    trained_on: Collection[str] | None = None,
    prevalences: Mapping[str, Sequence[float]] | None = None,
    provenance: Provenance | None = None,
    privacy: Privacy | None = None,
    title: str = "Evaluation",
    scope: Scope = "open",
    beside: Beside | None = None,
    progress: Progress | None = None,
) -> EvaluationDocument:
    """Everything of science.md 2.3 that predictions, and what was measured beside them, can tell.

    Args:
        arms: a table per arm, the headline among them; see :func:`same_patients`.
        draws: bootstrap draws of patients, inside each site and class; the same for all arms.
        seed: of the draws.
        headline: the arm that the document is about; default: the first.
        alone: the arm where every hospital trained by itself; default: ``alone`` if given.
        titles: of arms, by key.
        trained_on: identifiers of all training patients of any arm; none: not checked.
        prevalences: name to shares of the classes; default: equal shares, and nine of ten healthy.
        provenance, privacy: as the maker of the tables states them.
        title: of the document.
        scope: ``stays`` for real patients of a hospital.
        beside: embeddings, predictions on corrupted scans, an audit.
        progress: called after each group of patients of each arm.

    Raises:
        SmrfedError: SMR-E610 and E614 (tables), SMR-E615 (trained on and tested on), SMR-E616 (an
            arm that is not there, or a prevalence that is none), SMR-E629 (what was measured beside
            the predictions does not belong to them).
    """
    tables = same_patients(arms)
    labels = next(iter(tables.values())).labels
    headline = headline if headline is not None else next(iter(tables))
    alone = alone if alone is not None else "alone" if "alone" in tables else None
    if alone == headline:
        alone = None
    _known(tables, {"headline": headline, "alone": alone})
    shares = _prevalences(prevalences, labels)
    overlap = no_overlap(tables.values(), trained_on)
    provenance = provenance or Provenance()
    open_data = provenance.synthetic is True
    beside = beside or Beside()
    robustness = corruption_figures(
        tables, beside.corrupted, draws, seed, CONFIDENCE, open_data=open_data
    )
    groups = {key: groups_of(table) for key, table in tables.items()}
    total, done = sum(map(len, groups.values())), 0
    scored: dict[str, dict[str, Scored]] = {}
    for key, own in groups.items():
        scored[key] = {}
        for where, table in own.items():
            scored[key][where] = Scored.of(table, draws, seed)
            done += 1
            if progress is not None:
                progress(done, total)
    differences = paired_differences(headline, scored, CONFIDENCE)
    sums = [where for where in (SEEN, UNSEEN) if where in groups[headline]]
    subgroups: list[Subgroup] = []
    gaps: list[OddsGap] = []
    shifts: list[PrevalenceShift] = []
    recalibrated: list[Recalibration] = []
    for where in sums:
        table = groups[headline][where]
        some, between = subgroup_figures(table, where, draws, seed, CONFIDENCE, open_data=open_data)
        subgroups += some
        gaps += between
        shifts += prevalence_shift(scored[headline][where], where, shares, CONFIDENCE)
        recalibrated.append(recalibration(table, scored[headline][where], where, seed, CONFIDENCE))
    document = EvaluationDocument(
        title=title,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        scope=scope,
        labels=labels,
        headline=headline,
        alone=alone,
        seed=seed,
        draws=draws,
        confidence=CONFIDENCE,
        provenance=provenance,
        privacy=privacy,
        overlap=overlap,
        patients=site_patients(tables.values(), trained_on),
        arms=tuple(
            ArmFigures(
                key=key,
                title=(titles or {}).get(key, key),
                groups={
                    where: group_figures(one, labels, CONFIDENCE)
                    for where, one in scored[key].items()
                },
                spread=spread(scored[key], {SEEN: table.seen_sites, UNSEEN: table.unseen_sites}),
                conversion={
                    where: found
                    for where in (SEEN, UNSEEN)
                    if where in groups[key]
                    and (found := conversion_figures(groups[key][where], draws, seed, CONFIDENCE))
                },
            )
            for key, table in tables.items()
        ),
        curves=tuple(
            group_curves(scored[headline][where], where, labels, CONFIDENCE, open_data=open_data)
            for where in sums
        ),
        differences=differences,
        across_sites=across_sites(differences),
        subgroups=tuple(subgroups),
        odds_gaps=tuple(gaps),
        prevalence=tuple(shifts),
        recalibration=tuple(recalibrated),
        site_probes=site_probes(beside.embeddings, labels, draws, seed, open_data=open_data),
        robustness=robustness,
        audit=shown_audit(beside.audit),
        notes=(),
    )
    return document.model_copy(update={"notes": notes_on(document)})


def _known(tables: Mapping[str, PredictionTable], named: Mapping[str, str | None]) -> None:
    for role, key in named.items():
        if key is not None and key not in tables:
            raise SmrfedError(
                "SMR-E616",
                f"the arm named as {role} has no table",
                expected=", ".join(tables),
                found=key,
                remedy=f"give its table, or name another arm with --{role}",
            )


def _prevalences(
    given: Mapping[str, Sequence[float]] | None, labels: tuple[str, ...]
) -> dict[str, tuple[float, ...]]:
    c = len(labels)
    if given is None:
        return {
            "equal shares": (1 / c,) * c,
            f"nine of ten {labels[0]}": (0.9, *(0.1 / (c - 1),) * (c - 1)),
        }
    for name, shares in given.items():
        values = np.asarray(shares, dtype=np.float64)
        if values.shape != (c,) or (values < 0).any() or abs(values.sum() - 1) > 1e-6:
            raise SmrfedError(
                "SMR-E616",
                f"the prevalence {name!r} is none",
                expected=f"{c} shares that sum to one, for {', '.join(labels)}",
                found=", ".join(f"{v:g}" for v in shares),
                remedy="write NAME=0.8,0.15,0.05 with one share per class",
            )
    return {name: tuple(float(s) for s in shares) for name, shares in given.items()}
