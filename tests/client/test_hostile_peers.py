"""Hostile peers against the agent, in-process and behind its socket: a number, a receipt, no harm.

Without privacy the bits of a round can be compared: after every attack, the next honest round is
the one of a hospital that nobody attacked.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket as sockets
from pathlib import Path

import numpy as np
import pytest
from agent_site import Hospital, build_hospital, everything_below
from bids_fixture import people, write_bids
from hostile_peers import attacks, send_raw, streams
from small_site import small_atlas, small_plan
from test_agent_kill import process

from client.agent.refusals import outward
from client.agent.stub import AgentClient
from client.egress.refusals import Refusals
from client.prepared import scan_source
from client.training.site_model import SiteModel
from shared_model.errors import SmrfedError

PLAN = small_plan("none", training={"rounds": 4})
LINE = re.compile(r"SMR-E\d{3} the site's agent declined; the hospital finds the reason in its log")
NOT_ACCOUNTED = ("refusals", "agent.lock", "agent.log")


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    return SiteModel.build(PLAN, small_atlas()).shared_arrays()


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, archive: Path, arrays: dict[str, np.ndarray]
) -> dict[int, bytes]:
    """The bodies of rounds 2 and 3 of a hospital that nobody attacks."""
    hospital = build_hospital(tmp_path_factory.mktemp("calm") / "site", archive, PLAN)
    agent = hospital.agent()
    bodies = {n: agent.handle(hospital.instruction(arrays, n)).body for n in (2, 3)}
    agent.close()
    return bodies


def rest(hospital: Hospital) -> dict[Path, bytes]:
    """Every file of the site but the receipts of refusals and the log."""
    found = everything_below(hospital.folder)
    return {
        path: data for path, data in found.items() if not any(n in path.name for n in NOT_ACCOUNTED)
    }


def test_an_attacked_agent_answers_as_if_nothing_had_been(
    tmp_path: Path,
    archive: Path,
    arrays: dict[str, np.ndarray],
    undisturbed: dict[int, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hospital = build_hospital(tmp_path / "site", archive, PLAN)
    agent = hospital.agent()
    reply = agent.handle(hospital.instruction(arrays, 2))
    assert reply.body == undisturbed[2]
    before = rest(hospital)

    def never(*_: object) -> None:
        raise AssertionError("a refused instruction reached the patients")

    with monkeypatch.context() as patch:
        patch.setattr(scan_source, "read_bids_archive", never)
        patch.setattr("client.agent.trained_round.train_round", never)
        patch.setattr("client.agent.agent.keep_final_model", never)
        expected = set()
        for attack in attacks(hospital, arrays, 2):
            with pytest.raises(SmrfedError) as caught:
                agent.handle(attack.message)
            assert caught.value.code == attack.code, attack.name
            assert LINE.fullmatch(outward(caught.value)), attack.name
            expected.add(attack.code)
        assert agent.handle(hospital.instruction(arrays, 2)) == reply
    assert rest(hospital) == before
    noted = Refusals(hospital.state.refusals).read()
    assert {line.refused.code for line in noted} == expected
    # Only what the coordinator signed is called signed.
    assert {line.refused.code for line in noted if not line.refused.signed} == {"SMR-E113"}
    assert agent.handle(hospital.instruction(arrays, 3)).body == undisturbed[3]
    agent.close()


def test_the_words_of_a_refusal_do_not_depend_on_the_patients(
    tmp_path: Path, archive: Path, arrays: dict[str, np.ndarray]
) -> None:
    spoken = []
    few = write_bids(tmp_path / "few-archive", *people(9))
    for folder, patients in (("many", archive), ("other", few)):
        hospital = build_hospital(tmp_path / folder, patients, PLAN)
        agent = hospital.agent()
        agent.handle(hospital.instruction(arrays, 2))
        words = []
        for attack in attacks(hospital, arrays, 2):
            with pytest.raises(SmrfedError) as caught:
                agent.handle(attack.message)
            words.append(outward(caught.value))
        spoken.append(words)
        agent.close()
    assert spoken[0] == spoken[1]


def peak_kilobytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0])


def test_a_real_agent_behind_its_socket_survives_everything(
    tmp_path: Path, archive: Path, arrays: dict[str, np.ndarray], undisturbed: dict[int, bytes]
) -> None:
    hospital = build_hospital(tmp_path / "site", archive, PLAN)
    plan_file = tmp_path / "plan.json"
    plan_file.write_bytes(PLAN.canonical_json)
    path = hospital.config.socket
    with process(hospital.folder, plan_file) as agent, AgentClient(path) as client:
        assert client.handle(hospital.instruction(arrays, 2)).body == undisturbed[2]
        before, peak = rest(hospital), peak_kilobytes(agent.pid)
        expected = {"SMR-E413", "SMR-E111", "SMR-E112"}
        for attack in attacks(hospital, arrays, 2):
            with pytest.raises(SmrfedError) as caught:
                client.handle(attack.message)
            assert caught.value.code == attack.code, attack.name
            expected.add(attack.code)
        honest = hospital.instruction(arrays, 3)
        for _ in range(5):
            for messages in streams(honest).values():
                send_raw(str(path), messages)
        send_raw(str(path), [b"x"], "/smrfed.agent.v1.Agent/Patients")
        for size in (1, 100, 100_000):
            with sockets.socket(sockets.AF_UNIX) as raw:
                raw.connect(str(path))
                raw.settimeout(10)
                # The service may hang up first.
                with contextlib.suppress(OSError):
                    raw.sendall(os.urandom(size))
        assert agent.poll() is None
        assert rest(hospital) == before
        noted = Refusals(hospital.state.refusals).read()
        assert {line.refused.code for line in noted} == expected
        # Nothing of what was refused stayed in memory; 32 MB is what gRPC's own buffers may take.
        assert peak_kilobytes(agent.pid) - peak < 32 << 10
        assert client.handle(honest).body == undisturbed[3]
