"""Figures of one arm: how well it predicts, and whether its mask finds the planted edges."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from client.agent.evaluation import probabilities
from client.training.examples import PatientExamples
from client.training.site_model import SiteModel
from simulations.connectomes.anatomy import Anatomy
from simulations.connectomes.people import Person
from simulations.connectomes.tensors import edge_table

Floats = npt.NDArray[np.float64]
MASK = "network.mask.logits"
_PENALTIES = np.logspace(-5, -1, 5)
_FOLDS = 5


def model_figures(model: SiteModel, test: Sequence[PatientExamples]) -> dict[str, float]:
    """AUROC and balanced accuracy of the model as it stands."""
    label, probability = probabilities(model, test)
    return scores(label, probability[:, 1])


def scores(label: npt.NDArray[np.int64], probability: Floats) -> dict[str, float]:
    """AUROC, and balanced accuracy at one half."""
    return {
        "auroc": float(roc_auc_score(label, probability)),
        "balanced_accuracy": float(balanced_accuracy_score(label, probability > 0.5)),
    }


def mask_figures(model: SiteModel, anatomy: Anatomy) -> dict[str, float]:
    """AUROC of the mask for planted against other edges, per modality."""
    (logits,) = model.parameters([MASK])
    upper = np.triu_indices(len(anatomy.structural), 1)
    found = logits.detach().numpy()
    return {
        f"mask_auroc_{name}": float(roc_auc_score(truth[upper] != 0, row))
        for name, truth, row in zip(
            ("structural", "functional"), anatomy.changed, found, strict=True
        )
    }


def logistic_figures(
    train: Sequence[Person], test: Sequence[Person], anatomy: Anatomy
) -> dict[str, float]:
    """Ridge logistic regression on all edges, standardised by the training people.

    The penalty is chosen by cross-validation on the training people. ``mask_auroc_*`` are those of
    the absolute coefficients.
    """
    table, others = edge_table(train), edge_table(test)
    mean, deviation = np.nanmean(table, 0), np.nanstd(table, 0) + 1e-6
    table, others = (np.nan_to_num((t - mean) / deviation) for t in (table, others))
    fit = LogisticRegressionCV(
        Cs=_PENALTIES,
        cv=_FOLDS,
        scoring="roc_auc",
        max_iter=2000,
        l1_ratios=(0,),
        use_legacy_attributes=False,
    )
    fit.fit(table, [person.label for person in train])
    label = np.array([person.label for person in test])
    out = scores(label, fit.predict_proba(others)[:, 1])
    upper = np.triu_indices(len(anatomy.structural), 1)
    halves = np.split(np.abs(np.ravel(fit.coef_)), 2)
    for name, truth, weights in zip(
        ("structural", "functional"), anatomy.changed, halves, strict=True
    ):
        out[f"mask_auroc_{name}"] = float(roc_auc_score(truth[upper] != 0, weights))
    return out
