"""What layer B is judged by: probe of the site, travelling phantoms, balanced accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from client.agent.embeddings import mean_embeddings
from client.agent.evaluation import probabilities
from client.training.examples import PatientExamples
from client.training.site_model import SiteModel
from shared_model.metrics.phantom import phantom_distance, retest_distance
from shared_model.metrics.site_probe import site_probe
from simulations.battery.aligned_rounds import Aligned
from simulations.battery.seed import BatterySeed

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Measured:
    """One arm of one seed.

    Attributes:
        probe: accuracy of a linear probe of the site on embeddings less their class means (over all
            sites), over all patients; chance 1/K.
        probe_low, probe_high: its 95 % interval.
        within: mean accuracy of a probe within each class, fitted on a third of the patients each:
            it sees what differs between the classes, and has less to learn from.
        phantom: distance of one person between sites over that between people at a site; NaN
            without travellers.
        floor: distance of one person between two scans at the same site over the same; what no
            alignment of sites can remove. NaN without a second scan.
        label, probability: test patients of all hospitals, always in the same order.
    """

    probe: float
    probe_low: float
    probe_high: float
    within: float
    phantom: float
    floor: float
    label: npt.NDArray[np.int64]
    probability: Floats


def measure(
    data: BatterySeed,
    aligned: Aligned,
    sites: Mapping[str, tuple[Sequence[PatientExamples], Sequence[PatientExamples]]],
    *,
    travel: bool = True,
) -> Measured:
    """Measure a model on training and test patients of its sites, and on travellers there.

    ``travel`` is false where the sites are not those that the travellers went to.
    """
    model = data.model
    z, place, y, labels, p = [], [], [], [], []
    phantoms: list[Floats] = []
    again: list[Floats] = []
    for name, (train, test) in sites.items():
        _at(model, aligned, name)
        of_site, embedding = mean_embeddings(model, [*train, *test])
        z.append(embedding)
        y.append(of_site)
        place += [name] * len(of_site)
        truth, probability = probabilities(model, test)
        labels.append(truth)
        p.append(probability)
        for guests, found in ((data.travellers, phantoms), (data.again, again)):
            if travel and name in guests:
                found.append(mean_embeddings(model, guests[name].test)[1])
    model.reset_site()
    embedding, where, diagnosis = np.concatenate(z), np.array(place), np.concatenate(y)
    within = site_probe(embedding, where, diagnosis)
    rest = embedding - np.stack([embedding[diagnosis == c].mean(0) for c in diagnosis])
    probe = site_probe(rest, where, np.zeros(len(rest)))
    people = np.stack(phantoms, axis=1) if phantoms else np.empty((0, 0, 0))
    return Measured(
        probe.accuracy,
        probe.low,
        probe.high,
        within.accuracy,
        phantom_distance(people),
        retest_distance(people, np.stack(again, axis=1)) if again else float("nan"),
        np.concatenate(labels),
        np.concatenate(p),
    )


def over_folds(parts: Sequence[Measured]) -> Measured:
    """The same arm on all folds: means of distances and probes, test patients one after another."""
    names = ("probe", "probe_low", "probe_high", "within", "phantom", "floor")
    means = {name: float(np.mean([getattr(part, name) for part in parts])) for name in names}
    return Measured(
        **means,
        label=np.concatenate([part.label for part in parts]),
        probability=np.concatenate([part.probability for part in parts]),
    )


def _at(model: SiteModel, aligned: Aligned, site: str) -> None:
    model.load_shared(aligned.shared)
    model.load_site(aligned.own[site])
