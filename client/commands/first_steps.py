"""``smrfed-site init``: from an empty folder to one that a person can fill in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from client.agent.durable import make_private_folder, write_durably
from client.agent.state import StateFolder
from client.commands.display import AsJson, out, print_facts, print_json
from client.commands.templates import POLICY_TOML, site_toml
from shared_model.errors import SmrfedError
from shared_model.plan import SiteName
from shared_model.protocol.keys import (
    fingerprint,
    load_or_create_signing_key,
    public_path,
)

Folder = Annotated[Path, typer.Argument(help="folder of this site", metavar="DIR")]


def _site_name(value: str) -> str:
    try:
        return TypeAdapter(SiteName).validate_python(value)
    except ValidationError:
        raise typer.BadParameter("use a-z, 0-9 and hyphens, at most 31 characters") from None


Name = Annotated[str, typer.Option("--name", help="the site's name in plans", callback=_site_name)]


def init(folder: Folder, name: Name = "my-hospital", as_json: AsJson = False) -> None:
    """Write a commented configuration and policy, make the site's key, show its fingerprint."""
    files = {folder / "site.toml": site_toml(name), folder / "policy.toml": POLICY_TOML}
    for path in files:
        if path.exists():
            raise SmrfedError(
                "SMR-E417",
                f"{path} exists already",
                expected="a folder without site.toml and policy.toml",
                found=path.name,
                remedy="edit the existing file, or name another folder",
            )
    state = StateFolder(folder / "state")
    make_private_folder(state.path)
    for path, text in files.items():
        write_durably(path, text.encode())
    key = load_or_create_signing_key(state.key)
    facts = {
        "configuration": str(folder / "site.toml"),
        "policy": str(folder / "policy.toml"),
        "public key": str(public_path(state.key)),
        "fingerprint": fingerprint(key.public_key()),
    }
    if as_json:
        print_json(facts)
        return
    print_facts(facts)
    out.print(
        "Fill in site.toml; then in that folder: smrfed-site check, and smrfed-site join TOKEN "
        "with the coordinator's token",
        highlight=False,
    )
