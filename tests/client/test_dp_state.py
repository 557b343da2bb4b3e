"""State that stays at the site steers no release."""

from __future__ import annotations

import itertools

import pytest
from small_site import small_model, small_plan, token_patients
from torch import Tensor

from client.training.patient_sgd import PatientSGD
from client.training.personalise import personalise
from client.training.rounds import train_round
from client.training.site_model import SiteModel
from shared_model.errors import SmrfedError


def later_round_difference(
    monkeypatch: pytest.MonkeyPatch, site_norm: str, personalise_when: str
) -> float:
    """How far the others' clipped sum moves, over C, when an outlier was not in earlier rounds.

    Both worlds train a round, finish that run (personalising if the plan says so) and receive the
    same global parameters in the next run, as under adaptive composition: only state that stayed at
    the site can tell them apart.
    """
    clip = 1e-3
    plan = small_plan(
        site_norm=site_norm,
        privacy={"clipping_norm": clip},
        adaptation={"personalise": personalise_when, "personalise_steps": 20},
    )
    sums: list[Tensor] = []
    for without in (0, 1):
        site_model = small_model(plan)
        patients = token_patients(site_model, 6)
        outlier = token_patients(site_model, 1, seed=9)[0]
        outlier.inputs.regions.mul_(50)  # type: ignore[union-attr]
        start = site_model.shared_arrays()
        earlier = [*patients, outlier][: 7 - without]
        train_round(site_model, earlier, plan, "a", 1, "run")
        personalise(site_model, earlier, plan)
        site_model.load_shared(start)
        with monkeypatch.context() as patch:
            patch.setattr(
                PatientSGD, "step", lambda self, people: sums.append(self.clipped_sum(people))
            )
            train_round(site_model, patients, plan, "a", 1, "next-run")
    return float((sums[0] - sums[1]).norm()) / clip


@pytest.mark.parametrize(
    ("site_norm", "personalise_when"),
    list(itertools.product(["off", "shared", "residual"], ["never", "after"])),
)
def test_no_state_that_stays_at_the_site_steers_a_release(
    monkeypatch: pytest.MonkeyPatch, site_norm: str, personalise_when: str
) -> None:
    assert later_round_difference(monkeypatch, site_norm, personalise_when) == 0.0


def test_a_residual_that_steers_a_release_would_be_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The mutant of the test above: the personalised residual is not reset."""
    monkeypatch.setattr(SiteModel, "reset_site", lambda self: None)
    assert later_round_difference(monkeypatch, "residual", "after") > 0.05


@pytest.mark.parametrize("personalise_when", ["never", "after"])
def test_local_norms_are_refused_under_privacy(personalise_when: str) -> None:
    plan = small_plan(site_norm="local", adaptation={"personalise": personalise_when})
    site_model = small_model(plan)
    with pytest.raises(SmrfedError, match="SMR-E304"):
        train_round(site_model, token_patients(site_model, 3), plan, "a", 1, "run")
