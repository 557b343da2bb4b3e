"""MLflow: one run per federation run, found again by its tag; parameters, metrics, the plan."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from server.tracking.story import Story
from server.tracking.trackers import Tracker, cannot_write

# MLflow reports its use to its makers unless it is told not to before it is imported.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
# The package is an option and has no types here; an ImportError is told as SMR-E708.
Metric: Any = import_module("mlflow.entities").Metric
MlflowException: Any = import_module("mlflow.exceptions").MlflowException
MlflowClient: Any = import_module("mlflow.tracking").MlflowClient

_RUN, _COUNT = "smrfed.run_id", "smrfed.figures"
_BATCH = 500


class _Writer:
    """Adds what is missing; how much was written stands in a tag of the MLflow run."""

    def __init__(self, where: str) -> None:
        self._folder = None if "://" in where else Path(where).absolute()
        if self._folder is None:
            uri = where
        else:
            self._folder.mkdir(parents=True, exist_ok=True)
            uri = f"sqlite:///{self._folder / 'mlflow.db'}"
        self._client = MlflowClient(uri)

    def tell(self, story: Story) -> int:
        """Log the metrics that are new, the parameters and the plan once."""
        try:
            run = self._run(story)
            known = self._client.get_run(run).data.tags.get(_COUNT, "0")
            new = story.points[int(known) :]
            for first in range(0, len(new), _BATCH):
                batch = [
                    # MLflow takes names of a path's letters; so do class labels and sites.
                    Metric(point.name, point.value, int(1000 * point.time_s), point.step)
                    for point in new[first : first + _BATCH]
                ]
                self._client.log_batch(run, metrics=batch)
                self._client.set_tag(run, _COUNT, str(int(known) + first + len(batch)))
            if story.finished:
                self._client.set_terminated(run)
        except (MlflowException, OSError) as error:
            raise cannot_write("mlflow", type(error).__name__) from error
        return len(new)

    def _run(self, story: Story) -> str:
        experiment = self._client.get_experiment_by_name(story.experiment)
        if experiment is not None:
            number = experiment.experiment_id
        else:
            place = None
            if self._folder is not None:
                place = (self._folder / "artifacts").as_uri()
            number = self._client.create_experiment(story.experiment, artifact_location=place)
        found: Any = self._client.search_runs([number], f"tags.`{_RUN}` = '{story.run}'")
        if found:
            return str(found[0].info.run_id)
        made = self._client.create_run(number, run_name=story.run, tags={_RUN: story.run})
        run = str(made.info.run_id)
        for name, value in story.facts.items():
            self._client.log_param(run, name, value)
        for name, text in story.texts.items():
            self._client.log_text(run, text, name)
        return run


@contextmanager
def mlflow_tracker(where: str) -> Iterator[Tracker]:
    """A tracker for a folder (SQLite and files in it) or a tracking URI; raises SMR-E709."""
    try:
        writer = _Writer(where)
    except (MlflowException, OSError) as error:
        raise cannot_write("mlflow", type(error).__name__) from None
    yield writer
