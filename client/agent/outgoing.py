"""List what a plan sends: ``python -m client.agent.outgoing SITE_TOML < plan.json``.

A process of its own, because it builds the model: the commands of hospital IT import no torch. It
prints ``{"shapes": {name: [...]}}`` or ``{"error": {...}}``, and exits with 3 where the training
stack is not installed.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan

_NO_TRAINING_STACK = 3


def main() -> None:
    """Read the plan from standard input and print its shared parameters."""
    if importlib.util.find_spec("torch") is None:
        sys.exit(_NO_TRAINING_STACK)
    try:
        plan = FederationPlan.parse(json.load(sys.stdin))
        answer: dict[str, object] = {"shapes": _shapes(plan, Path(sys.argv[1]))}
    except SmrfedError as error:
        answer = {
            "error": {
                "code": error.code,
                "what": error.what,
                "remedy": error.remedy,
                "expected": None if error.expected is None else str(error.expected),
                "found": None if error.found is None else str(error.found),
            }
        }
    json.dump(answer, sys.stdout)


def _shapes(plan: FederationPlan, config: Path) -> dict[str, tuple[int, ...]]:
    # Here, so that a missing training stack is an exit code and not a traceback.
    from client.config import SiteConfig
    from client.training.site_model import SiteModel
    from shared_model.atlas.select import load_atlas

    folders = SiteConfig.load(config).weights_folders
    return SiteModel.build(plan, load_atlas(plan.atlas, plan.input.grid), folders).shared_shapes


if __name__ == "__main__":
    main()
