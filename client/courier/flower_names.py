"""The private names of Flower that the pinned courier replaces; checked before anything runs.

Flower has no public way to refuse an app bundle, to answer when it is told to stop, or to learn
that a reply was handed over whole. Should a version rename one of these, a bundle would be unpacked
and run as if nothing had been pinned: so the courier refuses to start without them, and a contract
test holds them for the version that is pinned in ``pyproject.toml``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType

from shared_model.supervision.private_names import require_called

#: What ``flwr.supernode.runtime.run_clientapp`` must call by these names, with these parameters.
REPLACED = {
    "install_from_fab": ("fab_file", "skip_prompt"),
    "get_project_dir": ("fab_id", "fab_version", "fab_hash"),
    "install_app_dependencies": (),
    "get_load_client_app_fn": ("default_app_ref", "app_path", "multi_app"),
    "push_message": ("client", "message", "context"),
    "register_signal_handlers": ("event_type", "exit_message", "exit_handlers"),
}
#: What ``flwr.supercore.superexec.run_superexec`` asks for the means of starting a task.
EXECUTOR = {"get_executor": ("executor_type", "executor_config")}


def require_names(module: ModuleType, entry: str, wanted: Mapping[str, tuple[str, ...]]) -> None:
    """Check that ``module.entry`` calls these names; raises SMR-E472 with what is missing."""
    require_called(module, entry, wanted, code="SMR-E472", user="the courier")
