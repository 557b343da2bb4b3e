"""The token's string: what goes in comes out, and nothing else is taken."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_model.enrolment.token import JoinToken
from shared_model.errors import SmrfedError

_HEX = st.text("0123456789abcdef", min_size=64, max_size=64)
_TOKENS = st.builds(
    JoinToken,
    address=st.one_of(
        st.builds(
            "{}:{}".format,
            st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9.-]{0,60}\Z"),
            st.integers(1, 65535),
        ),
        st.just("[2001:db8::1]:443"),
    ),
    authority_sha256=_HEX,
    secret=_HEX,
    site=st.from_regex(r"\A[a-z0-9][a-z0-9-]{0,30}\Z"),
    expires_at=st.integers(0, 2**40 - 1),
)


@given(_TOKENS, st.lists(st.integers(0, 250), max_size=5))
def test_a_token_survives_pasting(token: JoinToken, breaks: list[int]) -> None:
    text = token.encode()
    for place in breaks:
        text = f"{text[:place]}\n {text[place:]}"
    assert JoinToken.decode(text) == token


@given(_TOKENS, st.data())
def test_a_changed_token_is_not_read(token: JoinToken, data: st.DataObject) -> None:
    text = token.encode()
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from([c for c in "abcXYZ019-_=." if c != text[place]]))
    with pytest.raises(SmrfedError, match="SMR-E461"):
        JoinToken.decode(text[:place] + other + text[place + 1 :])


@given(_TOKENS, st.data())
def test_a_cut_token_is_not_read(token: JoinToken, data: st.DataObject) -> None:
    text = token.encode()
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start, len(text) - (start == 0)))
    with pytest.raises(SmrfedError, match="SMR-E461"):
        JoinToken.decode(text[start:end])


@given(st.one_of(st.text(), st.text().map(lambda text: "smrfed1-" + text)))
def test_any_text_is_refused_by_number(text: str) -> None:
    with pytest.raises(SmrfedError, match="SMR-E461"):
        JoinToken.decode(text)


@given(_TOKENS)
def test_an_error_repeats_no_secret(token: JoinToken) -> None:
    with pytest.raises(SmrfedError) as raised:
        JoinToken.decode(token.encode() + "A")
    assert token.secret not in str(raised.value)
    assert token.encode()[8:] not in str(raised.value)


def test_a_token_is_fresh_until_it_expires() -> None:
    token = JoinToken.issue("fl.example.org:443", "a" * 64, "north", valid_s=60)
    assert token.expires_at - time.time() < 61
    token.require_fresh()
    token.require_site("north")
    other = JoinToken.issue("fl.example.org:443", "a" * 64, "north", valid_s=60)
    assert other.secret != token.secret
    assert other.secret_sha256 != token.secret_sha256
    with pytest.raises(SmrfedError, match="SMR-E462"):
        token.model_copy(update={"expires_at": 5}).require_fresh()
    with pytest.raises(SmrfedError, match="SMR-E462"):
        token.require_site("south")
