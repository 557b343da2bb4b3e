"""What a classifier can learn from the true volumes: something, not everything, and no artefact."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from simulations.cohort.anatomy import anatomy_volume
from simulations.cohort.design import public_cohort
from simulations.cohort.subject import Subject, draw_subject
from simulations.cohort.template import load_template

# log(V / ICV) of the medial temporal lobes and lateral ventricles
REGIONS = ("hippocampus", "entorhinal_zone", "amygdala", "lateral_ventricle")


def features(subject: Subject) -> np.ndarray:
    _, region_ml, icv_ml = anatomy_volume(subject)
    names = load_template().atlas.names
    chosen = [i for i, name in enumerate(names) if name.startswith(REGIONS)]
    return np.log(region_ml[chosen] / icv_ml)


def accuracy(x: np.ndarray, y: np.ndarray) -> float:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, class_weight="balanced"))
    folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=3, random_state=0)
    return float(cross_val_score(model, x, y, cv=folds, scoring="balanced_accuracy").mean())


@pytest.mark.slow
def test_volumes_tell_the_diagnosis_but_not_perfectly() -> None:
    spec = public_cohort(120, seed=21)
    subjects = [draw_subject(spec, spec.sites[0], i) for i in range(120)]
    load_template()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        x = np.stack(list(pool.map(features, subjects, chunksize=10)))
    y = np.asarray([s.diagnosis for s in subjects])
    # Chance is 1/3; the standard error at n = 120 is about 0.045.
    assert 0.52 < accuracy(x, y) < 0.88
    pair = y != "MCI"
    assert accuracy(x[pair], y[pair]) > 0.8
    shuffled = [accuracy(x, np.random.default_rng(i).permutation(y)) for i in range(5)]
    assert 0.24 < np.mean(shuffled) < 0.43
