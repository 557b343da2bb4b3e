"""The pages on error numbers (``docs/errors``), where this installation has them."""

from __future__ import annotations

import re
import sys
from html import escape
from pathlib import Path

_CODE = re.compile(r"SMR-E\d{3}")
_LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")
_MARKS = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*")


def error_folder() -> Path | None:
    """``docs/errors`` of a checkout, or ``share/doc/smrfed/errors`` of the environment."""
    for folder in (
        Path(__file__).parents[2] / "docs" / "errors",
        Path(sys.prefix) / "share" / "doc" / "smrfed" / "errors",
    ):
        if folder.is_dir():
            return folder
    return None


def error_text(code: str) -> str | None:
    """The page of a number as HTML of paragraphs; None where there is none."""
    folder = error_folder()
    if folder is None or not _CODE.fullmatch(code):
        return None
    try:
        text = (folder / f"{code}.md").read_text("utf-8")
    except OSError:
        return None
    return "".join(_block(block) for block in re.split(r"\n\s*\n", text.strip()))


def code_of(reason: str) -> str | None:
    """The first error number in a reason."""
    found = _CODE.search(reason)
    return None if found is None else found[0]


def _block(block: str) -> str:
    lines = block.split("\n")
    if block.startswith("# "):
        return f"<p><strong>{_words(lines[0].partition(': ')[2])}</strong></p>"
    if block.startswith("#"):
        rest = "\n".join(lines[1:])
        return f"<h2>{_words(lines[0].lstrip('# '))}</h2>" + (_block(rest) if rest else "")
    if block.startswith("```"):
        return f"<pre>{escape(chr(10).join(line for line in lines if line[:3] != '```'))}</pre>"
    if all(line.startswith(("- ", "  ")) for line in lines):
        joined = re.sub(r"\n  +", " ", block)
        return (
            f"<ul>{''.join(f'<li>{_words(line[2:])}</li>' for line in joined.split(chr(10)))}</ul>"
        )
    if lines[0].startswith("|"):
        rows = [line.strip("|").split("|") for line in lines if not set(line) <= set("|- :")]
        cells = "".join(
            "<tr>" + "".join(f'<td class="left">{_words(c.strip())}</td>' for c in row) + "</tr>"
            for row in rows
        )
        return f'<div class="scroll"><table>{cells}</table></div>'
    return f"<p>{_words(' '.join(lines))}</p>"


def _words(text: str) -> str:
    plain = escape(_LINK.sub(r"\1", text), quote=False)
    return _MARKS.sub(
        lambda m: f"<code>{m[1]}</code>" if m[1] else f"<strong>{m[2]}</strong>", plain
    )
