"""The jobs of an experiment on a Ray cluster: the same work, on as many machines as there are."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Self, TypeVar

from shared_model.errors import SmrfedError

Item = TypeVar("Item")
Result = TypeVar("Result")


def require_ray() -> None:
    """Raise SMR-E686 where Ray is not installed."""
    if find_spec("ray") is None:
        raise SmrfedError(
            "SMR-E686",
            "Ray is not installed here, so no cluster can take the jobs",
            expected="the package ray, which comes with flwr[simulation]",
            found="no module named ray",
            remedy="pip install 'flwr[simulation]', or leave --ray out: the processes of this "
            "machine then share the jobs",
        )


class RayTasks:
    """:class:`simulations.process_pool.Processes` with Ray tasks of one core each.

    Joins the cluster that ``RAY_ADDRESS`` names, or starts one on this machine with ``workers``
    cores. All machines must see the same folders and have the same smrfed installed. With ``gpus``
    every task takes a GPU. Raises SMR-E686 without Ray.
    """

    def __init__(self, workers: int, gpus: bool = False) -> None:
        require_ray()
        self._workers = workers
        self._gpus = gpus
        self._started = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        import ray

        if self._started:
            ray.shutdown()

    def spread(
        self,
        work: Callable[[Item], Result],
        items: Sequence[Item],
        done: Callable[[Item, Result], None],
    ) -> None:
        """Do every item, and tell ``done`` its result here, in the order in which they finish."""
        import ray

        if not items:
            return
        if not ray.is_initialized():
            self._started = True
            local = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": self._workers}
            ray.init(log_to_driver=False, include_dashboard=False, **local)
        options = {"num_cpus": 1, "num_gpus": int(self._gpus), "max_retries": 2}
        task = ray.remote(**options)(_plain(work))
        waiting = {task.remote(item): item for item in items}
        while waiting:
            (first, *_), _ = ray.wait(list(waiting), num_returns=1)
            done(waiting.pop(first), ray.get(first))


def _plain(work: Callable[[Item], Result]) -> Callable[[Item], Result]:
    """A function of its own: Ray takes no partial."""

    def task(item: Item) -> Result:
        return work(item)

    return task
