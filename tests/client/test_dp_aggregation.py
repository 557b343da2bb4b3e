"""Sensitivity of a whole step with every method of aggregation, and plans that void it."""

from __future__ import annotations

import numpy as np
import pytest
from small_site import FixedRandom, small_model, small_plan, token_patients

from client.privacy.composition import refuse_unsound
from client.training import rounds
from client.training.data_free import SiteTerms
from client.training.examples import PatientExamples
from client.training.rounds import train_round
from shared_model.errors import SmrfedError
from shared_model.privacy.plan_cost import plan_epsilon

METHODS = {
    "plain": {},
    "fedprox": {"proximal_mu": 0.5},
    "scaffold": {"control_variates": True},
    "mr-mtl": {"multi_task_lambda": 0.5},
}
CLIP, RATE, DECLARED = 1e-3, 0.1, 4


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("site_norm", ["off", "shared", "residual"])
@pytest.mark.parametrize("clipping", ["fixed", "adaptive"])
def test_one_patient_moves_a_step_by_at_most_the_clipping_norm(
    method: str, site_norm: str, clipping: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is taken as a step, terms included, with the same noise and one patient more or less.

    The terms come after the clip: they shift each step alike and cannot widen what a patient does.
    The second of two steps starts where the first arrived, so one step is compared.
    """
    monkeypatch.setattr(rounds, "SecureRandom", lambda: FixedRandom(scale=1.0))
    monkeypatch.setattr(rounds, "_steps", lambda people, *_: iter([people]))
    plan = small_plan(
        site_norm=site_norm,
        declared=DECLARED,
        privacy={"clipping_norm": CLIP, "clipping": clipping},
        training={"local_steps": 2, "learning_rate": RATE},
        adaptation={"personalise": "never"},
        aggregation=METHODS[method],
    )
    model = small_model(plan)
    people = token_patients(model, 3)
    start = model.shared_arrays()
    generator = np.random.default_rng(0)
    own, own_control, common = (
        {n: (v + 0.1 * generator.normal(size=v.shape)).astype(np.float32) for n, v in start.items()}
        for _ in range(3)
    )
    terms = {
        "scaffold": SiteTerms(None, own_control, common),
        "mr-mtl": SiteTerms(own=own),
    }.get(method, SiteTerms())

    def step(patients: list[PatientExamples]) -> np.ndarray:
        model.load_shared(start)
        delta = train_round(model, patients, plan, "a", 1, "run", terms=terms).delta
        return np.concatenate([value.ravel() for value in delta.values()]).astype(float)

    everybody = step(people)
    moves = [
        np.linalg.norm(everybody - step(people[:i] + people[i + 1 :])) * DECLARED / (RATE * CLIP)
        for i in range(3)
    ]
    # What is sent is the float32 difference of parameters of about one: 1e-7 each.
    slack = 1e-7 * np.sqrt(everybody.size) * DECLARED / (RATE * CLIP)
    assert 0.5 < max(moves) <= 1 + slack < 1.5


def test_a_term_inside_the_clip_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: what pulls is scaled by the number of patients who were drawn."""
    from client.training.patient_sgd import PatientSGD

    step = PatientSGD.step

    def mutant(self: PatientSGD, patients: list[PatientExamples]) -> None:
        given = self._data_free
        if given is not None:
            self._data_free = lambda theta: given(theta) * len(patients)  # type: ignore[assignment]
        step(self, patients)

    monkeypatch.setattr(PatientSGD, "step", mutant)
    test = test_one_patient_moves_a_step_by_at_most_the_clipping_norm
    with pytest.raises(AssertionError):
        test("scaffold", "residual", "fixed", monkeypatch)


@pytest.mark.parametrize("method", METHODS)
def test_no_method_costs_anything_nor_lets_site_parameters_train_without_noise(method: str) -> None:
    steps = {"local_steps": 2}
    plan = small_plan(
        aggregation=METHODS[method], adaptation={"personalise": "never"}, training=steps
    )
    plain = small_plan(adaptation={"personalise": "never"}, training=steps)
    assert plan_epsilon(plan) == plan_epsilon(plain)
    refuse_unsound(plan)


@pytest.mark.parametrize("method", ["plain", "fedprox"])
def test_fedbn_under_privacy_is_refused(method: str) -> None:
    """Un-noised local affines steer the shared update (science.md 3.2); without privacy it may."""
    options = {"aggregation": METHODS[method], "training": {"local_steps": 2}}
    refuse_unsound(small_plan("none", "local", **options))  # type: ignore[arg-type]
    with pytest.raises(SmrfedError, match="SMR-E304"):
        refuse_unsound(small_plan("local", "local", **options))  # type: ignore[arg-type]


def test_every_affine_of_the_trained_part_stays_at_home_in_fedbn_whatever_it_is_called() -> None:
    """FedBN's own code looks for 'bn' in a name, and shares every norm that is called otherwise."""
    from shared_model.layers.site_norm import SiteAffine

    model = small_model(small_plan("none", "local", encoder="shared"))
    owned = {id(p) for p in model.parameters(model.groups["site"])}
    affines = [m for m in model.model.modules() if isinstance(m, SiteAffine)]
    assert len(affines) > 3
    assert all(id(p) in owned for m in affines for p in m.parameters(recurse=False))
    assert not {id(p) for p in model.parameters(model.groups["shared"])} & owned
