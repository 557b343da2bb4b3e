"""kill -9 of the agent's process between any two steps of an evaluation or calibration."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from agent_site import build_hospital
from small_site import small_atlas
from test_agent_kill import process
from test_agent_statistics import looking_plan

from client.agent.replies import Question, ReplyStore
from client.agent.stub import AgentClient
from client.privacy.ledger import Ledger
from client.training.site_model import SiteModel
from shared_model.errors import SmrfedError
from shared_model.protocol.sealed import Sealed

# How often a release is charged when the process dies right after this point: what a killed
# attempt computed is unknown, so it stays charged beside the one that was sealed.
CHARGES = {"reserved": 2, "looked": 2, "saved": 1}


@pytest.mark.slow  # six agents start; training is killed so in the default suite
def test_a_kill_never_loses_a_charge_and_noise_is_never_drawn_twice_for_one_answer(
    tmp_path: Path, archive: Path
) -> None:
    plan = looking_plan(rounds=len(CHARGES), every=1)
    hospital = build_hospital(tmp_path / "site", archive, plan)
    with (hospital.folder / "policy.toml").open("a") as file:
        file.write("allow_evaluation = true\nallow_calibration = true\n")
    plan_file = tmp_path / "plan.json"
    plan_file.write_bytes(plan.canonical_json)
    arrays = SiteModel.build(plan, small_atlas()).shared_arrays()
    socket = hospital.config.socket
    last = len(CHARGES)
    asked = [("evaluate", n) for n in range(1, last)] + [("calibrate", last)]
    answers: dict[int, Sealed] = {}
    for (kind, number), point in zip(asked, CHARGES, strict=True):
        instruction = hospital.instruction(arrays, number, kind)
        with process(hospital.folder, plan_file, point, str(number)) as agent:
            with AgentClient(socket) as client:
                if number > 1:
                    earlier = hospital.instruction(arrays, number - 1, "evaluate")
                    answers[number - 1] = client.handle(earlier)
                    assert client.handle(earlier) == answers[number - 1]
                with pytest.raises(SmrfedError, match="SMR-E412"):
                    client.handle(instruction)
            agent.wait(timeout=30)
            assert agent.returncode == -signal.SIGKILL
        question = Question("run-1", number, kind, instruction.digest.hex())  # type: ignore[arg-type]
        stored = ReplyStore(hospital.state.replies).find(question)
        assert (stored is not None) == (point == "saved")
    with process(hospital.folder, plan_file), AgentClient(socket) as client:
        answers[last] = client.handle(hospital.instruction(arrays, last, "calibrate"))
        # The answer that was stored before the kill is the one that leaves.
        assert answers[last] == stored
    entries = Ledger(hospital.state.ledger).entries()
    for (kind, number), point in zip(asked, CHARGES, strict=True):
        mine = [e for e in entries if (e.purpose, e.round) == (kind, number)]
        assert len(mine) == CHARGES[point], point
        assert mine[-1].state == "seal"
        assert mine[-1].reply_sha256 == answers[number].digest.hex()
