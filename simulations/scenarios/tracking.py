"""``smrfed-sim track``: the table of a scenario in TensorBoard or MLflow, one run per arm."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console

from server.tracking.story import Point, Story
from server.tracking.trackers import Target, open_tracker
from shared_model.errors import SmrfedError
from simulations.scenarios.results import ArmFigures, ScenarioResults

_FILE = "results.json"


def track_command(
    folder: Annotated[Path, typer.Argument(help="what smrfed-sim run wrote", metavar="OUT")],
    where: Annotated[
        str, typer.Argument(help="folder, or tracking URI of MLflow", metavar="DIR_OR_URI")
    ],
    to: Annotated[Target, typer.Option("--to", help="which tracker")],
) -> None:
    """Hand a scenario's figures with their intervals to an experiment tracker."""
    results = _read(folder / _FILE)
    console = Console(stderr=True, soft_wrap=True)
    with open_tracker(to, where) as tracker:
        for story in stories(results):
            count = tracker.tell(story)
            console.print(f"{story.run}: {count} figures to {to}", markup=False, highlight=False)


def stories(results: ScenarioResults) -> Iterator[Story]:
    """One story per arm: figures over all seeds at step 0, single seeds at the seed's number."""
    at = datetime.fromisoformat(results.created).timestamp()
    stamp = results.created[:19].replace(":", "").replace("-", "")
    for arm in results.arms:
        facts = {
            "scenario": results.scenario,
            "arm": arm.name,
            "kind": arm.kind,
            "what": arm.what,
            "plan_digest": arm.plan,
            "seeds": ", ".join(map(str, results.seeds)),
            "draws": str(results.draws),
            "command": results.command,
            "commit": results.commit or "unknown",
            "smrfed": results.smrfed,
        }
        if arm.epsilon is not None:
            facts["epsilon"] = f"{arm.epsilon:.6g}"
        yield Story(
            experiment=results.scenario,
            run=f"{results.scenario}-{arm.name}-{stamp}",
            facts=facts,
            points=tuple(_points(arm, results.seeds, at)),
            finished=True,
        )


def _points(arm: ArmFigures, seeds: tuple[int, ...], at: float) -> Iterator[Point]:
    for group, figure in arm.groups.items():
        # TensorBoard and MLflow make folders of slashes: seen:north is a site of the group seen.
        place = group.replace(":", "/")
        for name, found in (
            ("balanced_accuracy", figure.balanced_accuracy),
            ("macro_auc", figure.macro_auc),
        ):
            if found is None:
                continue
            for part, value in (("", found.value), ("/low", found.low), ("/high", found.high)):
                if value is not None:
                    yield Point(f"{place}/{name}{part}", 0, value, at)
        for seed, single in zip(seeds, figure.by_seed, strict=False):
            if single is not None:
                yield Point(f"{place}/balanced_accuracy_by_seed", seed, single, at)


def _read(path: Path) -> ScenarioResults:
    try:
        return ScenarioResults.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise SmrfedError(
            "SMR-E709",
            f"{path} does not hold the results of a scenario",
            expected="the folder that smrfed-sim run wrote",
            found=str(error)[:300],
            remedy="name the folder after --out of smrfed-sim run; run directories of a federation "
            "are for smrfed-coordinator track",
        ) from None
