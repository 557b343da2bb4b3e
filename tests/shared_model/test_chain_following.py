"""Following a chain: only what is new is read, and every change is noticed."""

from __future__ import annotations

from pathlib import Path

from shared_model.chain.following import ChainFollower
from shared_model.chain.lines import ChainedLines, Link


class Word(Link):
    word: str


class Reader:
    def __init__(self, path: Path) -> None:
        self.words: list[str] = []
        self.starts = 0
        self.follower = ChainFollower(path, Word, self.begin, self.take)

    def begin(self) -> None:
        self.words = []
        self.starts += 1

    def take(self, line: Word) -> None:
        self.words.append(line.word)


def chain(path: Path) -> ChainedLines[Word]:
    return ChainedLines(path, Word, lambda found: ValueError(found))


def test_new_lines_are_taken_once_and_half_a_line_waits(tmp_path: Path) -> None:
    path = tmp_path / "chain"
    lines, reader = chain(path), Reader(path)
    assert reader.follower.follow() is None
    for word in ("a", "b"):
        lines.append({"word": word})
    assert reader.follower.follow() is None
    assert reader.words == ["a", "b"]
    starts = reader.starts
    lines.append({"word": "c"})
    whole = path.read_bytes()
    head = (tmp_path / "chain.head").read_bytes()
    (tmp_path / "chain.head").write_text(" ".join(_anchor(reader, 2)))
    path.write_bytes(whole[:-9])
    assert reader.follower.follow() is None
    assert reader.words == ["a", "b"]
    path.write_bytes(whole)
    (tmp_path / "chain.head").write_bytes(head)
    assert reader.follower.follow() is None
    assert reader.words == ["a", "b", "c"]
    assert reader.starts == starts


def _anchor(reader: Reader, number: int) -> tuple[str, str]:
    return next((str(n), digest) for n, digest in reader.follower._recent if n == number)


def test_a_shortened_file_and_a_lost_one_are_told(tmp_path: Path) -> None:
    path = tmp_path / "chain"
    lines, reader = chain(path), Reader(path)
    for word in "abcd":
        lines.append({"word": word})
    assert reader.follower.follow() is None
    kept = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(kept[:2]))
    assert "is gone" in str(reader.follower.follow())
    path.unlink()
    assert "is gone" in str(reader.follower.follow())
    path.write_bytes(b"".join(kept))
    assert reader.follower.follow() is None
    assert reader.words == list("abcd")


def test_a_changed_line_is_told_at_once_be_it_new_or_old(
    tmp_path: Path,
) -> None:
    path = tmp_path / "chain"
    lines, reader = chain(path), Reader(path)
    for word in "abc":
        lines.append({"word": word})
    assert reader.follower.follow() is None
    old = path.read_bytes()
    with path.open("r+b") as file:  # in place: the same inode and size
        file.write(old.replace(b'"word":"a"', b'"word":"x"'))
    assert reader.follower.follow() == "line 1 does not continue the chain"
    with path.open("r+b") as file:
        file.write(old)
    assert reader.follower.follow() is None
    assert reader.words == list("abc")
    with path.open("ab") as file:
        file.write(b'{"number":4}\n')
    assert reader.follower.follow() == "line 4 does not continue the chain"


def test_a_long_chain_whose_anchor_lags_holds(tmp_path: Path) -> None:
    path = tmp_path / "chain"
    lines, reader = chain(path), Reader(path)
    for number in range(5):
        lines.append({"word": str(number)})
    assert reader.follower.follow() is None
    lagging = (tmp_path / "chain.head").read_bytes()
    for number in range(270):
        lines.append({"word": str(number)})
        if number == 180:
            assert reader.follower.follow() is None
    (tmp_path / "chain.head").write_bytes(lagging)
    assert reader.follower.follow() is None
    assert len(reader.words) == 275
