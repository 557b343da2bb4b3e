"""Hospitals that took no part: the same people seen through scanners that are known, or are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from client.prepared.intensity import standardise
from client.training.examples import PatientExamples
from client.training.site_model import SiteModel
from client.training.token_cache import TokenCache
from simulations.cohort.cohort import all_subjects, generate_anatomy
from simulations.cohort.design import UNSEEN_SITE, default_cohort
from simulations.cohort.scanner import apply_scanner
from simulations.cohort.spec import DIAGNOSES, CohortSpec, ScannerModel, SiteSpec
from simulations.cohort.subject import named_rng

ZERO, MILD, DESIGNED = "zero", "mild", "designed"

#: Grey and white matter that hardly differ, as a T1 protocol with an unsuited inversion time gives:
#: outside the contrasts that the public encoder was trained on. Chosen on seed 0 among nine
#: scanners, as the one whose logits an offset explains best (docs/unseen_hospital.md).
WEAK_CONTRAST = ScannerModel(csf=0.05, grey=0.85, white=0.95, bias=0.05, noise=0.02)


def unseen_cohort(patients: int, seed: int) -> CohortSpec:
    """People of no hospital, one visit each, classes as frequent as each other."""
    return CohortSpec(
        name="unseen-hospital",
        seed=seed,
        sites=(SiteSpec(name="unseen", patients=patients, prevalence=(0.34, 0.33, 0.33)),),
        second_session_share=0.0,
    )


def unseen_scanners() -> Mapping[str, tuple[ScannerModel, ...]]:
    """The scanners of each unseen hospital; its patients take turns on them.

    ``zero``: those of the four hospitals that train, so that nothing but the people is new;
    ``mild``: that of the default cohort's unseen site; ``designed``: :data:`WEAK_CONTRAST`.
    """
    sites = default_cohort(1).sites
    known = tuple(s.scanner for s in sites if s.name != UNSEEN_SITE)
    mild = next(s.scanner for s in sites if s.name == UNSEEN_SITE)
    chosen = {ZERO: known, MILD: (mild,), DESIGNED: (WEAK_CONTRAST,)}
    return {
        name: tuple(s for s in scanners if isinstance(s, ScannerModel))
        for name, scanners in chosen.items()
    }


def scan_unseen(
    spec: CohortSpec,
    scanners: Mapping[str, Sequence[ScannerModel]],
    model: SiteModel,
    folder: Path,
    workers: int = 1,
) -> dict[str, tuple[PatientExamples, ...]]:
    """Examples of the same people at every hospital: one anatomy, another scanner.

    Anatomy and tokens are kept in ``folder``, so that a second call takes seconds.
    """
    folders = generate_anatomy(spec, folder / "anatomy", workers)
    cache = TokenCache(folder / "tokens", model)
    out: dict[str, list[PatientExamples]] = {name: [] for name in scanners}
    for subject in all_subjects(spec):
        with np.load(folders.volumes / f"{subject.participant}.npz") as data:
            clean = data["volume"].astype(np.float32)
        label = torch.tensor([DIAGNOSES.index(subject.diagnosis)])
        for name, choice in scanners.items():
            rng = named_rng(spec.seed, "unseen-scan", name, subject.index)
            scan = apply_scanner(clean, choice[subject.index % len(choice)], rng)
            tokens = cache.tokens(torch.from_numpy(standardise(scan))[None, None])
            out[name].append(PatientExamples(subject.participant, tokens, label))
    return {name: tuple(examples) for name, examples in out.items()}
