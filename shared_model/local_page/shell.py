"""The frame of a local page: head, navigation, live sections, and the login form."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

Link = tuple[str, str]
#: Seconds between two looks of an open page.
EVERY_S = 3


def live_page(
    title: str, product: str, links: Sequence[Link], here: str, sections: Sequence[str]
) -> str:
    """A page whose sections renew themselves; each is an element with an ``id`` of its own.

    ``links`` are addresses and names of the navigation, ``here`` the address of this page's entry.
    """
    entries = "".join(
        f'<a href="{escape(to)}"{" aria-current=page" if to == here else ""}>{escape(name)}</a>'
        for to, name in links
    )
    return _document(
        f"{title} · {product}",
        f'<a class="skip" href="#content">Skip to the content</a>'
        f'<header class="bar"><a class="brand" href="/">{escape(product)}</a>'
        f'<nav aria-label="Pages">{entries}</nav>'
        '<form method="post" action="/logout"><button type="submit">Log out</button></form>'
        # The script writes the time: the same facts are the same bytes.
        '<p class="fresh" id="fresh"><span id="fresh-word" role="status"></span> '
        '<span id="fresh-time"></span><noscript>reload to renew</noscript></p></header>'
        f'<main id="content" tabindex="-1" data-every="{EVERY_S}"><h1>{escape(title)}</h1>'
        f'<div id="sections">{"".join(sections)}</div></main>',
        '<script src="/assets/live.js" defer></script>',
    )


def login_page(product: str, problem: str, to: str) -> str:
    """The form that takes the token; the script takes it from the address, after ``#``."""
    told = f'<p class="stays" role="alert">{escape(problem)}</p>' if problem else ""
    return _document(
        f"Log in · {product}",
        f'<main class="login"><h1>{escape(product)}</h1>{told}'
        '<form method="post" action="/login" id="login">'
        '<label for="token">Token</label>'
        '<input id="token" name="token" type="password" autocomplete="current-password" required '
        f'autofocus><input type="hidden" name="to" value="{escape(to)}">'
        '<button type="submit">Log in</button></form>'
        '<p class="note">The token lies in a file that the program named when it started. '
        "This page only shows; nothing can be changed here.</p></main>",
        '<script src="/assets/login.js" defer></script>',
    )


def message_page(product: str, text: str, back: str) -> str:
    """One sentence and a way back."""
    return _document(
        product,
        f'<main class="login"><h1>{escape(product)}</h1><p>{escape(text)}</p>'
        f'<p><a href="{escape(back)}">Back</a></p></main>',
        "",
    )


def _document(title: str, body: str, scripts: str) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title>"
        '<link rel="stylesheet" href="/assets/style.css">'
        '<link rel="icon" href="/assets/icon.svg" type="image/svg+xml">'
        f"{scripts}</head><body>{body}</body></html>\n"
    )
