"""A hospital as a simulation sees it: its patients, split, with model inputs ready."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from client.agent.state import StateFolder
from client.archive.patients import Patient
from client.archive.plan_split import split_by_plan
from client.config import SiteConfig
from client.prepared.scan_fields import ScanFields
from client.prepared.scan_source import scan_source
from client.training.examples import PatientExamples, patient_examples
from client.training.site_model import SiteModel
from shared_model.plan import FederationPlan


@dataclass(frozen=True, eq=False)
class Hospital:
    """Patients of one site with their examples, in the same order.

    A hospital that takes no part in training (``held_out``) has test patients only.
    """

    name: str
    held_out: bool
    train_patients: tuple[Patient, ...]
    test_patients: tuple[Patient, ...]
    train: tuple[PatientExamples, ...]
    test: tuple[PatientExamples, ...]

    @property
    def patients(self) -> tuple[Patient, ...]:
        """Everybody."""
        return self.train_patients + self.test_patients


def load_hospital(
    config_path: Path,
    plan: FederationPlan,
    model: SiteModel,
    *,
    held_out: bool = False,
    progress: Callable[[], None] | None = None,
) -> Hospital:
    """Read an archive as the site's agent does: same reader, split, preparation and tokens.

    ``progress`` is called once per patient. Raises the archive's SMR-E2xx.
    """
    config = SiteConfig.load(config_path)
    source = scan_source(config, plan)
    patients = source.patients()
    train: Sequence[Patient] = ()
    test: Sequence[Patient] = patients
    if not held_out:
        split = split_by_plan(patients, plan)
        train, test = split.train, split.test

    def made(chosen: Sequence[Patient], *, training: bool) -> tuple[PatientExamples, ...]:
        out = []
        tokens = StateFolder(config.state_dir).tokens
        examples = patient_examples(
            model, chosen, source, tokens, training=training, fields=ScanFields(config, plan)
        )
        for example in examples:
            out.append(example)
            if progress is not None:
                progress()
        return tuple(out)

    return Hospital(
        config.name,
        held_out,
        tuple(train),
        tuple(test),
        made(train, training=True),
        made(test, training=False),
    )
