"""Every claim of the threat model and of the trust page names a test that exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from shared_model.privacy.section import PrivacyMode

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "threat_model.md").read_text(encoding="utf-8")
COVERED = PAGE.split("## What is covered")[1].split("\n## ")[0]
CLAIMS = [
    line
    for line in COVERED.splitlines()
    if line.startswith("|") and not line.startswith(("| claim", "| ---"))
]

TRUST = (ROOT / "docs" / "trust.md").read_text(encoding="utf-8")
#: Rows of the trust page's tables of claims: two columns, the second of tests.
TRUST_CLAIMS = re.findall(
    r"^\| (?!claim |---)[^|]+\|[^|]*\|$",
    "".join(re.findall(r"^\| claim \| tests \|\n(?:\|.*\n)+", TRUST, re.M)),
    re.M,
)


def existing() -> set[str]:
    found: set[str] = set()
    for file in (ROOT / "tests").rglob("test_*.py"):
        found |= set(re.findall(r"^def (test_\w+)", file.read_text(encoding="utf-8"), re.M))
    return found


def test_every_claim_names_a_test() -> None:
    assert len(CLAIMS) > 20
    assert [claim for claim in CLAIMS if not re.search(r"`test_\w+`", claim)] == []


def test_every_claim_about_trust_names_a_test() -> None:
    assert len(TRUST_CLAIMS) > 20
    assert [claim for claim in TRUST_CLAIMS if not re.search(r"`test_\w+`", claim)] == []


def test_the_trust_page_treats_every_mode_and_every_message() -> None:
    for mode in get_args(PrivacyMode):
        assert f"### `{mode}`" in TRUST
    assert "### Whole hospitals" in TRUST
    for kind in ("keys", "shares", "train", "unmask"):
        assert re.search(rf"^\| `{kind}`", TRUST, re.M)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(test_\w+)`", PAGE + TRUST))))
def test_a_named_test_exists(name: str) -> None:
    assert name in existing()


def test_it_says_what_is_not_covered() -> None:
    assert len(PAGE.split("## What is not covered")[1].split("\n## ")[0].split("\n- ")) > 5
