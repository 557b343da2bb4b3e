"""Where a story is written to, and the numbered errors when that does not go."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal, Protocol

from server.tracking.story import Story
from shared_model.errors import SmrfedError

Target = Literal["tensorboard", "mlflow"]
PACKAGES: dict[Target, str] = {"tensorboard": "tensorboard", "mlflow": "mlflow-skinny"}


class Tracker(Protocol):
    """Takes a story again and again as it grows; writes only what is new."""

    def tell(self, story: Story) -> int:
        """Write what was not written yet; returns how many figures that were."""


def open_tracker(target: Target, where: str) -> AbstractContextManager[Tracker]:
    """The tracker; raises SMR-E708 when its package is not installed."""
    try:
        if target == "tensorboard":
            from server.tracking.tensorboard import tensorboard_tracker

            return tensorboard_tracker(where)
        from server.tracking.mlflow import mlflow_tracker

        return mlflow_tracker(where)
    except ImportError as error:
        raise SmrfedError(
            "SMR-E708",
            f"{target} is not installed here",
            expected=f"the package {PACKAGES[target]}",
            found=error,
            remedy="pip install 'smrfed[tracking]'; a run needs none of it",
        ) from None


def cannot_write(target: Target, found: object) -> SmrfedError:
    """The error when a tracker refuses: SMR-E709. ``found`` holds no address with a password."""
    return SmrfedError(
        "SMR-E709",
        f"{target} does not take the run's figures",
        expected="a folder that can be written to, or a tracking server that answers",
        found=str(found)[:300],
        remedy="correct the place after --to; nothing is lost: track writes what is missing when "
        "it is used again",
    )
