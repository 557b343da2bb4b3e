"""``smrfed-sim label-curve``: what each way to use unlabelled or public scans is worth.

Five arms at 10, 25, 50 and 100 % of the labels, on the same test patients:

- ``scratch``: the whole network learns from the labelled scans alone;
- ``public``: tokens of the packaged public encoder, the reasoner from its seed (what a plan does);
- ``masked``: the same, the reasoner started by masked-token prediction on public scans;
- ``pseudo``: ``public``, then trained again with the unlabelled patients that it is sure about;
- ``volumes``: logistic regression on true region volumes, age and sex.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from client.training.site_model import SiteModel
from server.plan_drafting.initial import class_parameters
from shared_model.atlas.select import load_atlas
from simulations.arms.arm import Arrays
from simulations.baselines.region_volumes import SIGNATURE
from simulations.cohort.design import public_cohort
from simulations.cohort.diseases import EFFECTS, disease_cohort
from simulations.few_labels.cross_disease import SIZES, predicted, train
from simulations.few_labels.masked_tokens import MaskedOptions, joined, pretrain_reasoner
from simulations.few_labels.measures import Estimate, balanced_estimate, difference
from simulations.few_labels.people import People, labelled, load_people, study_model, study_plan
from simulations.few_labels.scratch import ScratchOptions, coarse, guesses, train_from_scratch
from simulations.few_labels.self_training import pseudo_labels

Arm = Literal["scratch", "public", "masked", "pseudo", "volumes"]
#: Arm and what it is compared with, on the same test patients.
PAIRS: tuple[tuple[Arm, Arm], ...] = (
    ("public", "scratch"),
    ("masked", "public"),
    ("pseudo", "public"),
    ("public", "volumes"),
)
ARMS: tuple[Arm, ...] = ("scratch", "public", "masked", "pseudo", "volumes")
SHARES = (0.10, 0.25, 0.50, 1.0)
DRAWS = 3
PUBLIC_PEOPLE, PUBLIC_SEED = 48, 3
CONFIDENCE = 0.8

Ints = npt.NDArray[np.int64]


class Point(BaseModel):
    """One arm at one share of the labels."""

    model_config = ConfigDict(frozen=True)

    arm: Arm
    share: float
    labels: int
    draws: int
    balanced_accuracy: Estimate


class Difference(BaseModel):
    """One arm minus another at one share, paired over test patients."""

    model_config = ConfigDict(frozen=True)

    arm: Arm
    reference: Arm
    share: float
    difference: Estimate


class LabelCurve(BaseModel):
    """The recorded study."""

    model_config = ConfigDict(frozen=True)

    seed: int
    test_patients: int
    public_people: int
    confidence: float
    points: tuple[Point, ...]
    differences: tuple[Difference, ...]
    pseudo_labelled: dict[str, float]
    pseudo_precision: dict[str, float]


def run_label_curve(
    folder: Path, seed: int, workers: int, progress: Callable[[str], None]
) -> LabelCurve:
    """All arms at all shares; people are kept in ``folder``."""
    disease = "ad"
    model = study_model(study_plan(EFFECTS[disease].diagnoses, seed))
    count, first = SIZES[disease]
    progress(f"{count} patients and {PUBLIC_PEOPLE} public people")
    spec = disease_cohort(disease, count, seed)
    people = load_people(spec, folder / disease, model, workers)
    unlabelled = public_cohort(PUBLIC_PEOPLE, PUBLIC_SEED)
    public = load_people(unlabelled, folder / "public", model, workers)
    initial = model.shared_arrays()
    progress("masked tokens")
    started = masked_start(model, initial, public, seed)
    found: dict[tuple[Arm, float], list[Ints]] = {}
    sure: dict[float, list[int]] = {}
    right: dict[float, list[float]] = {}
    regions = load_atlas(model.plan.atlas, model.plan.input.grid).names
    features = _volume_features(people, regions)
    coarse_scans = [coarse(scan) for scan in people.scans]
    for share in SHARES:
        for draw in range(1 if share == 1 else DRAWS):
            progress(f"{share:.0%} of the labels, draw {draw + 1}")
            rng = np.random.default_rng([seed, round(100 * share), draw])
            rows = labelled(people.label[:first], round(share * first), rng)
            few, test = people.rows(rows), people.examples[first:]
            rest = people.rows(np.setdiff1d(np.arange(first), rows))

            def note(arm: Arm, guess: Ints, at: float = share) -> None:
                found.setdefault((arm, at), []).append(guess)

            own = train(model, initial, few)
            note("public", predicted(model, own, test).argmax(1))
            if rest:
                model.load_shared(own)
                pseudo = pseudo_labels(model, rest, CONFIDENCE)
                sure.setdefault(share, []).append(len(pseudo.examples))
                right.setdefault(share, []).append(pseudo.precision)
                own = train(model, initial, [*few, *pseudo.examples])
            note("pseudo", predicted(model, own, test).argmax(1))
            note("masked", predicted(model, train(model, started, few), test).argmax(1))
            fitted = make_pipeline(
                StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=5000)
            ).fit(features[rows], people.label[rows])
            note("volumes", fitted.predict(features[first:]).astype(np.int64))
            if draw == 0:
                network = train_from_scratch(
                    torch.stack([coarse_scans[int(row)] for row in rows]),
                    people.label[rows],
                    len(model.plan.task.labels),
                    ScratchOptions(seed=seed),
                )
                note("scratch", guesses(network, coarse_scans[first:]))
    label = people.label[first:]
    return LabelCurve(
        seed=seed,
        test_patients=len(label),
        public_people=len(public),
        confidence=CONFIDENCE,
        points=tuple(
            Point(
                arm=arm,
                share=share,
                labels=round(share * first),
                draws=len(rows),
                balanced_accuracy=balanced_estimate(rows, label),
            )
            for (arm, share), rows in sorted(
                found.items(), key=lambda item: (ARMS.index(item[0][0]), item[0][1])
            )
        ),
        differences=tuple(
            Difference(
                arm=arm,
                reference=reference,
                share=share,
                difference=difference(found[arm, share], found[reference, share], label),
            )
            for share in SHARES
            for arm, reference in PAIRS
        ),
        pseudo_labelled={f"{share:g}": float(np.mean(counts)) for share, counts in sure.items()},
        pseudo_precision={f"{share:g}": float(np.nanmean(p)) for share, p in right.items()},
    )


def masked_start(model: SiteModel, initial: Arrays, public: People, seed: int) -> Arrays:
    """Shared parameters after masked-token prediction on public people; the head as it was."""
    tokens = joined([example.inputs for example in public.examples])
    person = public.person - public.person.mean(0)
    person = person / np.where(person.std(0) > 0, person.std(0), 1)
    model.load_shared(dict(initial))
    pretrain_reasoner(
        model,
        class_parameters(model.plan),
        tokens,
        torch.from_numpy(person.astype(np.float32)),
        MaskedOptions(seed=seed),
    )
    return model.shared_arrays()


def _volume_features(people: People, regions: tuple[str, ...]) -> npt.NDArray[np.float64]:
    chosen = [i for i, name in enumerate(regions) if name.startswith(SIGNATURE)]
    return np.concatenate([people.person, people.volumes[:, chosen]], axis=1)
