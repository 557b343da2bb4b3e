"""The private names of Flower that the pinned ServerApp replaces; checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType

from shared_model.supervision.private_names import require_called

#: What ``flwr.superlink.runtime.run_serverapp`` must call by this name.
REPLACED = {"install_from_fab": ("fab_file", "skip_prompt")}
#: What ``flwr.supercore.superexec.run_superexec`` asks for the means of starting a task.
EXECUTOR = {"get_executor": ("executor_type", "executor_config")}


def require_names(module: ModuleType, entry: str, wanted: Mapping[str, tuple[str, ...]]) -> None:
    """Check that ``module.entry`` calls these names; raises SMR-E548 with what is missing."""
    require_called(module, entry, wanted, code="SMR-E548", user="the coordinator")
