"""How an arm does on scans that were made worse, against the same patients' scans as they are."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from shared_model.errors import SmrfedError
from shared_model.evaluation.beyond import CorruptionFigures
from shared_model.evaluation.estimate import Estimate
from shared_model.evaluation.figures import as_estimate
from shared_model.evaluation.results import SEEN, UNSEEN
from shared_model.evaluation.side_tables import CorruptedTable
from shared_model.evaluation.table import Floats, Ints, PredictionTable, other_classes
from shared_model.metrics.arrays import everybody
from shared_model.metrics.bootstrap import draw_counts, percentile_interval
from shared_model.metrics.classification import confusion_over, rates
from shared_model.metrics.scores import log_losses
from shared_model.metrics.subgroups import MINIMUM

_NOTHING = Estimate(value=None)


def corruption_figures(
    arms: Mapping[str, PredictionTable],
    corrupted: Mapping[str, CorruptedTable],
    draws: int,
    seed: int,
    confidence: float,
    *,
    open_data: bool,
) -> tuple[CorruptionFigures, ...]:
    """Balanced accuracy and log-likelihood by kind and severity, with paired changes.

    Unless the data are open, nothing is told where a class has fewer than 20 patients. Raises
    SMR-E614 for other classes, SMR-E629 for patients or arms that have no prediction on the scan as
    it is.
    """
    out: list[CorruptionFigures] = []
    for key, worse in corrupted.items():
        table = arms.get(key)
        if table is None:
            raise _unknown(f"the arm {key!r}", ", ".join(arms))
        if worse.labels != table.labels:
            raise other_classes(table.labels, worse.labels)
        place = {patient: row for row, patient in enumerate(table.patient)}
        strangers = [patient for patient in worse.patient if patient not in place]
        if strangers:
            raise _unknown(f"the patient {strangers[0]!r}", f"the {len(place)} patients of {key}")
        rows = np.array([place[patient] for patient in worse.patient], dtype=np.int64)
        for where, seen in ((SEEN, True), (UNSEEN, False)):
            for kind in dict.fromkeys(worse.kind):
                of_kind = np.array([name == kind for name in worse.kind]) & (
                    table.seen[rows] == seen
                )
                if of_kind.any():
                    told = _Kind(table, worse, rows, of_kind, draws, seed, confidence)
                    out += told.figures(key, where, kind, open_data=open_data)
    return tuple(out)


class _Kind:
    """One kind of corruption in one group of patients, clean and at every severity."""

    def __init__(
        self,
        table: PredictionTable,
        worse: CorruptedTable,
        rows: Ints,
        of_kind: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
        draws: int,
        seed: int,
        confidence: float,
    ) -> None:
        self._confidence = confidence
        self._severities = sorted(set(worse.severity[of_kind].tolist()))
        chosen = [np.flatnonzero(of_kind & (worse.severity == s)) for s in self._severities]
        people = [{int(rows[i]) for i in own} for own in chosen]
        if any(one != people[0] for one in people):
            raise _unknown("a severity with other patients", "the same patients at every severity")
        order = np.array(sorted(people[0]), dtype=np.int64)
        self.y: Ints = table.label[order]
        site = [table.site[i] for i in order]
        drawn = draw_counts(self.y, site, draws=draws, seed=seed)
        self._counts: Floats = np.concatenate([everybody(len(order)), drawn])
        self._p: list[Floats] = [table.probability[order]]
        for own in chosen:
            by_row = {int(rows[i]): i for i in own}
            self._p.append(worse.probability[[by_row[int(row)] for row in order]])

    def figures(
        self, arm: str, where: str, kind: str, *, open_data: bool
    ) -> list[CorruptionFigures]:
        """Severity 0 first."""
        classes = self._p[0].shape[1]
        small = int(np.bincount(self.y, minlength=classes).min()) < MINIMUM and not open_data
        accuracy = [
            rates(confusion_over(self.y, p, self._counts)).balanced_accuracy for p in self._p
        ]
        loss = [
            (self._counts @ log_losses(self.y, p)) / self._counts.sum(1) for p in self._p
        ]  # fmt: skip
        return [
            CorruptionFigures(
                arm=arm,
                where=where,
                kind=kind,
                severity=severity,
                patients=None if small else len(self.y),
                suppressed=small,
                balanced_accuracy=_NOTHING if small else self._estimate(accuracy[i]),
                change=_NOTHING if small or not i else self._estimate(accuracy[i] - accuracy[0]),
                negative_log_likelihood=_NOTHING if small else self._estimate(loss[i]),
            )
            for i, severity in enumerate((0, *self._severities))
        ]

    def _estimate(self, values: Floats) -> Estimate:
        return as_estimate(percentile_interval(float(values[0]), values[1:], self._confidence))


def _unknown(what: str, expected: str) -> SmrfedError:
    return SmrfedError(
        "SMR-E629",
        "what was measured beside the predictions does not belong to them",
        expected=expected,
        found=what,
        remedy="give the files that one command wrote, and name each like its arm",
    )
