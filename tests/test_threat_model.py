"""Every claim of the threat model names a test, and every test that it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "threat_model.md").read_text(encoding="utf-8")
COVERED = PAGE.split("## What is covered")[1].split("\n## ")[0]
CLAIMS = [
    line
    for line in COVERED.splitlines()
    if line.startswith("|") and not line.startswith(("| claim", "| ---"))
]


def existing() -> set[str]:
    found: set[str] = set()
    for file in (ROOT / "tests").rglob("test_*.py"):
        found |= set(re.findall(r"^def (test_\w+)", file.read_text(encoding="utf-8"), re.M))
    return found


def test_every_claim_names_a_test() -> None:
    assert len(CLAIMS) > 20
    assert [claim for claim in CLAIMS if not re.search(r"`test_\w+`", claim)] == []


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(test_\w+)`", PAGE))))
def test_a_named_test_exists(name: str) -> None:
    assert name in existing()


def test_it_says_what_is_not_covered() -> None:
    assert len(PAGE.split("## What is not covered")[1].split("\n## ")[0].split("\n- ")) > 5
