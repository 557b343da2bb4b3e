"""Another disease is another name: schemas fit plans, and plans build heads of their size."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from shared_model.atlas.atlas import Atlas
from shared_model.errors import SmrfedError
from shared_model.label_schemas import LABEL_SCHEMAS, label_schema
from shared_model.plan import FederationPlan
from shared_model.plan_model import build_plan_model
from shared_model.registry import default_groups


@pytest.mark.parametrize("name", LABEL_SCHEMAS)
def test_a_schema_is_a_head_by_configuration_alone(name: str) -> None:
    plan = FederationPlan.parse(
        {
            "name": "one",
            "task": {"labels": LABEL_SCHEMAS[name].labels},
            "model": {"config": {"width": 4}},
            "groups": default_groups("smrnet").model_dump(),
            "input": {"grid": {"spacing_mm": 4.0}},
            "privacy": {"mode": "none"},
            "federation": {"sites": [{"name": "a", "declared_patients": 9}]},
        }
    )
    labels = np.zeros(plan.input.grid.shape, np.int16)
    labels[8:20, 8:40, 8:30], labels[20:36, 8:40, 8:30] = 1, 2
    edge = np.asarray([[0, 1], [1, 0]], np.float32)
    affine = plan.input.grid.affine
    atlas = Atlas("halves", labels, affine, ("left", "right"), (1, 0), edge)
    model = build_plan_model(plan, atlas)
    logits = model(torch.zeros(1, 1, *plan.input.grid.shape)).logits
    assert logits.shape == (1, len(plan.task.labels))
    assert plan.task.labels[0] == "CN"


def test_an_unknown_schema_is_named_with_the_known_ones() -> None:
    with pytest.raises(SmrfedError, match="SMR-E750") as refused:
        label_schema("als")
    assert "ftd" in str(refused.value.render())


def test_schemas_need_no_torch() -> None:
    code = "import sys, shared_model.label_schemas; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
