"""A native hospital whose store was filled by hand, as preparation would have done."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bids_fixture import brain
from native_site_fixture import (
    NativeHospital,
    native_hospital,
    native_plan,
    t1w,
    write_scan,
    write_tables,
)
from quality_heads import good_measures
from small_site import small_model

from client.agent.site_data import SiteData
from client.commands.preparing import native_site
from client.prepared.intensity import standardise
from client.prepared.native_store import NativeScan
from client.prepared.record import ScanRecord
from client.quality.limits import QualityLimits
from client.quality.overrides import Overrides
from shared_model.plan import FederationPlan

# Measures by what quality control says to them.
PASS: dict[str, object] = {}
REVIEW: dict[str, object] = {"cnr": 1.0}
FAIL: dict[str, object] = {"snr_white": 2.0}
LOST: dict[str, object] = {"dice": 0.5}


def prints(count: int, seed: int = 0) -> np.ndarray:
    """Fingerprints of different people: of length 1, hardly correlated."""
    from client.quality.fingerprint import _lattice

    rng = np.random.default_rng(seed)
    drawn = rng.normal(size=(count, len(_lattice().mirror)))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float16)


@dataclass(frozen=True)
class Prepared:
    """A hospital whose store was filled by hand, as preparation would have done."""

    site: NativeHospital

    def data(self, plan: FederationPlan | None = None) -> SiteData:
        chosen = plan or self.site.hospital.plan
        return SiteData(self.site.hospital.config, chosen, small_model(chosen))

    def source(self, name: str) -> str:
        return hashlib.sha256(t1w(self.site.archive, name).read_bytes()).hexdigest()

    def decide(self, name: str, decision: Any, seen: dict[str, object]) -> None:
        from client.quality.verdict import judge_scan

        verdict = judge_scan(good_measures(**seen), QualityLimits())
        Overrides(self.site.state).record(
            self.source(name), decision, verdict, who="R", why="looked at it"
        )


def fill(folder: Path, scans: Sequence[dict[str, object]], labels: str = "CN AD") -> Prepared:
    """``sub-00``, ``sub-01``, ... with these measures, their labels in turn, all prepared."""
    names = [f"sub-{number:02d}" for number in range(len(scans))]
    words = labels.split()
    archive = folder / "archive"
    write_tables(archive, {name: words[i % len(words)] for i, name in enumerate(names)})
    site = native_hospital(folder / "site", archive)
    plans = [site.hospital.plan, native_plan(input={"quality": "pass"})]
    fingerprints = prints(len(scans))
    for number, (name, changed) in enumerate(zip(names, scans, strict=True)):
        greys = np.full((20, 20, 20), number, np.int16)
        greys[0] = 1
        write_scan(t1w(archive, name), greys)
        volume = brain(number)
        record = ScanRecord(
            source_sha256=hashlib.sha256(t1w(archive, name).read_bytes()).hexdigest(),
            voxels_sha256=hashlib.sha256(name.encode()).hexdigest(),
            measures=good_measures(**changed),
            to_mni=tuple(tuple(float(x) for x in row) for row in np.eye(4)),
            steps=native_site(site.hospital.config, plans[0]).recipe.identity,
        )
        for plan in plans:
            native_site(site.hospital.config, plan).recipe.store.save(
                NativeScan(record, standardise(volume), volume > 0, fingerprints[number], b"PNG")
            )
    return Prepared(site)
