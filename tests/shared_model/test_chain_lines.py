"""Hash-chained lines in memory that does not grow, beside other writers and vandals."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from shared_model.chain.lines import ChainedLines, Link


class Word(Link):
    word: str


def chain(path: Path) -> ChainedLines[Word]:
    return ChainedLines(path, Word, lambda found: ValueError(found))


def written(path: Path, count: int = 3) -> ChainedLines[Word]:
    lines = chain(path)
    for number in range(count):
        lines.append({"word": f"w{number}"})
    return lines


def test_two_writers_continue_each_other(tmp_path: Path) -> None:
    one, two = chain(tmp_path / "chain"), chain(tmp_path / "chain")
    for number in range(6):
        (one, two)[number % 2].append({"word": f"w{number}"})
    for lines in (one, two, chain(tmp_path / "chain")):
        assert [line.word for line in lines.read()] == [f"w{number}" for number in range(6)]


def test_lines_are_found_by_what_they_name(tmp_path: Path) -> None:
    lines = written(tmp_path / "chain", 12)
    assert [line.number for line in lines.naming('"w1"')] == [2]
    assert [line.number for line in lines.naming("w1")] == [2, 11, 12]
    assert lines.naming("absent") == ()
    assert chain(tmp_path / "none").naming("w1") == ()


def test_half_a_line_is_dropped_by_the_next_append(tmp_path: Path) -> None:
    path = tmp_path / "chain"
    written(path)
    path.write_bytes(path.read_bytes() + b'{"number":4,"wo')
    again = chain(path)
    assert len(again.read()) == 3
    again.append({"word": "next"})
    assert [line.word for line in chain(path).read()] == ["w0", "w1", "w2", "next"]


def first_line_changed(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"w0", b"x0"))


def shortened(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.read_bytes().index(b"\n") + 1])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def removed(path: Path) -> None:
    path.unlink()


def anchored_elsewhere(path: Path) -> None:
    path.with_name("chain.head").write_text(f"2 {'0' * 64}")


def replaced_by_another(path: Path) -> None:
    written(path.with_name("other"), 4)
    path.write_bytes(path.with_name("other").read_bytes())


VANDALS = (
    first_line_changed, shortened, emptied, removed, anchored_elsewhere, replaced_by_another,
)  # fmt: skip


@pytest.mark.parametrize("vandal", VANDALS)
@pytest.mark.parametrize("act", ["read", "naming", "append"])
def test_a_change_is_noticed_while_the_writer_lives(
    tmp_path: Path, vandal: Callable[[Path], None], act: str
) -> None:
    lines = written(tmp_path / "chain")
    before = lines.read()
    vandal(tmp_path / "chain")
    acts: dict[str, Callable[[], object]] = {
        "read": lines.read,
        "naming": lambda: lines.naming("w1"),
        "append": lambda: lines.append({"word": "more"}),
    }
    for _ in range(2):
        with pytest.raises(ValueError, match=r"chain|gone"):
            acts[act]()
    assert len(before) == 3


def test_an_older_anchor_that_holds_is_no_problem(tmp_path: Path) -> None:
    path = tmp_path / "chain"
    lines = written(path, 2)
    older = path.with_name("chain.head").read_bytes()
    lines.append({"word": "w2"})
    path.with_name("chain.head").write_bytes(older)
    assert len(lines.read()) == 3
    assert lines.append({"word": "w3"}).number == 4


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    lines = chain(tmp_path / "chain")
    tracemalloc.start()
    try:
        for number in range(300):
            lines.append({"word": "x" * 500})
            if number == 100:
                before = tracemalloc.get_traced_memory()[0]
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert after - before < 20_000
