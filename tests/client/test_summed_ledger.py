"""Rounds of a secure sum in a hospital's ledger, its policy, and what both tell a person."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import dp_accounting
import pytest
from dp_accounting import pld
from summed_plans import summed_plan

from client.agent.charges import Charges
from client.agent.replies import Question
from client.egress.explanation import Circumstances, explain
from client.egress.policy import SitePolicy
from client.ledger_view.overview import overview
from client.privacy.ledger import Ledger
from client.training.examples import PatientExamples
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.privacy.plan_cost import release_use

PATIENTS = ("ann", "bob", "cid")


def examples() -> list[PatientExamples]:
    import torch

    return [PatientExamples(name, torch.zeros(1), torch.zeros(1).long()) for name in PATIENTS]


def plan(mode: str = "distributed", unit: str = "patient") -> FederationPlan:
    return summed_plan(
        mode, privacy={"unit": unit, "noise_multiplier": 3.0, "epsilon": 4.0},
        training={"rounds": 6, "sampling_rate": 0.5},
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["distributed", "central"])
def test_a_round_is_charged_like_the_gaussian_mechanism_it_is(tmp_path: Path, mode: str) -> None:
    agreed = plan(mode)
    ledger = Ledger(tmp_path / "ledger.sqlite")
    charges = Charges(ledger, agreed)
    for number in range(1, 7):
        question = Question("run", number, "train", "aa" * 32)
        charges.reserve(question, examples())
        charges.commit()
    entries = ledger.entries()
    assert [entry.state for entry in entries] == ["commit"] * 6
    assert {entry.use for entry in entries} == {release_use(agreed, "train")}
    event = dp_accounting.SelfComposedDpEvent(
        dp_accounting.PoissonSampledDpEvent(0.5, dp_accounting.GaussianDpEvent(3.0)), 6
    )
    oracle = pld.PLDAccountant(value_discretization_interval=1e-4).compose(event)
    assert ledger.spent(1e-5) == pytest.approx(oracle.get_epsilon(1e-5), rel=3e-3)
    (share,) = overview(ledger, SitePolicy(), [agreed]).plans
    assert share.mode == mode
    assert share.trust is not None
    assert ("share of the noise" in share.trust) == (mode == "distributed")
    assert ("is trusted with it" in share.trust) == (mode == "central")


def test_the_budget_holds_in_a_sum_as_well(tmp_path: Path) -> None:
    agreed = plan()
    ledger = Ledger(tmp_path / "ledger.sqlite", max_epsilon=1.0)
    use, refused = release_use(agreed, "train"), None
    for number in range(1, 50):
        refused = ledger.refusal(agreed, [use], PATIENTS)
        if refused is not None:
            break
        ledger.reserve("run", number, agreed, use, patients=PATIENTS)
    assert refused is not None
    assert refused.code == "SMR-E302"
    assert 0.7 < ledger.spent(1e-5) <= 1.0


@pytest.mark.parametrize("mode", ["distributed", "central"])
def test_a_policy_must_name_the_mode(mode: str) -> None:
    with pytest.raises(SmrfedError, match="SMR-E311"):
        SitePolicy().admit_plan(plan(mode))
    other = "central" if mode == "distributed" else "distributed"
    with pytest.raises(SmrfedError, match="SMR-E311"):
        SitePolicy(modes=("local", other)).admit_plan(plan(mode))  # type: ignore[arg-type]
    SitePolicy(modes=("local", mode)).admit_plan(plan(mode))  # type: ignore[arg-type]


def test_the_person_who_decides_is_told_the_trust_the_unit_and_what_leaves() -> None:
    policy = SitePolicy(modes=("distributed", "central"))
    around = Circumstances(
        "a", None, accepted=False, outgoing={"w": (10, 3)}, spent=0.0, now=datetime.now(UTC)
    )
    told = {line.subject: line for line in explain(policy, plan(), around)}
    assert "share of the noise" in told["trust"].asks
    assert "hides a patient" in told["trust"].asks
    assert "masked, with a share" in told["leaves: part of the sum"].asks
    assert "240 bytes" in told["size of a reply"].asks
    assert "on delta for the integer grid" in told["cost of the plan"].asks
    assert not [line for line in told.values() if line.verdict == "refused"]
    central = {line.subject: line for line in explain(policy, plan("central"), around)}
    assert "without noise of this hospital's own" in central["leaves: part of the sum"].asks
    hospital = {line.subject: line for line in explain(policy, plan(unit="hospital"), around)}
    assert "hides a hospital" in hospital["trust"].asks
