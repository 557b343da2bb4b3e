"""On which side of a plan's split a patient and an image have ever been."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from client.agent.durable import write_durably
from client.leakage.cohorts import Cohort, refuse_overlap
from shared_model.errors import SmrfedError

_SHOWN = 5


class SplitRecord(BaseModel):
    """The sides of one plan at one hospital; grows, and never moves anybody.

    Patients who left the archive stay recorded: they may come back. Identifiers and digests are
    stored as they are, because the file never leaves the hospital (mode 0600).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    plan_digest: str
    train_patients: frozenset[str] = frozenset()
    test_patients: frozenset[str] = frozenset()
    train_images: frozenset[str] = frozenset()
    test_images: frozenset[str] = frozenset()

    def extended(self, train: Cohort, test: Cohort) -> SplitRecord:
        """The record with today's patients and images; raises SMR-E233 when one changed sides."""
        moved = [
            *_moved(
                train.patient_ids & self.test_patients, "tested on before, would be trained on"
            ),
            *_moved(
                test.patient_ids & self.train_patients, "trained on before, would be tested on"
            ),
            *_moved(train.image_hashes & self.test_images, "images tested on before"),
            *_moved(test.image_hashes & self.train_images, "images trained on before"),
        ]
        if moved:
            raise SmrfedError(
                "SMR-E233",
                "a patient or image changed sides between training and test of the same plan",
                expected="everybody on the side where the first start of this plan put them",
                found="; ".join(moved),
                remedy="restore the identifiers that the archive had (a renamed patient is split "
                "anew), or agree on a new plan",
            )
        return self.model_copy(
            update={
                "train_patients": self.train_patients | train.patient_ids,
                "test_patients": self.test_patients | test.patient_ids,
                "train_images": self.train_images | train.image_hashes,
                "test_images": self.test_images | test.image_hashes,
            }
        )


def keep_split(folder: Path, plan_digest: str, train: Cohort, test: Cohort) -> SplitRecord:
    """Compare today's split with the plan's record, add who is new, and store it durably.

    To be called at every start, before anybody is trained on. Nothing is written when nothing is
    new.

    Args:
        folder: of the site's state; the file is ``<plan digest>.json`` below it.
        plan_digest: 64 hexadecimal digits.
        train: today's training patients and their images.
        test: today's test patients and their images.

    Raises:
        SmrfedError: SMR-E232 (train and test overlap), SMR-E233 (someone changed sides), SMR-E235
            (the record cannot be read: it is not written anew, because that would forget).
    """
    refuse_overlap(train, test)
    path = folder / f"{plan_digest}.json"
    before = _load(path, plan_digest)
    record = (before or SplitRecord(plan_digest=plan_digest)).extended(train, test)
    if record != before:
        write_durably(path, _canonical(record))
    return record


def _load(path: Path, plan_digest: str) -> SplitRecord | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from None
    try:
        record = SplitRecord.model_validate_json(content)
    except ValidationError as error:
        raise _damaged(path, f"{error.error_count()} fields that are wrong or missing") from None
    if record.plan_digest != plan_digest:
        raise _damaged(path, f"the record of plan {record.plan_digest[:12]}")
    return record


def _canonical(record: SplitRecord) -> bytes:
    data = record.model_dump()
    ready = {key: sorted(v) if isinstance(v, frozenset) else v for key, v in data.items()}
    return json.dumps(ready, indent=1).encode()


def _moved(items: frozenset[str], what: str) -> list[str]:
    if not items:
        return []
    shown = " ".join(item[:24] for item in sorted(items)[:_SHOWN])
    return [f"{len(items)} {what}: {shown}{' ...' if len(items) > _SHOWN else ''}"]


def _damaged(path: Path, found: str) -> SmrfedError:
    return SmrfedError(
        "SMR-E235",
        f"the record of the split {path} cannot be used",
        expected="the file that the first start of this plan wrote",
        found=found,
        remedy="restore the file from a backup; without it nobody can tell who was tested on "
        "before, so agree on a new plan",
    )
