"""The coverage page names tests and files that exist, and has every row."""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "coverage.md").read_text(encoding="utf-8")
ROWS = [*range(1, 38), 45, 53, *range(56, 64)]
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))
FILES = sorted(
    set(re.findall(r"`((?:docs|tests|client|server|shared_model|simulations)/[\w/.]+)`", PAGE))
)
LINES = {
    int(found[1]): line
    for line in PAGE.splitlines()
    if (found := re.match(r"\| (\d+) \|", line)) is not None
}


@lru_cache
def functions_in(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize(("path", "name"), TESTS)
def test_a_named_test_exists(path: str, name: str) -> None:
    assert name.startswith("test_")
    assert name in functions_in(path)


@pytest.mark.parametrize("path", FILES)
def test_a_named_file_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_every_row_is_there_with_a_state_and_a_check() -> None:
    assert sorted(LINES) == ROWS
    for number, line in LINES.items():
        _, _, _, _, state, checks, _ = re.split(r"(?<!\\)\|", line)
        assert state.strip() in {"covered", "partly", "not covered"}, number
        if state.strip() != "not covered":
            assert re.search(r"`(tests|docs)/|\brows?\b", checks), number


def test_a_page_that_names_what_is_gone_would_be_noticed() -> None:
    assert "test_there_is_no_such_test" not in functions_in("tests/test_coverage_page.py")
    assert len(TESTS) > 80
