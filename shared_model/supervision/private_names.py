"""Private names of a pinned dependency that are replaced: checked before anything relies on it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import ModuleType

from shared_model.errors import SmrfedError


def missing_names(
    module: ModuleType, entry: str, wanted: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...]:
    """What a replacement would not reach: names that ``module.entry`` does not call.

    ``wanted``: name -> parameters that it must take. A name that exists and is no longer used would
    replace nothing, so that counts as missing too.
    """
    code = getattr(getattr(module, entry, None), "__code__", None)
    used = frozenset() if code is None else frozenset(code.co_names)
    missing = []
    for name, parameters in wanted.items():
        candidate = getattr(module, name, None)
        if not callable(candidate) or name not in used:
            missing.append(name)
            continue
        known = inspect.signature(candidate).parameters
        missing += [f"{name}({parameter})" for parameter in parameters if parameter not in known]
    return tuple(missing)


def require_called(
    module: ModuleType,
    entry: str,
    wanted: Mapping[str, tuple[str, ...]],
    *,
    code: str,
    user: str,
) -> None:
    """Raise ``code`` with what of :func:`missing_names` the ``user``, in words, cannot replace."""
    missing = missing_names(module, entry, wanted)
    if missing:
        raise SmrfedError(
            code,
            f"this version of Flower lacks names that {user} needs in {module.__name__}",
            expected=", ".join(wanted),
            found=f"without {', '.join(missing)}",
            remedy="install the version of flwr that smrfed pins; nothing was run",
        )
