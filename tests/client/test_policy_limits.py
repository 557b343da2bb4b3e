"""Models, plans, keys, statistics, hours and amounts: every limit of the policy, and its number."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from small_plan_only import small_budget_plan

from client.commands.templates import POLICY_TOML
from client.egress.explanation import Circumstances, explain
from client.egress.gate import EgressGate
from client.egress.policy import SitePolicy
from client.egress.receipts import Receipts
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import body_digest, encode_arrays
from shared_model.protocol.messages import RoundReply
from shared_model.protocol.sealed import Sealed, seal

SHAPES = {"head.weight": (3, 4)}
ARRAYS = {"head.weight": np.full((3, 4), 0.01, np.float32)}
KEY = Ed25519PrivateKey.generate()
# A Saturday; the window below is closed.
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
WEEKDAYS = {"days": ["mon"], "start": "08:00", "end": "18:00", "timezone": "UTC"}


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


def policy(**fields: Any) -> SitePolicy:
    return SitePolicy.model_validate(fields)


def reply(plan: FederationPlan, number: int = 1, kind: str = "train") -> RoundReply:
    arrays = {} if kind == "finalise" else ARRAYS
    fields = {
        "run_id": "run",
        "round": number,
        "kind": kind,
        "site": "a",
        "plan_digest": plan.digest,
        "body_sha256": body_digest(encode_arrays(arrays)),
        "instruction_sha256": "00" * 32,
    }
    return RoundReply.model_validate(fields)


def sealed(header: RoundReply) -> Sealed:
    body = encode_arrays({} if header.kind == "finalise" else ARRAYS)
    return seal(header.canonical_json, body, KEY)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"allowed_models": []}, "SMR-E362"),
        ({"allowed_models": ["other"]}, "SMR-E362"),
        ({"allowed_plans": ["0" * 64]}, "SMR-E362"),
        ({"allowed_plans": []}, "SMR-E362"),
        ({"max_epsilon_per_plan": 7.9}, "SMR-E312"),
        ({"max_epsilon_per_plan": 20.0, "max_epsilon": 7.9}, "SMR-E312"),
        ({"allowed_models": ["smrnet"]}, None),
        ({"max_epsilon_per_plan": 8.0}, None),
    ],
)
def test_a_plan_is_held_against_each_limit(fields: dict[str, Any], code: str | None) -> None:
    plan = small_budget_plan()
    if code is None:
        policy(**fields).admit_plan(plan)
        policy(allowed_plans=[plan.digest]).admit_plan(plan)
        return
    with pytest.raises(SmrfedError, match=code):
        policy(**fields).admit_plan(plan)


def test_only_the_listed_coordinators_may_instruct() -> None:
    one = "0123-4567-89ab-cdef-0123-4567-89ab-cdef"
    policy().admit_coordinator(one)
    policy(coordinators=[one]).admit_coordinator(one)
    for listed in ([], [one.replace("0", "f")]):
        with pytest.raises(SmrfedError, match="SMR-E363"):
            policy(coordinators=listed).admit_coordinator(one)


@pytest.mark.parametrize("section", ["evaluation", "calibration", "moments"])
def test_statistics_need_the_hospitals_word(section: str) -> None:
    sections: dict[str, dict[str, Any]] = {
        "evaluation": {"evaluation": {"release_every": 5, "release_noise_multiplier": 30.0}},
        "calibration": {"calibration": {"rule": "prior_free", "noise_multiplier": 30.0}},
        "moments": {"adaptation": {"site_moments": "linear", "moments_noise_multiplier": 30.0}},
    }
    plan = FederationPlan.parse(small_budget_plan().model_dump() | sections[section])
    with pytest.raises(SmrfedError, match="SMR-E364"):
        policy().admit_plan(plan)
    policy(**{f"allow_{section}": True}).admit_plan(plan)


def test_an_update_after_hours_is_held_and_leaves_when_the_door_opens(tmp_path: Path) -> None:
    plan, clock = small_budget_plan(), Clock()
    receipts = Receipts(tmp_path / "receipts.jsonl")
    guard = EgressGate(policy(release_hours=[WEEKDAYS]), receipts, clock)
    header = reply(plan)
    with pytest.raises(SmrfedError, match="SMR-E360") as caught:
        guard.require_open(SHAPES)
    assert str(caught.value.found).endswith("opens at 2026-11-23T08:00Z")
    with pytest.raises(SmrfedError, match="SMR-E360"):
        guard.release(header, ARRAYS, plan, SHAPES)
    with pytest.raises(SmrfedError, match="SMR-E360"):
        guard.hand_over(sealed(header))
    assert [r.decision.released for r in receipts.read()] == [False]
    clock.now = datetime(2026, 11, 23, 8, tzinfo=UTC)
    guard.hand_over(sealed(header))
    guard.hand_over(sealed(header))
    held, left = (r.decision for r in receipts.read())
    assert (held.rule, left.rule) == ("SMR-E360", "train schema, held before")
    assert held.reply_sha256 == left.reply_sha256 == sealed(header).digest.hex()
    # What left may leave again, but not at night.
    clock.now += timedelta(hours=12)
    with pytest.raises(SmrfedError, match="SMR-E360"):
        guard.hand_over(sealed(header))
    assert len(receipts.read()) == 2


def test_an_empty_reply_may_leave_at_any_hour(tmp_path: Path) -> None:
    plan = small_budget_plan()
    receipts = Receipts(tmp_path / "receipts.jsonl")
    guard = EgressGate(policy(release_hours=[WEEKDAYS]), receipts, Clock())
    header = reply(plan, kind="finalise")
    guard.release(header, {}, plan, SHAPES)
    guard.hand_over(sealed(header))
    assert [r.decision.released for r in receipts.read()] == [True]


def test_what_has_no_receipt_is_not_handed_over(tmp_path: Path) -> None:
    plan = small_budget_plan()
    guard = EgressGate(policy(), Receipts(tmp_path / "receipts.jsonl"))
    with pytest.raises(SmrfedError, match="SMR-E322"):
        guard.hand_over(sealed(reply(plan)))
    broken = {"head.weight": np.full((3, 4), np.nan, np.float32)}
    header = reply(plan).model_copy(update={"body_sha256": body_digest(encode_arrays(broken))})
    with pytest.raises(SmrfedError, match="SMR-E321"):
        guard.release(header, broken, plan, SHAPES)
    with pytest.raises(SmrfedError, match="SMR-E322"):
        guard.hand_over(seal(header.canonical_json, encode_arrays(broken), KEY))


@pytest.mark.parametrize("limit", [{"max_releases_per_day": 2}, {"max_bytes_per_day": 2 * 48 + 1}])
def test_only_so_much_leaves_in_a_day(tmp_path: Path, limit: dict[str, int]) -> None:
    plan = small_budget_plan()
    receipts = Receipts(tmp_path / "receipts.jsonl")
    clock = Clock()
    guard = EgressGate(policy(**limit), receipts, clock)
    clock.now = datetime.now(UTC)
    for number in (1, 2):
        guard.release(reply(plan, number), ARRAYS, plan, SHAPES)
    with pytest.raises(SmrfedError, match="SMR-E361") as caught:
        guard.require_open(SHAPES)
    opening = str(caught.value.found).rsplit(" ", 1)[1]
    with pytest.raises(SmrfedError, match="SMR-E361"):
        guard.release(reply(plan, 3), ARRAYS, plan, SHAPES)
    # A repetition is no new release, and an empty reply no data.
    guard.hand_over(sealed(reply(plan, 2)))
    guard.release(reply(plan, 3, "finalise"), {}, plan, SHAPES)
    clock.now = datetime.fromisoformat(opening)
    guard.hand_over(sealed(reply(plan, 3)))
    assert [r.decision.released for r in receipts.read()] == [True, True, False, True, True]


def test_more_than_a_day_may_hold_never_opens(tmp_path: Path) -> None:
    guard = EgressGate(policy(max_bytes_per_day=47), Receipts(tmp_path / "receipts.jsonl"))
    with pytest.raises(SmrfedError, match="opens at never"):
        guard.require_open(SHAPES)


@pytest.mark.parametrize(("patients", "leaves"), [(None, False), (9, False), (10, True)])
def test_without_privacy_small_cells_stay(
    tmp_path: Path, patients: int | None, leaves: bool
) -> None:
    plan = small_budget_plan(mode="none")
    rules = policy(modes=["none"], allow_metrics=True, allow_evaluation=True)
    guard = EgressGate(rules, Receipts(tmp_path / "receipts.jsonl"))
    with_metrics = reply(plan).model_copy(update={"metrics": {"train_loss": 0.5}})
    for header in (with_metrics, reply(plan, 2, "evaluate")):
        if leaves:
            guard.release(header, ARRAYS, plan, SHAPES, patients=patients)
        else:
            with pytest.raises(SmrfedError, match="SMR-E365"):
                guard.release(header, ARRAYS, plan, SHAPES, patients=patients)
    # An update without metrics counts nobody.
    guard.release(reply(plan, 3), ARRAYS, plan, SHAPES)


@pytest.mark.parametrize("kind", ["evaluate", "calibrate", "moments"])
def test_a_reply_of_a_kind_that_the_hospital_does_not_allow_stays(
    tmp_path: Path, kind: str
) -> None:
    plan = small_budget_plan()
    guard = EgressGate(policy(), Receipts(tmp_path / "receipts.jsonl"))
    with pytest.raises(SmrfedError, match="SMR-E364"):
        guard.release(reply(plan, 1, kind), ARRAYS, plan, SHAPES)


def test_the_template_is_the_default_policy_and_its_comments_are_fields(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(POLICY_TOML)
    assert SitePolicy.load(path) == SitePolicy()
    named = {line.lstrip("# ").split(" ")[0] for line in POLICY_TOML.splitlines() if " = " in line}
    named = (named - {"days", "start", "end", "timezone"}) | {"release_hours"}
    assert named == set(SitePolicy.model_fields)


def around(**changes: Any) -> Circumstances:
    facts: dict[str, Any] = {
        "site": "a",
        "coordinator": "0123-4567-89ab-cdef-0123-4567-89ab-cdef",
        "accepted": False,
        "outgoing": SHAPES,
        "spent": 0.0,
        "now": NOON,
    }
    return Circumstances(**(facts | changes))


def test_the_explanation_refuses_what_the_policy_refuses_and_says_why() -> None:
    plan = small_budget_plan()
    lines = explain(policy(), plan, around())
    assert {line.verdict for line in lines} == {"allowed", "person", "note"}
    assert any("12 numbers, 48 bytes" in line.asks for line in lines)
    rules = policy(modes=["none"], max_epsilon=0.1, max_shared_parameters=2, coordinators=[])
    refused = {line.code for line in explain(rules, plan, around(site="b", spent=1.0))}
    assert refused == {
        None, "SMR-E104", "SMR-E302", "SMR-E311", "SMR-E312", "SMR-E314", "SMR-E363"
    }  # fmt: skip
    closed = explain(policy(release_hours=[WEEKDAYS]), plan, around(accepted=True, outgoing=None))
    when = next(line for line in closed if line.subject == "data may leave")
    assert when.asks == "next at 2026-11-23 08:00 UTC"
    assert not any(line.verdict == "person" for line in closed)


def test_a_policy_that_changed_stops_everything_until_it_is_read_again(tmp_path: Path) -> None:
    plan, path = small_budget_plan(), tmp_path / "policy.toml"
    path.write_text("max_epsilon = 10.0\n")
    receipts = Receipts(tmp_path / "receipts.jsonl")
    guard = EgressGate(SitePolicy.load(path), receipts)
    guard.require_open(SHAPES)
    guard.release(reply(plan), ARRAYS, plan, SHAPES)
    guard.hand_over(sealed(reply(plan)))
    acts: tuple[Callable[[], None], ...] = (
        lambda: guard.require_open(SHAPES),
        lambda: guard.hand_over(sealed(reply(plan))),
        lambda: guard.release(reply(plan, 2), ARRAYS, plan, SHAPES),
    )
    for change in (lambda: path.write_text("modes = []\n"), path.unlink):
        change()
        for act in acts:
            with pytest.raises(SmrfedError, match="SMR-E316"):
                act()
    assert [r.decision.rule for r in receipts.read()] == ["train schema", "SMR-E316", "SMR-E316"]
    path.write_text("max_epsilon = 10.0\n")
    for act in acts:
        act()
