"""Tables of live pages: in a narrow window every row becomes a card that names its columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Field:
    """A cell: text, a smaller line below it, a link, and HTML of ours (a tag, a drawing)."""

    text: str = ""
    small: str = ""
    link: str = ""
    drawn: str = ""
    left: bool = False


def stack(header: Sequence[str], rows: Sequence[Sequence[Field | str]], caption: str) -> str:
    """The table; its first column heads the rows; ``caption`` is read, not seen."""
    left = [
        any(not isinstance(row[i], str) and row[i].left for row in rows)  # type: ignore[union-attr]
        for i in range(len(header))
    ]
    head = "".join(
        f'<th scope="col"{_left(left[i])}>{escape(name)}</th>' for i, name in enumerate(header)
    )
    body = []
    for row in rows:
        first, *rest = row
        cells = "".join(
            f'<td data-name="{escape(name)}"{_class(cell, aside)}>{_inside(cell)}</td>'
            for name, cell, aside in zip(header[1:], rest, left[1:], strict=True)
        )
        body.append(f'<tr><th class="left" scope="row">{_inside(first)}</th>{cells}</tr>')
    return (
        f'<div class="scroll" role="region" aria-label="{escape(caption)}" tabindex="0">'
        f'<table class="stack" aria-label="{escape(caption)}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def tag(word: str, kind: str) -> str:
    """A word in a box: ``good``, ``bad``, ``busy`` or ``idle``; not the colour alone says it."""
    return f'<span class="tag {kind}">{escape(word)}</span>'


def _inside(cell: Field | str) -> str:
    if isinstance(cell, str):
        return escape(cell)
    text = escape(cell.text)
    if cell.link:
        text = f'<a href="{escape(cell.link)}">{text}</a>'
    below = f"<small>{escape(cell.small)}</small>" if cell.small else ""
    return f"{text}{cell.drawn}{below}"


def _left(aside: bool) -> str:
    return ' class="left"' if aside else ""


def _class(cell: Field | str, aside: bool) -> str:
    empty = cell == "" if isinstance(cell, str) else not (cell.text or cell.drawn or cell.small)
    kinds = [name for name, on in (("left", aside), ("none", empty)) if on]
    return f' class="{" ".join(kinds)}"' if kinds else ""
