"""Policy, egress gate and receipts: what may leave, what may not, and the record of both."""

from __future__ import annotations

import itertools
import json
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from hypothesis import example, given, settings
from hypothesis import strategies as st
from small_plan_only import small_budget_plan

from client.egress.gate import EgressGate, update_norm_bound
from client.egress.policy import SitePolicy
from client.egress.receipts import Decision, Receipts
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.privacy.accounting import MechanismUse, epsilon
from shared_model.protocol.arrays import body_digest, encode_arrays
from shared_model.protocol.messages import RoundReply

SHAPES = {"head.weight": (3, 4), "head.bias": (3,)}
OPEN = SitePolicy(modes=("local", "none"), allow_metrics=True, min_cell=5)


def arrays(value: float = 0.01) -> dict[str, Any]:
    return {name: np.full(shape, value, np.float32) for name, shape in SHAPES.items()}


def header(plan: FederationPlan, body: dict[str, Any], **changes: Any) -> RoundReply:
    fields = {
        "run_id": "run",
        "round": 1,
        "kind": "train",
        "site": "a",
        "plan_digest": plan.digest,
        "body_sha256": body_digest(encode_arrays(body)),
        "instruction_sha256": "00" * 32,
    }
    return RoundReply.model_validate(fields | changes)


def gate(tmp_path: Path, policy: SitePolicy = SitePolicy()) -> tuple[EgressGate, Receipts]:  # noqa: B008
    receipts = Receipts(tmp_path / "receipts.jsonl")
    return EgressGate(policy, receipts), receipts


def test_an_honest_reply_leaves_with_a_receipt(tmp_path: Path) -> None:
    plan = small_budget_plan()
    guard, receipts = gate(tmp_path)
    reply = header(plan, arrays())
    guard.release(reply, arrays(), plan, SHAPES, epsilon_after=1.25)
    (receipt,) = receipts.read()
    decision = receipt.decision
    assert decision.released
    assert (decision.run_id, decision.round, decision.kind) == ("run", 1, "train")
    assert (decision.arrays, decision.numbers, decision.bytes) == (2, 15, 60)
    assert decision.body_sha256 == reply.body_sha256
    assert decision.plan_digest == plan.digest
    assert decision.epsilon_after == 1.25


def test_a_final_reply_is_empty(tmp_path: Path) -> None:
    plan = small_budget_plan()
    guard, receipts = gate(tmp_path)
    guard.release(header(plan, {}, kind="finalise"), {}, plan, SHAPES)
    with pytest.raises(SmrfedError, match="SMR-E320"):
        guard.release(header(plan, arrays(), kind="finalise"), arrays(), plan, SHAPES)
    assert [r.decision.released for r in receipts.read()] == [True, False]


def broken(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in (arrays() | changes).items() if value is not None}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (broken(**{"head.bias": None}), "SMR-E320"),
        (broken(patient=np.zeros(3, np.float32)), "SMR-E320"),
        (broken(**{"head.bias": np.zeros(4, np.float32)}), "SMR-E320"),
        (broken(**{"head.bias": np.zeros((3, 1), np.float32)}), "SMR-E320"),
        (broken(**{"head.bias": np.array([0, np.nan, 0], np.float32)}), "SMR-E321"),
        (broken(**{"head.bias": np.array([0, np.inf, 0], np.float32)}), "SMR-E321"),
        (broken(**{"head.bias": np.full(3, 1e30, np.float32)}), "SMR-E325"),
    ],
)
def test_anything_but_the_shared_parameters_stays(
    tmp_path: Path, body: dict[str, Any], code: str
) -> None:
    plan = small_budget_plan()
    guard, receipts = gate(tmp_path)
    with pytest.raises(SmrfedError, match=code):
        guard.release(header(plan, body), body, plan, SHAPES)
    (receipt,) = receipts.read()
    assert (receipt.decision.released, receipt.decision.rule) == (False, code)


def test_another_dtype_stays(tmp_path: Path) -> None:
    plan = small_budget_plan()
    guard, receipts = gate(tmp_path)
    body = arrays() | {"head.bias": np.zeros(3)}
    with pytest.raises(SmrfedError, match="SMR-E321"):
        guard.release(header(plan, arrays()), body, plan, SHAPES)
    assert not receipts.read()[0].decision.released


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"plan_digest": "11" * 32}, "SMR-E322"),
        ({"body_sha256": "11" * 32}, "SMR-E322"),
        ({"site": "b"}, "SMR-E104"),
        ({"metrics": {"train_loss": 0.5}}, "SMR-E323"),
    ],
)
def test_a_header_that_does_not_fit_stays(
    tmp_path: Path, changes: dict[str, Any], code: str
) -> None:
    plan = small_budget_plan()
    guard, receipts = gate(tmp_path, OPEN)
    with pytest.raises(SmrfedError, match=code):
        guard.release(header(plan, arrays(), **changes), arrays(), plan, SHAPES)
    assert not receipts.read()[0].decision.released


@pytest.mark.parametrize(
    ("policy", "allowed"),
    [(OPEN, True), (SitePolicy(modes=("none",), allow_metrics=False), False)],
)
def test_metrics_leave_only_without_privacy_and_with_permission(
    tmp_path: Path, policy: SitePolicy, allowed: bool
) -> None:
    plan = small_budget_plan(mode="none")
    guard, receipts = gate(tmp_path, policy)
    reply = header(plan, arrays(), metrics={"train_loss": 0.5})
    if allowed:
        guard.release(reply, arrays(), plan, SHAPES, patients=5)
    else:
        with pytest.raises(SmrfedError, match="SMR-E323"):
            guard.release(reply, arrays(), plan, SHAPES, patients=5)
    (receipt,) = receipts.read()
    assert (receipt.decision.released, receipt.decision.metrics) == (allowed, ("train_loss",))


def test_nothing_leaves_without_a_receipt(tmp_path: Path) -> None:
    plan = small_budget_plan()
    (tmp_path / "receipts.jsonl").mkdir()
    guard, _ = gate(tmp_path)
    with pytest.raises(SmrfedError, match="SMR-E327"):
        guard.release(header(plan, arrays()), arrays(), plan, SHAPES)


def test_nothing_leaves_when_the_receipts_were_altered(tmp_path: Path) -> None:
    plan = small_budget_plan()
    guard, receipts = gate(tmp_path)
    guard.release(header(plan, arrays()), arrays(), plan, SHAPES)
    path = tmp_path / "receipts.jsonl"
    path.write_text(path.read_text().replace('"round":1', '"round":2'))
    with pytest.raises(SmrfedError, match="SMR-E326"):
        guard.release(header(plan, arrays()), arrays(), plan, SHAPES)
    with pytest.raises(SmrfedError, match="SMR-E326"):
        receipts.verify()


# The norm that an honest update of SHAPES cannot exceed: values on both sides of it are tried.
_BOUND = update_norm_bound(small_budget_plan(), "a", 15)
_VALUES = (0.0, 0.2 * _BOUND, 1.1 * _BOUND, float("nan"))
_ARRAYS = st.tuples(st.sampled_from([(3, 4), (3,), (12,), ()]), st.sampled_from(_VALUES))
_BODIES = st.one_of(
    st.dictionaries(st.sampled_from(["head.weight", "head.bias", "id"]), _ARRAYS),
    st.fixed_dictionaries(dict.fromkeys(SHAPES, _ARRAYS)),
    st.fixed_dictionaries(
        {
            name: st.tuples(st.just(shape), st.sampled_from(_VALUES))
            for name, shape in SHAPES.items()
        }
    ),
)


@settings(max_examples=50, deadline=None)
@given(_BODIES)
@example({"head.weight": ((3, 4), 0.0), "head.bias": ((3,), 0.2 * _BOUND)})
@example({"head.weight": ((3, 4), 1.1 * _BOUND), "head.bias": ((3,), 0.0)})
def test_any_body_is_released_only_if_its_names_shapes_and_norm_are_those_of_an_honest_update(
    tmp_path_factory: pytest.TempPathFactory, drawn: dict[str, tuple[tuple[int, ...], float]]
) -> None:
    plan = small_budget_plan()
    guard, receipts = gate(tmp_path_factory.mktemp("gate"))
    body: dict[str, Any] = {
        name: np.full(shape, value, np.float32) for name, (shape, value) in drawn.items()
    }
    exact = {name: value.shape for name, value in body.items()} == SHAPES
    norm = np.sqrt(sum(np.square(value, dtype=np.float64).sum() for value in body.values()))
    honest = exact and bool(norm <= _BOUND)  # a NaN is no norm
    try:
        guard.release(header(plan, body), body, plan, SHAPES)
        released = True
    except SmrfedError:
        released = False
    assert released == honest == receipts.read()[-1].decision.released


def test_the_norm_bound_holds_for_honest_noise_and_is_of_its_size() -> None:
    plan = small_budget_plan(training={"local_steps": 3, "learning_rate": 0.2})
    numbers = 5000
    bound = update_norm_bound(plan, "a", numbers)
    rng = np.random.default_rng(0)
    norms = []
    for _ in range(50):
        patients = 40 * plan.privacy.clipping_norm  # everybody, all in one direction
        total = np.zeros(numbers)
        for _ in range(3):
            step = rng.normal(size=numbers) * 4.0 * plan.privacy.clipping_norm
            step[0] += patients
            total += 0.2 * step / (0.5 * 40)
        norms.append(np.linalg.norm(total))
    assert max(norms) < bound < 6 * max(norms)


# Policy


def test_the_default_policy_forbids_training_without_privacy() -> None:
    with pytest.raises(SmrfedError, match="SMR-E311"):
        SitePolicy().admit_plan(small_budget_plan(mode="none"))
    SitePolicy(modes=("none",)).admit_plan(small_budget_plan(mode="none"))


@pytest.mark.parametrize(
    ("plan", "policy", "code"),
    [
        (small_budget_plan(epsilon_cap=11.0), SitePolicy(), "SMR-E312"),
        (small_budget_plan(privacy={"delta": 1e-3}), SitePolicy(), "SMR-E313"),
        (small_budget_plan(noise=0.5, epsilon_cap=2.0), SitePolicy(), "SMR-E315"),
        (small_budget_plan(adaptation={"site_norm": "local"}), SitePolicy(), "SMR-E304"),
        (small_budget_plan(), SitePolicy(max_shared_parameters=14), "SMR-E314"),
        (small_budget_plan(), SitePolicy(max_reply_bytes=59), "SMR-E314"),
    ],
)
def test_a_plan_beyond_a_limit_is_refused_by_that_limit(
    plan: FederationPlan, policy: SitePolicy, code: str
) -> None:
    with pytest.raises(SmrfedError, match=code):
        policy.admit_plan(plan, SHAPES)
    SitePolicy().admit_plan(small_budget_plan(), SHAPES)


@settings(max_examples=60, deadline=None)
@given(
    noise=st.sampled_from([1.0, 2.0, 4.0, 8.0]),
    wanted=st.floats(0.1, 20),
    delta=st.sampled_from([1e-6, 1e-5, 1e-4]),
    cap=st.floats(0.1, 20),
    ceiling=st.sampled_from([1e-6, 1e-5]),
    modes=st.sampled_from([("local",), ("none",), ("local", "none"), ()]),
)
def test_an_admitted_private_plan_is_within_every_limit(
    noise: float, wanted: float, delta: float, cap: float, ceiling: float, modes: tuple[Any, ...]
) -> None:
    plan = small_budget_plan(noise, wanted, privacy={"delta": delta})
    policy = SitePolicy(modes=modes, max_epsilon=cap, max_delta=ceiling)
    needed = epsilon([MechanismUse(noise, 0.5, 5)], delta)
    within = "local" in modes and needed <= wanted <= cap and delta <= ceiling
    try:
        policy.admit_plan(plan)
        admitted = True
    except SmrfedError as error:
        admitted = False
        assert error.code in {"SMR-E311", "SMR-E312", "SMR-E313", "SMR-E315"}  # noqa: PT017
    assert admitted == within


def test_a_policy_is_read_from_toml_and_mistakes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(tomli_w.dumps({"max_epsilon": 3.0, "modes": ["local"]}))
    assert SitePolicy.load(path) == SitePolicy(max_epsilon=3.0)
    for text in ("max_epsilom = 3.0", "max_epsilon = -1", "modes = ['secret']", "x = [", ""):
        path.write_text(text)
        if text:
            with pytest.raises(SmrfedError, match="SMR-E310"):
                SitePolicy.load(path)
    assert SitePolicy.load(path) == SitePolicy()
    with pytest.raises(SmrfedError, match="SMR-E310"):
        SitePolicy.load(tmp_path / "missing.toml")


# Receipts


def decision(number: int) -> Decision:
    return Decision(
        released=True,
        rule="train schema",
        run_id="run",
        round=number,
        kind="train",
        mode="local",
        plan_digest="aa" * 32,
        arrays=2,
        numbers=15,
        bytes=60,
        metrics=(),
        body_sha256="bb" * 32,
        reply_sha256=f"{number:064x}",
        epsilon_after=0.1 * number,
    )


def filled(path: Path, count: int = 4) -> Receipts:
    receipts = Receipts(path)
    for number in range(1, count + 1):
        receipts.append(decision(number))
    return receipts


def test_receipts_are_chained_lines_of_json(tmp_path: Path) -> None:
    receipts = filled(tmp_path / "receipts.jsonl")
    lines = (tmp_path / "receipts.jsonl").read_text().splitlines()
    assert [json.loads(line)["number"] for line in lines] == [1, 2, 3, 4]
    assert receipts.verify() == 4
    read = receipts.read()
    assert all(after.previous == before.digest for before, after in itertools.pairwise(read))


@pytest.mark.parametrize("kind", ["edit", "drop", "shorten", "empty", "delete", "swap", "garbage"])
def test_altered_receipts_are_found(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "receipts.jsonl"
    receipts = filled(path)
    lines = path.read_text().splitlines(keepends=True)
    changed = {
        "edit": [lines[0].replace("0.1", "0.0"), *lines[1:]],
        "drop": [lines[0], *lines[2:]],
        "shorten": lines[:3],
        "empty": [],
        "delete": None,
        "swap": [lines[1], lines[0], *lines[2:]],
        "garbage": [*lines, "{}\n"],
    }[kind]
    if changed is None:
        path.unlink()
    else:
        path.write_text("".join(changed))
    for call in (receipts.verify, lambda: receipts.append(decision(9))):
        with pytest.raises(SmrfedError, match="SMR-E326"):
            call()


def test_a_line_cut_short_by_a_crash_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "receipts.jsonl"
    receipts = filled(path, 2)
    with path.open("a") as file:
        file.write('{"number":3,"time":"20')
    assert receipts.verify() == 2
    receipts.append(decision(3))
    assert [receipt.decision.round for receipt in receipts.read()] == [1, 2, 3]


def append_many(path: Path, first: int) -> None:
    for number in range(first, first + 20):
        Receipts(path).append(decision(number))


def test_processes_append_one_after_the_other(tmp_path: Path) -> None:
    path = tmp_path / "receipts.jsonl"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=append_many, args=(path, first)) for first in (1, 101)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert Receipts(path).verify() == 40
