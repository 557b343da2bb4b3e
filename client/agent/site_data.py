"""From the hospital's archive to what training takes, once per process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch

from client.agent.state import StateFolder
from client.archive.patients import Patient
from client.archive.plan_split import split_by_plan
from client.archive.split import Split
from client.config import SiteConfig
from client.leakage.cohorts import cohort_of, refuse_overlap
from client.leakage.hash_lists import external_cohorts, pretraining_cohort
from client.leakage.split_record import keep_split
from client.prepared.scan_fields import ScanFields
from client.prepared.scan_source import scan_source
from client.training.examples import PatientExamples, patient_examples
from client.training.site_model import SiteModel
from shared_model.errors import SmrfedError
from shared_model.plan import FederationPlan

#: Called with how many of how many steps are done.
Progress = Callable[[int, int], None]

_log = logging.getLogger(__name__)


class SiteData:
    """The examples of this hospital's training and test patients, made when first asked for.

    The split decides each patient by a hash of the patient alone. Examples stay in memory between
    rounds: tokens where the encoder is frozen, otherwise volumes that are read when needed.
    """

    def __init__(self, config: SiteConfig, plan: FederationPlan, model: SiteModel) -> None:
        self._config = config
        self._plan = plan
        self._model = model
        self._source = scan_source(config, plan)
        self._train: tuple[PatientExamples, ...] | None = None
        self._test: tuple[PatientExamples, ...] | None = None

    def prepare(self, progress: Progress | None = None) -> None:
        """Read the archive and make all examples; raises the archive's SMR-E2xx."""
        if self._train is not None and self._test is not None:
            return
        patients = self._source.patients()
        split = split_by_plan(patients, self._plan)
        steps = _Steps(progress, sum(len(p.scans) for p in patients) + len(patients))
        # First all scans, so that one run tells about every image that cannot be used.
        self._source.prepare(patients, lambda *_: steps.one_more())
        self._keep_apart(split)
        self._train = self._examples(split.train, steps, training=True)
        self._test = self._examples(split.test, steps, training=False)
        _log.info("prepared %d training and %d test patients", len(self._train), len(self._test))

    @property
    def site(self) -> str:
        """The site's name in the plan."""
        return self._config.name

    @property
    def train(self) -> tuple[PatientExamples, ...]:
        """Examples of the training patients."""
        self.prepare()
        assert self._train is not None
        return self._train

    @property
    def test(self) -> tuple[PatientExamples, ...]:
        """Examples of the test patients: never trained on, scored at this hospital only."""
        self.prepare()
        assert self._test is not None
        return self._test

    def _keep_apart(self, split: Split) -> None:
        """Refuse patients or images on two sides, today, before, or in the pretraining data."""
        digest = self._source.voxels_sha256
        train, test = cohort_of("train", split.train, digest), cohort_of("test", split.test, digest)
        refuse_overlap(train, test, *external_cohorts(self._config.external_hashes))
        weights = self._plan.model.weights_sha256
        if weights is not None:
            public = pretraining_cohort(weights, self._config.weights_folders)
            if public is not None:
                refuse_overlap(train, test, public)
        keep_split(StateFolder(self._config.state_dir).splits, self._plan.digest, train, test)

    def _examples(
        self, patients: Sequence[Patient], steps: _Steps, *, training: bool
    ) -> tuple[PatientExamples, ...]:
        out = []
        tokens = StateFolder(self._config.state_dir).tokens
        for example in patient_examples(
            self._model,
            patients,
            self._source,
            tokens,
            training=training,
            fields=ScanFields(self._config, self._plan),
        ):
            out.append(example)
            steps.one_more()
        return tuple(out)


class _Steps:
    """Counts prepared scans and patients as one progress."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    def one_more(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)


def training_device(name: str) -> torch.device:
    """The device of ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; SMR-E421 when it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SmrfedError(
            "SMR-E421",
            "the site's configuration asks for a GPU that torch cannot use",
            expected=name,
            found=f"{torch.cuda.device_count()} CUDA devices, torch {torch.__version__}",
            remedy='set device = "auto" or "cpu" in site.toml, or repair the GPU driver',
        )
    return device
