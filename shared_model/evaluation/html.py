"""The few HTML pieces that pages are made of; every text is escaped here, once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template


@dataclass(frozen=True)
class Cell:
    """A table cell: the figure, and smaller below it its interval or number, and a note."""

    text: str
    small: str = ""
    note: str = ""
    left: bool = False


Row = Sequence[Cell | str]


def paragraph(text: str, kind: str = "") -> str:
    """Text of one paragraph."""
    return f"<p{_class(kind)}>{escape(text)}</p>"


def table(header: Sequence[Cell | str], rows: Sequence[Row], bold: Sequence[bool] = ()) -> str:
    """A table that scrolls sideways on a small screen; the first column heads the rows."""
    head = "".join(f'<th scope="col"{_side(cell)}>{_inside(cell)}</th>' for cell in header)
    body = []
    for number, row in enumerate(rows):
        marked = ' class="bold"' if number < len(bold) and bold[number] else ""
        first, *rest = row
        cells = "".join(f"<td{_side(c)}>{_inside(c)}</td>" for c in rest)
        body.append(f'<tr{marked}><th class="left" scope="row">{_inside(first)}</th>{cells}</tr>')
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def figure(drawings: Sequence[str | None], caption: str = "", *, wide: bool = True) -> str:
    """SVG pictures side by side, with a caption; nothing where there are none."""
    shown = [one for one in drawings if one]
    if not shown:
        return ""
    told = f'<figcaption class="note">{escape(caption)}</figcaption>' if caption else ""
    kind = "wide" if wide else "row"
    return f'<figure><div class="{kind}">{"".join(shown)}</div>{told}</figure>'


def section(anchor: str, title: str, *parts: str) -> str:
    """A section; nothing where it would be empty."""
    inside = "".join(parts)
    if not inside:
        return ""
    return f'<section id="{anchor}"><h2>{escape(title)}</h2>{inside}</section>'


def heading(text: str) -> str:
    """A heading within a section."""
    return f"<h3>{escape(text)}</h3>"


def items(texts: Sequence[str]) -> str:
    """A list."""
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>" if texts else ""


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Names and values."""
    inside = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs)
    return f'<dl class="facts">{inside}</dl>'


def headline(sentences: Sequence[tuple[str, str]]) -> str:
    """The box with what the figures say in words: verdict and sentence."""
    shown = {"against": "unfavourable", "stated": "stated"}
    inside = "".join(
        f'<li><span class="tag {verdict.replace(" ", "-")}">{shown.get(verdict, verdict)}</span>'
        f"<span>{escape(text)}</span></li>"
        for verdict, text in sentences
    )
    title = "<h2>In plain words</h2>"
    return f'<section class="headline" id="headline">{title}<ul>{inside}</ul></section>'


def code(text: str) -> str:
    """A command."""
    return f"<pre>{escape(text)}</pre>"


def warning(text: str) -> str:
    """What nobody may overlook."""
    return f'<p class="stays">{escape(text)}</p>'


def page(title: str, meta: str, links: Sequence[tuple[str, str]], body: str) -> str:
    """A whole self-contained page: it loads nothing and its policy forbids it."""
    folder = files("shared_model.evaluation")
    template = Template((folder / "page.html").read_text(encoding="utf-8"))
    anchors = "".join(f'<a href="#{anchor}">{escape(name)}</a>' for anchor, name in links)
    return template.substitute(
        title=escape(title),
        style="".join(
            (folder / name).read_text(encoding="utf-8") for name in ("base.css", "page.css")
        ),
        meta=escape(meta),
        links=anchors,
        body=body,
    )


def _inside(cell: Cell | str) -> str:
    if isinstance(cell, str):
        return escape(cell)
    below = "".join(f"<small>{escape(text)}</small>" for text in (cell.small, cell.note) if text)
    return f"{escape(cell.text)}{below}"


def _side(cell: Cell | str) -> str:
    return _class("left" if isinstance(cell, Cell) and cell.left else "")


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
