"""Addresses of the dashboard's pages, and error numbers as links to their pages."""

from __future__ import annotations

import re
from html import escape
from urllib.parse import quote

from shared_model.local_page.error_texts import error_folder

_CODE = re.compile(r"SMR-E\d{3}")


def run_link(name: str) -> str:
    """The page of a run."""
    return f"/runs/{quote(name, safe='')}"


def error_links(reason: str, kind: str = "small") -> str:
    """A reason as HTML in an element of ``kind``; numbers lead to their pages where these are."""
    if not reason:
        return ""
    text = escape(reason)
    if error_folder() is not None:
        text = _CODE.sub(lambda m: f'<a href="/errors/{m[0]}">{m[0]}</a>', text)
    return f"<{kind}>{text}</{kind}>"
