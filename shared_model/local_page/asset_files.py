"""The style sheet, scripts and icon of the local pages: public, the same for everybody."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

from shared_model.local_page.answers import Answer

_CSS, _JS = "text/css; charset=utf-8", "text/javascript; charset=utf-8"
# The reports' own style first: what is here adds to it.
_PARTS = {
    "style.css": (_CSS, ("evaluation/base.css", "evaluation/page.css", "local_page/live.css")),
    "live.js": (_JS, ("local_page/live.js",)),
    "login.js": (_JS, ("local_page/login.js",)),
}
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><circle cx="8" cy="8" r="7" '
    'fill="#0072B2"/><path d="M4 9l3 3 5-7" fill="none" stroke="#fff" stroke-width="2"/></svg>'
)


@lru_cache(maxsize=8)
def asset(name: str) -> Answer | None:
    """One of them by name."""
    if name == "icon.svg":
        return Answer(_ICON.encode(), "image/svg+xml")
    if name not in _PARTS:
        return None
    kind, parts = _PARTS[name]
    folder = files("shared_model")
    return Answer("\n".join((folder / part).read_text("utf-8") for part in parts).encode(), kind)
