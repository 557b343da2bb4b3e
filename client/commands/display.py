"""How the commands of a site talk: options that they share, and facts in columns."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from shared_model.errors import SmrfedError

ConfigPath = Annotated[
    Path,
    typer.Option("--config", "-c", help="the site's configuration", metavar="SITE_TOML"),
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for scripts")]

DEFAULT_CONFIG = Path("site.toml")

out = Console()
err = Console(stderr=True, soft_wrap=True)


def print_facts(facts: Mapping[str, object]) -> None:
    """One fact per line; not wrapped, because digests and fingerprints are there to be copied."""
    width = max(map(len, facts)) + 2
    for name, value in facts.items():
        out.print(
            f"[bold]{name:{width}}[/bold]{escape(str(value))}", soft_wrap=True, highlight=False
        )


def print_json(data: Any) -> None:
    """One line of JSON on standard output."""
    print(json.dumps(data, allow_nan=False))


def require_a_person(as_json: bool, *, act: str, first: str) -> None:
    """Refuse to ask where nobody can answer; raises SMR-E419.

    ``act``: what takes a person, and ``first``: what that person does beforehand.
    """
    if as_json or not sys.stdin.isatty():
        raise SmrfedError(
            "SMR-E419",
            act,
            expected="an answer at a terminal, or --yes",
            found="no terminal",
            remedy=f"{first}, then run the command again with --yes",
        )
