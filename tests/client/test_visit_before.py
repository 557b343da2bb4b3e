"""A scan is read with the visit before it: in order of age, and never with a later one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_site import GRID, small_atlas

from client.archive.patients import Patient, Scan
from client.training.examples import patient_examples
from client.training.scan_inputs import ScanInputs, visit_before
from client.training.site_model import SiteModel
from shared_model.plan import FederationPlan
from shared_model.registry import default_groups
from shared_model.smrnet.longitudinal import PairTokens, VisitPair


def plan() -> FederationPlan:
    return FederationPlan.parse(
        {
            "name": "pairs",
            "input": {"grid": {"spacing_mm": GRID.spacing_mm}},
            "model": {"name": "smrnet-longitudinal", "config": {"width": 4}},
            "groups": default_groups("smrnet-longitudinal").model_dump(),
            "privacy": {"mode": "none"},
            "federation": {"sites": [{"name": "a", "declared_patients": 3}]},
        }
    )


def scan(session: str, age: float | None) -> Scan:
    return Scan(session, Path(session), 1, age)


@dataclass
class Volumes:
    """Noise by session, and a later scan that carries the answer in every voxel."""

    leak: float = 0.0

    def volume(self, scan: Scan) -> npt.NDArray[np.float32]:
        seed = int(scan.session.removeprefix("ses-"))
        noise = np.random.default_rng(seed).standard_normal(GRID.shape).astype(np.float32)
        return noise + np.float32(self.leak if seed == 3 else 0.0)


ages = st.lists(st.one_of(st.none(), st.integers(60, 66).map(float)), min_size=1, max_size=6)


@settings(deadline=None)
@given(ages)
def test_the_visit_before_is_the_newest_of_the_older(found: list[float | None]) -> None:
    scans = tuple(scan(f"ses-{i}", age) for i, age in enumerate(found))
    patient = Patient("p", "F", scans)
    for each in scans:
        before = visit_before(patient, each)
        older = [s.age for s in scans if s.age is not None and each.age and s.age < each.age]
        assert (before.age if before else None) == (max(older) if older else None)


def test_a_planted_leak_in_a_later_scan_reaches_no_earlier_example() -> None:
    patient = Patient("p", "F", (scan("ses-1", 70.0), scan("ses-2", 71.5), scan("ses-3", 73.0)))
    model = SiteModel.build(plan(), small_atlas())
    clean, leaked = (
        next(patient_examples(model, [patient], Volumes(leak))) for leak in (0.0, 50.0)
    )
    assert isinstance(clean.inputs, PairTokens)
    assert isinstance(leaked.inputs, PairTokens)
    for name, value in clean.inputs.tensors().items():
        other = leaked.inputs.tensors()[name]
        assert torch.equal(value[:2], other[:2]), name
        assert not torch.equal(value[2], other[2]), name  # and the leak would have been seen
    assert not clean.inputs.region_change[0].any()  # nobody has a visit before the first


def test_years_and_volumes_are_those_of_the_visit_before() -> None:
    # The table's order is not that of time.
    patient = Patient("p", "F", (scan("ses-3", 73.0), scan("ses-1", 70.0)))
    model = SiteModel.build(plan(), small_atlas())
    source = Volumes()
    pair = ScanInputs(model, source, patient).read(0)
    assert isinstance(pair, VisitPair)
    assert pair.years_between.item() == 3
    assert np.array_equal(pair.earlier_volume[0, 0].numpy(), source.volume(patient.scans[1]))
    alone = ScanInputs(model, source, patient).read(1)
    assert isinstance(alone, VisitPair)
    assert alone.years_between.item() == 0
    assert torch.equal(alone.volume, alone.earlier_volume)


def test_without_an_earlier_scan_it_is_smrnet() -> None:
    model = SiteModel.build(plan(), small_atlas())
    data = plan().model_dump(mode="json")
    data["model"]["name"] = "smrnet"
    groups = default_groups("smrnet").model_dump(mode="json")
    plain = SiteModel.build(FederationPlan.parse(data | {"groups": groups}), small_atlas())
    x = torch.randn(2, 1, *GRID.shape, generator=torch.Generator().manual_seed(1))
    shared = {n: p for n, p in model.model.named_parameters() if not n.startswith("change.")}
    with torch.no_grad():
        for name, parameter in plain.model.named_parameters():
            parameter.copy_(shared[name])
        for parameter in model.parameters(["change.regions", "change.slices"]):
            parameter.fill_(1.0)
        pair = VisitPair(x, x.flip(2), torch.tensor([0.0, 0.0]))
        assert torch.equal(model.logits(pair), plain.logits(x))
        for name in ("reasoner.head.weight", "reasoner.readout.common"):
            for built in (model, plain):
                built.parameters([name])[0].fill_(0.3)
        later = VisitPair(x, x.flip(2), torch.tensor([2.0, 0.0]))
        moved = model.logits(later) - plain.logits(x)
    assert moved[0].abs().max() > 1e-6
    assert not moved[1].any()
