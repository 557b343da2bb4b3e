"""The site agent on real files: one answer per instruction, nothing for anybody else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from agent_site import Hospital, build_hospital, everything_below, opened
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from small_site import small_atlas, small_plan

from client.agent import trained_round as trained_module
from client.agent.agent import SiteAgent
from client.agent.service import serve
from client.agent.stub import AgentClient
from client.egress.receipts import Receipts
from client.egress.refusals import Refusals
from client.prepared import scan_source
from client.privacy.ledger import Ledger
from client.training.site_model import SiteModel
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import encode_arrays
from shared_model.protocol.sealed import MAX_BODY_BYTES, Sealed

Arrays = dict[str, np.ndarray]
Build = Callable[..., Hospital]


@pytest.fixture
def build(tmp_path: Path, archive: Path) -> Build:
    def make(plan: FederationPlan | None = None, folder: str = "site") -> Hospital:
        return build_hospital(tmp_path / folder, archive, plan)

    return make


@pytest.fixture
def hospital(build: Build) -> Hospital:
    return build()


@pytest.fixture
def agent(hospital: Hospital) -> Iterator[SiteAgent]:
    agent = hospital.agent()
    yield agent
    agent.close()


def unchanged(hospital: Hospital, before: dict[Path, bytes]) -> bool:
    """Whether all is as it was, but for the receipts of what was refused."""
    now = everything_below(hospital.folder)
    return {path: data for path, data in now.items() if "refusals" not in path.name} == before


def initial(plan: FederationPlan) -> Arrays:
    return SiteModel.build(plan, small_atlas()).shared_arrays()


def ledger_states(hospital: Hospital) -> list[str]:
    return [entry.state for entry in Ledger(hospital.state.ledger).entries()]


def test_a_train_instruction_gives_a_signed_update_of_the_shared_parameters(
    hospital: Hospital, agent: SiteAgent
) -> None:
    arrays = initial(hospital.plan)
    instruction = hospital.instruction(arrays)
    header, delta = opened(agent, agent.handle(instruction))
    assert (header.run_id, header.round, header.kind, header.site) == ("run-1", 1, "train", "a")
    assert header.plan_digest == hospital.plan.digest
    assert header.instruction_sha256 == instruction.digest.hex()
    assert header.metrics == {}
    assert {k: v.shape for k, v in delta.items()} == {k: v.shape for k, v in arrays.items()}
    assert all(np.isfinite(v).all() for v in delta.values())
    assert any(np.abs(v).max() > 0 for v in delta.values())
    assert ledger_states(hospital) == ["seal"]
    entry = Ledger(hospital.state.ledger).entries()[0]
    assert entry.reply_sha256 == agent.handle(instruction).digest.hex()
    decisions = [r.decision for r in Receipts(hospital.state.receipts).read()]
    assert [(d.released, d.round, d.body_sha256) for d in decisions] == [
        (True, 1, header.body_sha256)
    ]
    assert decisions[0].epsilon_after == Ledger(hospital.state.ledger).spent(1e-5) > 0


def test_the_same_instruction_gives_the_same_bytes_and_spends_nothing(
    hospital: Hospital, agent: SiteAgent
) -> None:
    instruction = hospital.instruction(initial(hospital.plan))
    reply = agent.handle(instruction)
    before = everything_below(hospital.folder)
    assert agent.handle(instruction) == reply
    agent.close()
    # Also by the next process, which has not even prepared a patient.
    second = hospital.agent()
    assert second.handle(instruction) == reply
    second.close()
    changed = {
        path
        for path, content in everything_below(hospital.folder).items()
        if before.get(path) != content
    }
    assert changed <= {Path("state/ledger.sqlite"), Path("state/agent.lock")}
    assert ledger_states(hospital) == ["seal"]


def test_rounds_and_finalise_of_a_whole_run(hospital: Hospital, agent: SiteAgent) -> None:
    arrays = initial(hospital.plan)
    for round_number in (1, 2, 3):
        _, delta = opened(agent, agent.handle(hospital.instruction(arrays, round_number)))
        arrays = {name: value + delta[name] for name, value in arrays.items()}
    final = hospital.instruction(arrays, 3, "finalise")
    header, delta = opened(agent, agent.handle(final))
    assert (header.kind, header.metrics, delta) == ("finalise", {}, {})
    folder = hospital.state.model("run-1")
    assert (folder / "global.safetensors").read_bytes() == encode_arrays(arrays)
    report = json.loads((folder / "evaluation.json").read_text())
    assert set(report) == {"plan_digest", "test_patients", "global", "personalised"}
    assert report["test_patients"] > 0
    for scores in (report["global"], report["personalised"]):
        assert 0 <= scores["accuracy"] <= 1
        assert scores["brier_score"] >= 0
    assert (folder / "site.safetensors").exists()
    assert ledger_states(hospital) == ["seal"] * 3
    for late in (hospital.instruction(arrays, 2), hospital.instruction(arrays, 3, "train")):
        with pytest.raises(SmrfedError, match=r"SMR-E40[34]"):
            agent.handle(late)
    assert agent.status().kind == "finalise"


def test_mode_none_is_reproducible_and_its_metrics_need_the_policy(build: Build) -> None:
    plan = small_plan("none")
    replies = []
    for folder, allow in (("one", False), ("two", False), ("three", True)):
        hospital = build(plan, folder)
        policy = hospital.folder / "policy.toml"
        policy.write_text(policy.read_text() + f"allow_metrics = {str(allow).lower()}\n")
        agent = hospital.agent()
        header, delta = opened(agent, agent.handle(hospital.instruction(initial(plan))))
        assert set(header.metrics) == ({"train_loss", "drawn_patients"} if allow else set())
        assert ledger_states(hospital) == []
        replies.append(encode_arrays(delta))
        agent.close()
    assert len(set(replies)) == 1


def test_site_parameters_that_train_survive_a_restart_bit_for_bit(build: Build) -> None:
    plan = small_plan("none", "local")
    results = []
    for folder, restart in (("steady", False), ("restarted", True)):
        hospital = build(plan, folder)
        agent = hospital.agent()
        arrays = initial(plan)
        for round_number in (1, 2):
            if restart:
                agent.close()
                agent = hospital.agent()
            _, delta = opened(agent, agent.handle(hospital.instruction(arrays, round_number)))
            arrays = {name: value + delta[name] for name, value in arrays.items()}
        results.append(encode_arrays(arrays))
        agent.close()
    assert results[0] == results[1]


OTHER_KEY = Ed25519PrivateKey.generate()


def forgeries(hospital: Hospital, arrays: Arrays) -> dict[str, tuple[Sealed, str]]:
    honest = hospital.instruction(arrays)
    first = sorted(arrays)[0]
    other_shape = {**arrays, first: np.zeros((2, 2, 2, 7), np.float32)}
    not_finite = {**arrays, first: np.full_like(arrays[first], np.nan)}
    without = {name: value for name, value in arrays.items() if name != first}
    more = {**arrays, "encoder.extra": np.zeros(3, np.float32)}
    return {
        "signature": (hospital.instruction(arrays, key=OTHER_KEY), "SMR-E113"),
        "body": (Sealed(honest.header, honest.body + b"0", honest.signature), "SMR-E113"),
        "header": (Sealed(honest.header + b" ", honest.body, honest.signature), "SMR-E113"),
        "plan": (hospital.instruction(arrays, plan_digest="0" * 64), "SMR-E401"),
        "site": (hospital.instruction(arrays, site="b"), "SMR-E402"),
        "round": (hospital.instruction(arrays, 4), "SMR-E416"),
        "exchanged": (hospital.instruction(arrays, body_sha256="0" * 64), "SMR-E117"),
        "garbage": (hospital.instruction(b"not safetensors at all"), "SMR-E115"),
        "shape": (hospital.instruction(other_shape), "SMR-E405"),
        "nan": (hospital.instruction(not_finite), "SMR-E405"),
        "missing": (hospital.instruction(without), "SMR-E405"),
        "additional": (hospital.instruction(more), "SMR-E405"),
    }


def test_what_is_not_the_coordinators_word_to_this_site_leaves_a_receipt_and_nothing_else(
    hospital: Hospital, agent: SiteAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a refused instruction reached the archive")

    monkeypatch.setattr(scan_source, "read_bids_archive", never)
    before = everything_below(hospital.folder)
    for name, (message, code) in forgeries(hospital, initial(hospital.plan)).items():
        with pytest.raises(SmrfedError) as caught:
            agent.handle(message)
        assert caught.value.code == code, name
    assert unchanged(hospital, before)
    refused = {line.refused.code for line in Refusals(hospital.state.refusals).read()}
    assert refused == {code for _, code in forgeries(hospital, initial(hospital.plan)).values()}
    assert ledger_states(hospital) == []


def test_an_answered_round_is_not_answered_again_for_other_arrays(
    hospital: Hospital, agent: SiteAgent
) -> None:
    arrays = initial(hospital.plan)
    reply = agent.handle(hospital.instruction(arrays))
    changed = {name: value + 1 for name, value in arrays.items()}
    before = everything_below(hospital.folder)
    with pytest.raises(SmrfedError, match="SMR-E403"):
        agent.handle(hospital.instruction(changed))
    assert unchanged(hospital, before)
    assert agent.handle(hospital.instruction(arrays)) == reply


def test_a_failure_before_training_costs_nothing_and_can_be_repeated(
    hospital: Hospital, agent: SiteAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_: object) -> None:
        raise OSError("sub-001 is on a tape")

    instruction = hospital.instruction(initial(hospital.plan))
    with monkeypatch.context() as patch:
        patch.setattr(scan_source, "read_bids_archive", unreadable)
        with pytest.raises(SmrfedError, match="SMR-E410"):
            agent.handle(instruction)
    assert ledger_states(hospital) == []
    agent.handle(instruction)
    assert ledger_states(hospital) == ["seal"]


def test_a_failed_training_is_charged_once_when_the_same_process_repeats_it(
    hospital: Hospital, agent: SiteAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("out of memory")

    instruction = hospital.instruction(initial(hospital.plan))
    with monkeypatch.context() as patch:
        patch.setattr(trained_module, "train_round", broken)
        for _ in range(3):
            with pytest.raises(SmrfedError, match="SMR-E410"):
                agent.handle(instruction)
    assert ledger_states(hospital) == ["reserve"]
    agent.handle(instruction)
    assert ledger_states(hospital) == ["seal"]


def test_the_ledger_stops_the_agent_when_the_budget_is_spent(build: Build) -> None:
    # Three rounds cost 3.71, a fourth one would make it 4.4.
    plan = small_plan(privacy={"noise_multiplier": 2.0, "epsilon": 4.0})
    hospital = build(plan)
    agent = hospital.agent()
    arrays = initial(plan)
    for run in ("run-1", "run-2", "run-3"):
        agent.handle(hospital.instruction(arrays, run_id=run))
    with pytest.raises(SmrfedError, match="SMR-E302"):
        agent.handle(hospital.instruction(arrays, run_id="run-4"))
    assert ledger_states(hospital) == ["seal"] * 3
    # What cannot be paid leaves no file behind, however many runs are invented.
    assert {path.name for path in hospital.state.replies.iterdir()} == {"run-1", "run-2", "run-3"}
    agent.close()


def test_nothing_that_leaves_names_a_patient_a_file_or_a_count(
    hospital: Hospital, agent: SiteAgent, archive: Path
) -> None:
    arrays = initial(hospital.plan)
    train = agent.handle(hospital.instruction(arrays))
    final = agent.handle(hospital.instruction(arrays, 1, "finalise"))
    leaving = b"".join(part for r in (train, final) for part in (r.header, r.body, r.signature))
    names = {path.name for path in archive.rglob("*")} | {str(archive), str(hospital.folder)}
    patients = {name for name in names if name.startswith("sub-")}
    assert len(patients) >= 8
    for name in names:
        assert name.encode() not in leaving, name
    assert set(json.loads(train.header)) == {
        "protocol_version", "run_id", "round", "kind", "site", "plan_digest", "body_sha256",
        "instruction_sha256", "metrics",
    }  # fmt: skip
    # Every number in the header is the coordinator's own.
    assert [v for v in json.loads(train.header).values() if isinstance(v, int | float)] == [1, 1]
    assert len(train.body) <= agent.max_body_bytes


def test_a_failure_over_the_socket_says_a_number_and_nothing_else(
    hospital: Hospital, agent: SiteAgent, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_: object) -> None:
        raise SmrfedError("SMR-E212", "sub-07 of 12", found=str(archive), remedy="none")

    monkeypatch.setattr(scan_source, "read_bids_archive", unreadable)
    arrays = initial(hospital.plan)
    service = serve(agent, hospital.config.socket)
    try:
        with AgentClient(hospital.config.socket) as client:
            for message, code in (
                (hospital.instruction(arrays), "SMR-E410"),
                (hospital.instruction(arrays, key=OTHER_KEY), "SMR-E113"),
            ):
                with pytest.raises(SmrfedError) as caught:
                    client.handle(message)
                assert caught.value.code == code
                for secret in ("07", "12", str(archive), "212"):
                    assert secret not in caught.value.render()
            assert client.status().activity == "idle"
    finally:
        service.stop(0)


def test_the_largest_instruction_is_the_plans_own_size(
    hospital: Hospital, agent: SiteAgent
) -> None:
    body = encode_arrays(initial(hospital.plan))
    assert len(body) <= agent.max_body_bytes < len(body) + 100_000 < MAX_BODY_BYTES


def test_a_plan_beyond_the_policy_or_without_this_site_starts_no_agent(build: Build) -> None:
    hospital = build(small_plan("none"))
    (hospital.folder / "policy.toml").write_text('modes = ["local"]')
    with pytest.raises(SmrfedError, match="SMR-E311"):
        hospital.agent()
    assert not list(hospital.state.plans.glob("*"))
    config = hospital.config.model_copy(update={"name": "elsewhere"})
    with pytest.raises(SmrfedError, match="SMR-E104"):
        SiteAgent(config, hospital.plan, atlas=small_atlas())
    # A failed start gives the state folder free again.
    (hospital.folder / "policy.toml").write_text('modes = ["none"]')
    hospital.agent().close()


def test_one_agent_at_a_time(hospital: Hospital, agent: SiteAgent) -> None:
    with pytest.raises(SmrfedError, match="SMR-E408"):
        hospital.agent()


def test_prepare_reports_its_progress(hospital: Hospital, agent: SiteAgent) -> None:
    seen: list[tuple[int, int]] = []
    agent.prepare(lambda done, total: seen.append((done, total)))
    total = seen[0][1]
    assert seen == [(n, total) for n in range(1, total + 1)]
    # Fifteen scans of twelve patients.
    assert total == 15 + 12
    agent.prepare(lambda done, total: seen.append((done, total)))
    assert len(seen) == total
