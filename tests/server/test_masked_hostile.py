"""A coordinator that asks what it must not, and sites that answer what they must not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from masked_toys import HONEST, INITIAL, MaskedToys, silent

from client.agent.instructions import admit_instruction
from server.rounds.transport import Failure
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan
from shared_model.protocol.arrays import (
    body_digest,
    decode_integers,
    encode_arrays,
    encode_integers,
)
from shared_model.protocol.messages import RoundInstruction, RoundReply, decode_header
from shared_model.protocol.sealed import Sealed, seal

Answer = Sealed | Failure | None


def forged(toys: MaskedToys, message: Sealed, body: bytes | None = None, **changes: Any) -> Sealed:
    """The coordinator's own question in other words, signed by it."""
    header = decode_header(RoundInstruction, message)
    body = message.body if body is None else body
    order = header.unmasking or header.masking
    assert order is not None
    field = "unmasking" if header.unmasking is not None else "masking"
    said = header.model_dump() | {field: order.model_dump() | changes}
    said["body_sha256"] = body_digest(body)
    return seal(RoundInstruction(**said).canonical_json, body, toys.coordinator)


def code_of(toys: MaskedToys, site: str, message: Sealed) -> str:
    try:
        toys.agent(site).handle(message)
    except SmrfedError as error:
        return error.code
    return "answered"


def trimmed(message: Sealed, survivors: tuple[str, ...]) -> bytes:
    """The body of an unmask question with the confirmations of these survivors only."""
    arrays = decode_integers(message.body)
    kept = {
        name: value for name, value in arrays.items()
        if name.startswith("share/") or name.split("/")[1] in survivors
    }  # fmt: skip
    return encode_integers(kept)


def test_a_site_helps_to_open_one_sum_a_round_and_no_small_or_foreign_one(tmp_path: Path) -> None:
    toys = MaskedToys(tmp_path / "f")
    found: dict[str, str] = {}

    def hostile(site: str, header: RoundInstruction, message: Sealed) -> Answer:
        if (site, header.kind, header.round) == ("a", "unmask", 1):
            few, without = ("a", "b"), ("b", "c", "d")
            three = ("a", "b", "c")
            for name, survivors in (("few", few), ("without", without)):
                other = forged(toys, message, trimmed(message, survivors), survivors=survivors)
                found[name] = code_of(toys, "a", other)
            body = trimmed(message, three)
            other = forged(toys, message, body, survivors=three, maskers=three)
            found["other maskers"] = code_of(toys, "a", other)
            found["honest"] = code_of(toys, "a", message)
            toys.kill("a")
            other = forged(toys, message, body, survivors=three)
            found["second list"] = code_of(toys, "a", other)
        return HONEST

    assert toys.drive(hostile).body == toys.expected()
    assert found == {
        "few": "SMR-E135", "without": "SMR-E135", "other maskers": "SMR-E119",
        "honest": "answered", "second list": "SMR-E403",
    }  # fmt: skip


def test_survivors_need_their_own_signatures(tmp_path: Path) -> None:
    """``b`` sent no vector, so nothing with its signature can be shown."""
    toys = MaskedToys(tmp_path / "f")
    found: list[str] = []

    def hostile(site: str, header: RoundInstruction, message: Sealed) -> Answer:
        if (site, header.kind, header.round) == ("b", "train", 1):
            return None
        if (site, header.kind, header.round) == ("a", "unmask", 1):
            arrays = decode_integers(message.body)
            arrays["confirmation/b"] = arrays["confirmation/c"]
            every = ("a", "b", "c", "d")
            body = encode_integers(arrays)
            found.append(code_of(toys, "a", forged(toys, message, body, survivors=every)))
        return HONEST

    assert toys.drive(hostile).body == toys.expected({1: {"a", "c", "d"}})
    assert found == ["SMR-E136"]


def test_a_site_that_sent_no_vector_is_not_used_to_open_the_sum(tmp_path: Path) -> None:
    toys = MaskedToys(tmp_path / "f")
    found: list[str] = []

    def hostile(site: str, header: RoundInstruction, message: Sealed) -> Answer:
        if (site, header.kind, header.round) == ("b", "train", 1):
            return None
        if (site, header.kind, header.round) == ("a", "unmask", 1):
            said = header.model_dump() | {"site": "b", "acknowledged": None}
            other = seal(RoundInstruction(**said).canonical_json, message.body, toys.coordinator)
            found.append(code_of(toys, "b", other))
        return HONEST

    toys.drive(hostile)
    assert found == ["SMR-E458"]


def test_an_order_for_too_few_sites_is_refused_before_anything_is_charged(tmp_path: Path) -> None:
    toys = MaskedToys(tmp_path / "f", sections={"training": {"rounds": 1}})
    found: list[object] = []

    def hostile(site: str, header: RoundInstruction, message: Sealed) -> Answer:
        if (site, header.kind) == ("a", "train"):
            found.append(code_of(toys, "a", forged(toys, message, maskers=("a", "b"))))
            found.append(code_of(toys, "a", forged(toys, message, first_round=2)))
            found.append(len(toys.agent("a").ledger.entries()))
        return HONEST

    assert toys.drive(hostile).body == toys.expected()
    assert found == ["SMR-E134", "SMR-E455", 0]


@pytest.mark.parametrize("mode", ["local", "distributed"])
def test_an_exchange_that_the_plan_does_not_have_is_refused(tmp_path: Path, mode: str) -> None:
    plan = MaskedToys(tmp_path / "f").plan
    if mode == "local":
        data = plan.model_dump(mode="json", exclude={"secure_aggregation"})
        data["privacy"]["mode"] = "local"
        for site in data["federation"]["sites"]:
            site.pop("signing_key")
        plan = FederationPlan.parse(data)
    body = encode_arrays({})
    order = {"first_round": 1, "maskers": ("a", "b", "c")}
    wrong = {
        "local": [("keys", {}), ("shares", {}), ("train", {"masking": order}),
                  ("unmask", {"unmasking": order | {"survivors": ()}})],
        "distributed": [("train", {}), ("unmask", {}), ("keys", {"masking": order}),
                        ("finalise", {"masking": order})],
    }  # fmt: skip
    for kind, fields in wrong[mode]:
        header = RoundInstruction.model_validate(
            {"run_id": "r", "round": 1, "kind": kind, "site": "a", "plan_digest": plan.digest,
             "body_sha256": body_digest(body), **fields}
        )  # fmt: skip
        with pytest.raises(SmrfedError, match="SMR-E457"):
            admit_instruction(header, plan, "a")


def spoilt(
    toys: MaskedToys, message: Sealed, site: str, spoil: Callable[[dict[str, Any]], None]
) -> Sealed:
    """The site's own answer with other arrays, signed by the site."""
    reply = toys.agent(site).handle(message)
    arrays = dict(decode_integers(reply.body))
    spoil(arrays)
    body = encode_integers(arrays)
    header = decode_header(RoundReply, reply).model_copy(update={"body_sha256": body_digest(body)})
    return seal(header.canonical_json, body, toys.agent(site).key)


def flip_a_share(arrays: dict[str, Any]) -> None:
    arrays["self/a"] = arrays["self/a"] ^ np.array([0] * 32 + [1], np.uint8)


def shorten(arrays: dict[str, Any]) -> None:
    arrays["masked"] = arrays["masked"][:-1]


def unsign(arrays: dict[str, Any]) -> None:
    arrays["confirmation"] = arrays["confirmation"] ^ np.uint8(1)


def exchange_a_key(arrays: dict[str, Any]) -> None:
    arrays["share_key"] = np.zeros(32, np.uint8)


@pytest.mark.parametrize(
    ("kind", "spoil", "code"),
    [("train", shorten, "SMR-E119"), ("train", unsign, "SMR-E136"),
     ("keys", exchange_a_key, "SMR-E131")],
)  # fmt: skip
def test_a_site_whose_answer_is_wrong_is_left_out(
    tmp_path: Path, kind: str, spoil: Callable[[dict[str, Any]], None], code: str
) -> None:
    toys = MaskedToys(tmp_path / "f", sections={"training": {"rounds": 1}})

    def hostile(site: str, header: RoundInstruction, message: Sealed) -> Answer:
        if (site, header.kind) == ("b", kind):
            return spoilt(toys, message, "b", spoil)
        return HONEST

    result = toys.drive(hostile)
    assert result.body == toys.expected({1: {"a", "c", "d"}})
    assert code in result.history[0].set_aside["b"]


def test_a_wrong_share_is_worked_around_and_its_sender_named(tmp_path: Path) -> None:
    toys = MaskedToys(tmp_path / "f", sections={"training": {"rounds": 1}})

    def hostile(site: str, header: RoundInstruction, message: Sealed) -> Answer:
        if (site, header.kind) == ("b", "unmask"):
            return spoilt(toys, message, "b", flip_a_share)
        return HONEST

    result = toys.drive(hostile)
    assert result.body == toys.expected()
    (unmasked,) = [one for one in result.history[0].around if one.kind == "unmask"]
    assert unmasked.set_aside["b"].startswith("SMR-E139")


def test_too_many_wrong_shares_void_the_round(tmp_path: Path) -> None:
    toys = MaskedToys(tmp_path / "f", sections={"training": {"rounds": 1}})

    def hostile(site: str, header: RoundInstruction, message: Sealed) -> Answer:
        if site in ("b", "c") and (header.kind, header.round) == ("unmask", 1):
            return spoilt(toys, message, site, flip_a_share)
        return HONEST

    result = toys.drive(hostile)
    assert "SMR-E139" in str(result.history[0].void)
    assert result.body == toys.expected({1: ()})


def test_a_late_vector_is_not_added_to_a_sum_that_is_being_opened(tmp_path: Path) -> None:
    toys = MaskedToys(tmp_path / "f", sections={"training": {"rounds": 2}})
    result = toys.drive(silent(("d", "train", 1)))
    assert result.body == toys.expected({1: {"a", "b", "c"}})


def test_nothing_but_the_schema_leaves(tmp_path: Path) -> None:
    """The gate looks at names, types and sizes of its own accord, and keeps a receipt."""
    toys = MaskedToys(tmp_path / "f", sections={"training": {"rounds": 1}})
    agent = toys.agent("a")
    masked = {"masked": np.zeros(24, np.uint64), "confirmation": np.zeros(64, np.uint8)}
    shapes = {name: value.shape for name, value in INITIAL.items()}

    def refusal(kind: str, arrays: dict[str, Any], **order: Any) -> str:
        body = encode_integers(arrays)
        reply = RoundReply.model_validate(
            {"run_id": "r", "round": 1, "kind": kind, "site": "a", "plan_digest": toys.plan.digest,
             "body_sha256": body_digest(body), "instruction_sha256": "0" * 64}
        )  # fmt: skip
        try:
            agent.gate.release(reply, arrays, toys.plan, shapes, **order)
        except SmrfedError as error:
            return error.code
        return "released"

    assert refusal("train", masked) == "released"
    assert refusal("train", masked | {"masked": np.zeros(25, np.uint64)}) == "SMR-E320"
    assert refusal("train", masked | {"norm": np.zeros(1, np.uint64)}) == "SMR-E320"
    assert refusal("train", {"masked": masked["masked"]}) == "SMR-E320"
    assert refusal("keys", {"share_key": np.zeros(32, np.uint8)}) == "SMR-E320"
    assert refusal("shares", {"share/a": np.zeros(82, np.uint8)}) == "SMR-E320"
    assert refusal("unmask", {"self/b": np.zeros(33, np.uint8)}) == "SMR-E320"
    decisions = [receipt.decision for receipt in agent.receipts.read()]
    assert [one.released for one in decisions] == [True] + [False] * 6
