"""Proper scores of the probabilities: negative log-likelihood and Brier score."""

from __future__ import annotations

import numpy as np

from shared_model.metrics.arrays import SMALLEST_PROBABILITY, Floats, Ints


def log_losses(y: Ints, p: Floats) -> Floats:
    """``(N,)`` of ``-log p(true class)`` in nats; a probability of nought counts as 2.2e-16."""
    return -np.log(np.clip(p[np.arange(len(y)), y], SMALLEST_PROBABILITY, 1.0))


def brier_losses(y: Ints, p: Floats) -> Floats:
    """``(N,)`` squared distances of the probabilities from the one-hot truth, summed over C."""
    squared: Floats = ((p - np.eye(p.shape[1])[y]) ** 2).sum(1)
    return squared


def negative_log_likelihood(y: Ints, p: Floats) -> float:
    """Mean of ``-log p(true class)`` in nats."""
    return float(log_losses(y, p).mean())


def brier_score(y: Ints, p: Floats) -> float:
    """Mean squared distance of the probabilities from the one-hot truth, summed over classes."""
    return float(brier_losses(y, p).mean())
