"""A hospital whose agent signs and sends what it never trained: each counts for nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from fault_phases import PATIENCE_S
from faulty_agent import FAULTS

from server.rounds.releases import released_body
from shared_model.protocol.arrays import body_digest
from simulations.deployed.federation import LOOPBACK_DRIVER
from simulations.deployed.supervised import SupervisedFederation, toy_plan
from simulations.deployed.undisturbed import undisturbed_sha256

pytestmark = [pytest.mark.deploy, pytest.mark.slow, pytest.mark.timeout(3600)]

SITES = ("north", "south", "west")
AGENT = Path(__file__).with_name("faulty_agent.py")
DEADLINE_S = 120.0


def test_every_faulty_reply_is_set_aside_by_number_and_changes_no_bit() -> None:
    plan = toy_plan(SITES, len(FAULTS) + 2, min_sites=2, deadline_s=600.0)
    driver = LOOPBACK_DRIVER.model_copy(
        update={
            "failures_per_round": 2,
            "site_deadline_s": {"west": DEADLINE_S},
            # On a slow machine the next fault must not be missed for lateness.
            "returning_grace_s": DEADLINE_S,
        }
    )
    when = dict(enumerate(FAULTS, start=2))
    with (
        tempfile.TemporaryDirectory(prefix="smrfed-") as folder,
        SupervisedFederation(Path(folder), plan, agent=AGENT) as federation,
    ):
        west = federation.sites["west"]
        west.behave(faults={str(number): fault for number, fault in when.items()})
        run = federation.new_run("hostile", driver)
        federation.want(run)
        finished = federation.wait_finished(run, PATIENCE_S)
        history = finished.latest().history
        left_out = [record.round for record in history if "west" not in record.accepted]
        for number, fault in when.items():
            found = history[number - 1].sites["west"]
            # At the deadline itself, Flower may say first that the message has expired.
            codes = ("SMR-E503", "SMR-E504") if fault == "late" else (FAULTS[fault],)
            assert not found.accepted, fault
            assert found.code in codes, (fault, found)
            # Found out at once or by its own short deadline: nobody waited for the plan's.
            assert history[number - 1].seconds < plan.federation.round_deadline_s
        for name in ("north", "south"):
            assert all(name in record.accepted for record in history)
        # A machine that is very busy may cost the hospital an honest round as well, no more.
        assert set(when) <= set(left_out)
        expected = undisturbed_sha256(plan, Path(folder), {"west": left_out})
        assert body_digest(released_body(finished)) == expected
        for site in federation.sites.values():
            for number in range(1, plan.training.rounds + 1):
                assert site.computed("hostile", number) <= 1
            charged = [entry.round for entry in site.charges()]
            assert len(charged) == len(set(charged))
