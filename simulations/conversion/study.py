"""``smrfed-sim conversion``: does an earlier scan help to tell who will convert?

At the landmark, the second scan, everybody has MCI. The outcome is AD at 36 months after the first
scan, from the clinical visits as :mod:`client.archive.progression` reads them. Every arm is
cross-fitted by patient: nobody's risk comes from a model that saw that patient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from client.training.examples import PatientExamples
from client.training.site_model import SiteModel
from client.training.token_cache import TokenCache
from shared_model.atlas.select import load_atlas
from shared_model.metrics.bootstrap import draw_counts, percentile_interval
from shared_model.metrics.ranking import auc_over
from shared_model.metrics.survival import kaplan_meier, log_rank
from shared_model.plan import FederationPlan
from shared_model.registry import default_groups
from shared_model.smrnet.longitudinal import PairTokens, VisitPair
from shared_model.smrnet.tokens import Tokens
from simulations.baselines.region_volumes import SIGNATURE
from simulations.conversion.visits import Followed, follow, memory_clinic
from simulations.few_labels.cross_disease import predicted, train
from simulations.few_labels.measures import Estimate
from simulations.few_labels.people import study_plan

Floats = npt.NDArray[np.float64]
Arm = Literal[
    "age and sex", "volumes, first visit", "volumes, latest visit", "volumes, latest and change",
    "SMR-Net, latest scan", "SMR-Net, latest scan and change",
]  # fmt: skip
FOLDS = 5


class Risk(BaseModel):
    """What an arm's risk is worth: AUC, and the two halves of predicted risk."""

    model_config = ConfigDict(frozen=True)

    arm: Arm
    auc: Estimate
    high_risk_free_at_24_months: float
    low_risk_free_at_24_months: float
    log_rank_p: float


class Curve(BaseModel):
    """Kaplan-Meier of one half of the predicted risk, from the landmark on."""

    model_config = ConfigDict(frozen=True)

    group: Literal["high", "low"]
    people: int
    months: tuple[float, ...]
    free: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


class Conversion(BaseModel):
    """The recorded study."""

    model_config = ConfigDict(frozen=True)

    seed: int
    patients: int
    progressive: int
    stable: int
    unknown: int
    risks: tuple[Risk, ...]
    change_minus_latest_volumes: Estimate
    change_minus_latest_smrnet: Estimate
    curve_of: Arm
    curves: tuple[Curve, ...]


def run_conversion(
    folder: Path, patients: int, seed: int, workers: int, progress: Callable[[str], None]
) -> Conversion:
    """All arms on one memory clinic; scans are kept in ``folder``."""
    progress(f"{patients} patients, two scans each")
    everybody = follow(memory_clinic(patients, seed), folder, workers)
    known = [one for one in everybody if one.progression.label != "uMCI"]
    converts = np.asarray([one.progression.label == "pMCI" for one in known])
    progress("risks")
    risk: dict[Arm, Floats] = {}
    plan = longitudinal_plan(seed)
    names = load_atlas(plan.atlas, plan.input.grid).names
    for arm, features in volume_features(known, names).items():
        risk[arm] = cross_fitted(features, converts, seed)
    risk |= _network_risks(plan, known, converts, folder / "tokens", seed)
    months = np.asarray([one.months for one in known])
    event = np.asarray([one.event for one in known])
    best: Arm = "volumes, latest and change"
    counts = draw_counts(converts.astype(np.int64), seed=seed)

    def gap(ours: Arm, theirs: Arm) -> Estimate:
        def of(rows: Floats) -> Floats:
            found = auc_over(converts, risk[ours], rows) - auc_over(converts, risk[theirs], rows)
            return np.asarray(found, dtype=np.float64)

        return _interval(of, counts)

    return Conversion(
        seed=seed,
        patients=len(everybody),
        progressive=int(converts.sum()),
        stable=int((~converts).sum()),
        unknown=len(everybody) - len(known),
        risks=tuple(_risk(arm, risk[arm], converts, months, event, counts) for arm in risk),
        change_minus_latest_volumes=gap("volumes, latest and change", "volumes, latest visit"),
        change_minus_latest_smrnet=gap("SMR-Net, latest scan and change", "SMR-Net, latest scan"),
        curve_of=best,
        curves=tuple(_curve(group, rows, months, event) for group, rows in _halves(risk[best])),
    )


def longitudinal_plan(seed: int) -> FederationPlan:
    """Stable or progressive from pairs of scans: ``smrnet-longitudinal`` by configuration alone."""
    data = study_plan(("sMCI", "pMCI"), seed).model_dump(mode="json")
    data["model"]["name"] = "smrnet-longitudinal"
    groups = default_groups("smrnet-longitudinal", "residual", "frozen")
    return FederationPlan.parse(data | {"groups": groups.model_dump(mode="json")})


def volume_features(known: Sequence[Followed], names: tuple[str, ...]) -> dict[Arm, Floats]:
    """Features ``(N, F)`` of the arms without a network; none looks beyond the landmark."""
    chosen = [i for i, name in enumerate(names) if name.startswith(SIGNATURE)]
    first, latest = (np.stack([one.volumes[i, chosen] for one in known]) for i in range(2))
    years = np.asarray([one.years for one in known])[:, None]
    person = np.asarray(
        [(one.subject.visits[1].age, float(one.subject.sex == "M")) for one in known]
    )
    return {
        "age and sex": person,
        "volumes, first visit": np.hstack([person, first]),
        "volumes, latest visit": np.hstack([person, latest]),
        "volumes, latest and change": np.hstack([person, latest, (latest - first) / years]),
    }


def cross_fitted(features: Floats, converts: npt.NDArray[np.bool_], seed: int) -> Floats:
    """``(N,)`` risks by L2 logistic regression, each from a model that did not see the patient."""
    out = np.zeros(len(converts))
    for train_rows, test_rows in folds(converts, seed):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=5000))
        model.fit(features[train_rows], converts[train_rows])
        out[test_rows] = model.predict_proba(features[test_rows])[:, 1]
    return out


def folds(
    converts: npt.NDArray[np.bool_], seed: int
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Training and test rows; converters are spread over the folds."""
    rng = np.random.default_rng([seed, 7])
    order = np.concatenate([rng.permutation(np.flatnonzero(converts == c)) for c in (True, False)])
    fold = np.empty(len(converts), dtype=np.int64)
    fold[order] = np.arange(len(order)) % FOLDS
    for each in range(FOLDS):
        yield np.flatnonzero(fold != each), np.flatnonzero(fold == each)


def _network_risks(
    plan: FederationPlan,
    known: Sequence[Followed],
    converts: npt.NDArray[np.bool_],
    cache: Path,
    seed: int,
) -> dict[Arm, Floats]:
    model = SiteModel.build(plan, load_atlas(plan.atlas, plan.input.grid))
    pairs = pair_examples(model, known, cache)
    alone = [PatientExamples(one.id, _without_change(one.inputs), one.labels) for one in pairs]
    initial = model.shared_arrays()
    out: dict[Arm, Floats] = {}
    arms: tuple[tuple[Arm, list[PatientExamples]], ...] = (
        ("SMR-Net, latest scan", alone),
        ("SMR-Net, latest scan and change", pairs),
    )
    for arm, examples in arms:
        risk = np.zeros(len(known))
        for train_rows, test_rows in folds(converts, seed):
            shared = train(model, initial, [examples[row] for row in train_rows])
            risk[test_rows] = predicted(model, shared, [examples[row] for row in test_rows])[:, 1]
        out[arm] = risk
    return out


def pair_examples(
    model: SiteModel, known: Sequence[Followed], cache: Path
) -> list[PatientExamples]:
    """One example per patient: the landmark's scan with the scan before it."""
    kept = TokenCache(cache, model)
    out = []
    for one in known:
        before, now = (torch.from_numpy(scan)[None, None] for scan in one.scans)
        pair = VisitPair(now, before, torch.tensor([one.years], dtype=torch.float32))
        label = torch.tensor([int(one.progression.label == "pMCI")])
        out.append(PatientExamples(one.subject.participant, kept.tokens(pair), label))
    return out


def _without_change(inputs: object) -> PairTokens:
    assert isinstance(inputs, PairTokens)
    zero = Tokens(torch.zeros_like(inputs.region_change), torch.zeros_like(inputs.slice_change))
    return PairTokens(inputs.regions, inputs.slices, zero.regions, zero.slices)


def _halves(risk: Floats) -> tuple[tuple[Literal["high", "low"], npt.NDArray[np.bool_]], ...]:
    high = risk > np.median(risk)
    return ("high", high), ("low", ~high)


def _risk(
    arm: Arm,
    risk: Floats,
    converts: npt.NDArray[np.bool_],
    months: Floats,
    event: npt.NDArray[np.bool_],
    counts: Floats,
) -> Risk:
    (_, high), (_, low) = _halves(risk)
    return Risk(
        arm=arm,
        auc=_interval(lambda rows: np.asarray(auc_over(converts, risk, rows)), counts),
        high_risk_free_at_24_months=kaplan_meier(months[high], event[high]).at(24),
        low_risk_free_at_24_months=kaplan_meier(months[low], event[low]).at(24),
        log_rank_p=log_rank(months, event, high)[1],
    )


def _curve(
    group: Literal["high", "low"],
    rows: npt.NDArray[np.bool_],
    months: Floats,
    event: npt.NDArray[np.bool_],
) -> Curve:
    found = kaplan_meier(months[rows], event[rows])
    return Curve(
        group=group,
        people=int(rows.sum()),
        months=tuple(found.time.round(2).tolist()),
        free=tuple(found.survival.round(4).tolist()),
        low=tuple(found.low.round(4).tolist()),
        high=tuple(found.high.round(4).tolist()),
    )


def _interval(figure: Callable[[Floats], Floats], counts: Floats) -> Estimate:
    value = float(figure(np.ones((1, counts.shape[1])))[0])
    found = percentile_interval(value, figure(counts))
    return Estimate(value=value, low=found.low, high=found.high)
