"""Paths of ``site.toml``: relative ones are relative to the file's own folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, ValidationInfo


def _from_file(value: object, info: ValidationInfo) -> object:
    """A path as written in the file; without a ``folder`` in the context it stays as it is."""
    if not isinstance(value, str) or not info.context:
        return value
    if not value.strip():
        raise ValueError("must not be empty")
    return info.context["folder"] / Path(value).expanduser()


SitePath = Annotated[Path, BeforeValidator(_from_file)]
