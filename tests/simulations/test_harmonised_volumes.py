"""ComBat before the volume baseline: it takes out a known site effect, and needs no test label."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shared_model.errors import SmrfedError
from shared_model.metrics import balanced_accuracy
from simulations.baselines.harmonised_volumes import HarmonisedVolumes
from simulations.baselines.region_volumes import RegionVolumes
from simulations.baselines.subject_table import SubjectTable

REGIONS = tuple(f"region-{i}" for i in range(6))
ALL = RegionVolumes(signature=())


def table(n: int, seed: int, sites: dict[str, float], mixed: bool = False) -> SubjectTable:
    """Volumes that shrink with disease; a site's factor is on all of its volumes.

    Unless ``mixed``, AD is common where the factor is small: the site tells the diagnosis.
    """
    rng = np.random.default_rng(seed)
    names, labels, volumes = [], [], []
    for number, (site, factor) in enumerate(sites.items()):
        shares = (1 / 3,) * 3 if mixed else ((0.6, 0.3, 0.1), (0.1, 0.3, 0.6))[number % 2]
        y = rng.choice(3, n, p=shares)
        names += [site] * n
        labels.append(y)
        volumes.append(factor * np.exp(-0.15 * y[:, None] + rng.normal(0, 0.2, (n, 6))))
    count = len(names)
    return SubjectTable(
        classes=("CN", "MCI", "AD"),
        regions=REGIONS,
        ids=tuple(f"{seed}-{i}" for i in range(count)),
        site=tuple(names),
        label=np.concatenate(labels).astype(np.int64),
        age=rng.normal(73, 7, count),
        sex=tuple("FM"[i % 2] for i in range(count)),
        volumes_ml=np.concatenate(volumes),
        icv_ml=np.full(count, 1000.0),
    )


SITES = {"a": 1.0, "b": 2.0, "c": 0.6, "d": 1.5}


def scored(baseline: RegionVolumes | HarmonisedVolumes, test: SubjectTable) -> float:
    train = table(150, 0, SITES)
    return balanced_accuracy(test.label, baseline.fit(train).predict_proba(test))


def test_a_known_site_effect_is_taken_out() -> None:
    test = table(300, 1, SITES, mixed=True)
    plain, clean = scored(ALL, test), scored(HarmonisedVolumes(ALL), test)
    nothing = scored(ALL, table(300, 1, dict.fromkeys(SITES, 1.0), mixed=True))
    assert clean > plain + 0.05
    assert clean > nothing - 0.05


def test_without_a_site_effect_it_does_no_harm() -> None:
    same = dict.fromkeys(SITES, 1.0)
    train, test = table(150, 0, same), table(300, 1, same, mixed=True)
    plain = balanced_accuracy(test.label, ALL.fit(train).predict_proba(test))
    clean = balanced_accuracy(test.label, HarmonisedVolumes(ALL).fit(train).predict_proba(test))
    assert clean > plain - 0.02


def test_predictions_do_not_look_at_test_labels() -> None:
    fitted = HarmonisedVolumes(ALL).fit(table(100, 0, SITES))
    test = table(50, 1, SITES)
    turned = SubjectTable(**{**vars(test), "label": (test.label + 1) % 3})
    np.testing.assert_array_equal(fitted.predict_proba(test), fitted.predict_proba(turned))


def test_with_noise_it_needs_many_patients() -> None:
    centres = (np.log(1 / 1000.0),) * 6
    noised = HarmonisedVolumes(ALL, noise_multiplier=1.0, centres=centres)
    exact = HarmonisedVolumes(ALL)

    def apart(n: int) -> float:
        # Within the radius: an effect that is cut is one that is not found.
        train = table(n, 0, {site: 1 + 0.1 * math.log(f) for site, f in SITES.items()})
        one, other = noised.combat(train), exact.combat(train)
        y = np.zeros((1, 6))
        return max(
            float(np.abs(one.without_location(s, y) - other.without_location(s, y)).max())
            for s in SITES
        )

    assert apart(6000) < 0.05
    assert apart(6000) < apart(100)


def test_one_site_cannot_be_compared() -> None:
    with pytest.raises(SmrfedError, match="SMR-E647"):
        HarmonisedVolumes(ALL).fit(table(50, 0, {"a": 1.0}))
