"""Where everything lies that a site keeps: one folder, one name per thing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StateFolder:
    """The paths below ``state_dir``; nothing here creates or opens a file."""

    path: Path

    @property
    def key(self) -> Path:
        """The site's signing key; the public half lies beside it (``site.key.pub``)."""
        return self.path / "site.key"

    @property
    def plans(self) -> Path:
        """Accepted plans, by digest."""
        return self.path / "plans"

    @property
    def replies(self) -> Path:
        """Sealed answers, by run."""
        return self.path / "replies"

    @property
    def masks(self) -> Path:
        """Secrets of secure aggregation, by run and block of rounds: must not leave the site."""
        return self.path / "masks"

    @property
    def ledger(self) -> Path:
        """The privacy ledger."""
        return self.path / "ledger.sqlite"

    @property
    def receipts(self) -> Path:
        """The egress receipts."""
        return self.path / "receipts.jsonl"

    @property
    def refusals(self) -> Path:
        """Receipts of refused instructions."""
        return self.path / "refusals.jsonl"

    @property
    def acknowledgements(self) -> Path:
        """What the coordinator signed for."""
        return self.path / "acknowledgements.jsonl"

    @property
    def sent(self) -> Path:
        """Copies of older answers that left, by run; the newest are in :attr:`replies`."""
        return self.path / "sent"

    @property
    def tokens(self) -> Path:
        """Cached tokens of prepared scans, for plans with a frozen encoder."""
        return self.path / "tokens"

    @property
    def derivatives(self) -> Path:
        """Prepared scans as a BIDS dataset, with tables and the quality page."""
        return self.path / "derivatives"

    @property
    def intake(self) -> Path:
        """The BIDS dataset that the DICOM intake makes."""
        return self.path / "intake" / "bids"

    @property
    def splits(self) -> Path:
        """Who was ever trained or tested on, by plan."""
        return self.path / "splits"

    @property
    def evaluations(self) -> Path:
        """Local evaluations of models, by run: must not leave the site."""
        return self.path / "evaluations"

    @property
    def annotations(self) -> Path:
        """Lesion masks that models propose, by model: must not leave the site."""
        return self.path / "annotations"

    @property
    def explanations(self) -> Path:
        """Explanations of single scans, by model: must not leave the site."""
        return self.path / "explanations"

    @property
    def connection(self) -> Path:
        """What the hospital keeps of the federation that it joined."""
        return self.path / "connection"

    @property
    def log(self) -> Path:
        """The agent's log: stays at the site."""
        return self.path / "agent.log"

    def model(self, run_id: str) -> Path:
        """Folder of a run's released model, the site's own parameters and its local evaluation."""
        return self.path / "models" / run_id
