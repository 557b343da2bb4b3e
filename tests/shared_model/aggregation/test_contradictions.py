"""Switches of the aggregation that exclude one another are refused at load, by field."""

from __future__ import annotations

from typing import Any

import pytest

from shared_model.aggregation.wording import aggregation_in_words
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan

NEVER = {"personalise": "never"}


def plan(count: int = 7, **sections: Any) -> FederationPlan:
    federation = {
        "sites": [{"name": f"site-{i}", "declared_patients": 10 + i} for i in range(count)],
        "min_sites": count,
    }
    return FederationPlan.parse(
        {
            "name": "aggregated",
            "privacy": sections.pop("privacy", {"mode": "none"}),
            "training": {"local_steps": 4, "learning_rate": 0.1} | sections.pop("training", {}),
            "federation": federation | sections.pop("federation", {}),
            **sections,
        }
    )


SOUND: dict[str, dict[str, Any]] = {
    "fedavg": {},
    "median": {"aggregation": {"rule": "median"}, "federation": {"min_sites": 3}},
    "trimmed": {"aggregation": {"rule": "trimmed_mean", "faulty_sites": 3}},
    "krum": {"aggregation": {"rule": "krum", "faulty_sites": 2}},
    "adam": {
        "aggregation": {"server_optimizer": "adam", "rule": "median"},
        "training": {"server_learning_rate": 0.01},
    },
    "fedprox": {"aggregation": {"proximal_mu": 10.0}},
    "fedprox, one residual": {
        "aggregation": {"proximal_mu": 1.0},
        "adaptation": {"personalise": "private"},
        "privacy": {"mode": "local", "noise_multiplier": 2.0},
    },
    "scaffold": {"aggregation": {"control_variates": True}},
    "scaffold, unequal": {
        "aggregation": {"control_variates": True},
        "federation": {"weighting": "declared_patients", "min_sites": 2},
    },
    "mr-mtl": {"aggregation": {"multi_task_lambda": 0.0}, "adaptation": NEVER},
    "fedbn": {"adaptation": {"site_norm": "local"}, "aggregation": {"proximal_mu": 1.0}},
}


@pytest.mark.parametrize("name", SOUND)
def test_sound_plans_load_and_read_back(name: str) -> None:
    found = plan(**SOUND[name])
    again = FederationPlan.parse(found.model_dump(mode="json"))
    assert again.digest == found.digest
    assert (found.digest == plan().digest) == (name == "fedavg")


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("needs aggregation.faulty_sites", {"aggregation": {"rule": "krum"}}),
    ("needs aggregation.faulty_sites", {"aggregation": {"rule": "trimmed_mean"}}),
    ("has no meaning", {"aggregation": {"faulty_sites": 1}}),
    ("has no meaning", {"aggregation": {"rule": "median", "faulty_sites": 1}}),
    ("at least 9", {"aggregation": {"rule": "krum", "faulty_sites": 3}}),
    ("at least 9", {"aggregation": {"rule": "trimmed_mean", "faulty_sites": 4}}),
    ("at least 3", {"aggregation": {"rule": "median"}, "federation": {"min_sites": 2}}),
    (
        "at least 5",
        {"aggregation": {"rule": "krum", "faulty_sites": 1}, "federation": {"min_sites": 4}},
    ),
    (
        "weighting to 'equal'",
        {"aggregation": {"rule": "median"}, "federation": {"weighting": "declared_patients"}},
    ),
    ("server_learning_rate", {"aggregation": {"server_optimizer": "adam"}}),
    ("server_learning_rate", {"aggregation": {"server_optimizer": "yogi"}}),
    ("overshoot", {"aggregation": {"proximal_mu": 11.0}}),
    ("overshoot", {"aggregation": {"multi_task_lambda": 11.0}, "adaptation": NEVER}),
    ("does nothing", {"aggregation": {"proximal_mu": 1.0}, "training": {"local_steps": 1}}),
    (
        "choose one",
        {"aggregation": {"proximal_mu": 1.0, "multi_task_lambda": 1.0}, "adaptation": NEVER},
    ),
    (
        "at least 2",
        {"aggregation": {"control_variates": True}, "training": {"local_steps": 1}},
    ),
    ("needs rule 'mean'", {"aggregation": {"control_variates": True, "rule": "median"}}),
    ("excludes", {"aggregation": {"control_variates": True, "proximal_mu": 1.0}}),
    (
        "rest during the rounds",
        {"aggregation": {"control_variates": True}, "adaptation": {"site_norm": "local"}},
    ),
    (
        "rest during the rounds",
        {"aggregation": {"control_variates": True}, "adaptation": {"personalise": "private"}},
    ),
    (
        "needs rule 'mean'",
        {"aggregation": {"multi_task_lambda": 1.0, "rule": "median"}, "adaptation": NEVER},
    ),
    (
        "server_learning_rate 1",
        {
            "aggregation": {"multi_task_lambda": 1.0},
            "adaptation": NEVER,
            "training": {"server_learning_rate": 0.5},
        },
    ),
    ("'never'", {"aggregation": {"multi_task_lambda": 1.0}}),
    (
        "'never'",
        {
            "aggregation": {"multi_task_lambda": 1.0},
            "adaptation": {"personalise": "never", "site_norm": "local"},
        },
    ),
]


@pytest.mark.parametrize(("reason", "sections"), REFUSED)
def test_a_contradiction_is_refused_with_its_reason(reason: str, sections: dict[str, Any]) -> None:
    with pytest.raises(SmrfedError, match="SMR-E102") as caught:
        plan(**sections)
    assert reason in str(caught.value)


def test_what_is_not_fedavg_is_said_in_words() -> None:
    said = {name: aggregation_in_words(plan(**sections)) for name, sections in SOUND.items()}
    assert said["fedavg"] == "mean of all updates"
    assert said["adam"] == "median of each coordinate; server adam"
    assert said["krum"] == "one update by Krum, 2 faulty sites"
    assert said["mr-mtl"].startswith("MR-MTL, lambda 0: every site its own model")
    bounded = plan(aggregation={"norm_bound": 2.5, "proximal_mu": 0.5})
    assert aggregation_in_words(bounded) == (
        "FedProx, mu 0.5; mean of all updates; updates up to norm 2.5"
    )
