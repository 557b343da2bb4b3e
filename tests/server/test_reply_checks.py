from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_federation import COORDINATOR_KEY, SHAPES, ToySite, key_of

from server.rounds.checks import Question, authenticate, check_update
from shared_model.errors import SmrfedError
from shared_model.protocol.arrays import body_digest, encode_arrays
from shared_model.protocol.messages import RoundInstruction
from shared_model.protocol.sealed import seal

Result = TypeVar("Result")
GOOD = encode_arrays({name: np.full(shape, 0.5, np.float32) for name, shape in SHAPES.items()})


def question() -> Question:
    instruction = RoundInstruction(
        run_id="toy-run",
        round=3,
        kind="train",
        site="a",
        plan_digest="1" * 64,
        body_sha256=body_digest(GOOD),
    )
    sealed = seal(instruction.canonical_json, GOOD, COORDINATOR_KEY)
    return Question(instruction, sealed, key_of("a").public_key())


def outcome(check: Callable[[], Result]) -> tuple[str | None, Result | None]:
    """The number of the error, or the result; any other exception fails the test."""
    try:
        return None, check()
    except SmrfedError as error:
        return error.code, None


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_arrays_give_numbered_errors_only(data: st.DataObject) -> None:
    body = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 6))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(body)))
    damaged = bytes(body[:cut]) + data.draw(st.binary(max_size=40))
    code, update = outcome(lambda: check_update(damaged, SHAPES, 1e6))
    assert code in {None, *(f"SMR-E{n}" for n in (115, 510, 515, 516, 517, 518))}
    if update is not None:
        assert {name: value.shape for name, value in update.items()} == SHAPES


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_strange_headers_signed_by_the_site_give_numbered_errors_only(data: st.DataObject) -> None:
    asked, site = question(), ToySite("a")
    header = json.loads(site.sign(asked.sealed, GOOD).header)
    field = data.draw(st.sampled_from([*sorted(header), "surplus"]))
    value = data.draw(JSON)
    changed = header | {field: value}
    text = json.dumps(data.draw(st.sampled_from([changed, value, [changed]])))
    reply = seal(text.encode("utf-8", "surrogatepass"), GOOD, site.key)
    code, read = outcome(lambda: authenticate(reply, asked))
    assert code in {None, "SMR-E116", "SMR-E117", "SMR-E512", "SMR-E513"}
    if read is not None:
        assert (read.round, read.site) == (3, "a")


def test_an_honest_reply_passes_unchanged() -> None:
    asked = question()
    reply = ToySite("a").sign(asked.sealed, GOOD)
    assert authenticate(reply, asked).instruction_sha256 == asked.sealed.digest.hex()
    update = check_update(reply.body, SHAPES, None)
    assert encode_arrays(update) == GOOD


def test_the_norm_is_that_of_the_whole_update() -> None:
    norm = 0.5 * np.sqrt(sum(np.prod(shape) for shape in SHAPES.values()))
    check_update(GOOD, SHAPES, norm * 1.0001)
    with pytest.raises(SmrfedError, match="SMR-E518"):
        check_update(GOOD, SHAPES, norm * 0.9999)
