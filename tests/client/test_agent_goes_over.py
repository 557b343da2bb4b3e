"""An agent asked under another accepted plan goes over to it; anybody else is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from agent_site import build_hospital, everything_below
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from small_site import small_atlas, small_plan

from client.agent.acceptance import AcceptedPlans
from client.agent.agent import SiteAgent
from client.training.site_model import SiteModel
from shared_model.errors import SmrfedError


def test_it_goes_over_for_its_coordinator_and_an_accepted_plan_only(
    tmp_path: Path, archive: Path
) -> None:
    hospital = build_hospital(tmp_path / "site", archive, None)
    other = small_plan(declared=30)
    model = SiteModel.build(other, small_atlas())
    shared = model.shared_arrays()
    asked: list[str] = []
    agent = SiteAgent(hospital.config, hospital.plan, atlas=small_atlas(), go_over=asked.append)
    try:
        question = hospital.instruction(shared, plan_digest=other.digest)
        with pytest.raises(SmrfedError, match="SMR-E401"):
            agent.handle(question)
        AcceptedPlans(hospital.state.plans).accept(other, model.shared_shapes)
        forged = hospital.instruction(
            shared, plan_digest=other.digest, key=Ed25519PrivateKey.generate()
        )
        with pytest.raises(SmrfedError, match="SMR-E113"):
            agent.handle(forged)
        with pytest.raises(SmrfedError, match="SMR-E401"):
            agent.handle(hospital.instruction(shared, plan_digest=other.digest, site="b"))
        assert asked == []
        before = everything_below(hospital.folder)
        with pytest.raises(SmrfedError, match="SMR-E454"):
            agent.handle(question)
        assert asked == [other.digest]
        assert everything_below(hospital.folder) == before  # no refusal: nothing was wrong
    finally:
        agent.close()
    pinned = SiteAgent(hospital.config, hospital.plan, atlas=small_atlas())
    try:
        with pytest.raises(SmrfedError, match="SMR-E401"):
            pinned.handle(question)
    finally:
        pinned.close()
