"""Every error number has a page that says how to resolve it, and every page has an error."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = {page.stem: page for page in (ROOT / "docs" / "errors").glob("SMR-E*.md")}


def raised_codes() -> set[str]:
    codes: set[str] = set()
    for folder in ("client", "server", "shared_model", "simulations"):
        for source in (ROOT / folder).rglob("*.py"):
            codes |= set(re.findall(r'"(SMR-E\d{3})"', source.read_text(encoding="utf-8")))
    return codes


def test_every_code_has_a_page_and_every_page_a_code() -> None:
    assert raised_codes() == set(PAGES)


@pytest.mark.parametrize("code", sorted(PAGES))
def test_a_page_says_what_happened_and_what_to_do(code: str) -> None:
    text = PAGES[code].read_text(encoding="utf-8")
    assert text.startswith(f"# {code}: ")
    assert "## What happened" in text
    assert len(text.split("## How to resolve")[1].strip()) > 20
