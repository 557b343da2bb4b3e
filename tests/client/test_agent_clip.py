"""Adaptive clipping at the agent: the norm goes from round to round, also after a crash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from agent_site import build_hospital, opened
from small_site import small_atlas, small_plan

from client.agent import trained_round as trained_module
from client.agent.agent import SiteAgent
from client.agent.clip_rounds import restore_clip
from client.training.site_model import SiteModel
from shared_model.errors import SmrfedError


class Crash(BaseException):
    """The process ends here."""


def test_a_round_that_crashed_starts_with_the_norm_of_the_first_time(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = small_plan(
        privacy={"clipping": "adaptive", "clipping_norm": 0.5, "clip_learning_rate": 1.0,
                 "epsilon": 100.0},
    )  # fmt: skip
    hospital = build_hospital(tmp_path / "site", archive, plan)
    arrays = SiteModel.build(plan, small_atlas()).shared_arrays()
    started: list[float | None] = []
    train_round = trained_module.train_round

    def watched(*args: Any) -> Any:
        started.append(args[6])
        return train_round(*args)

    monkeypatch.setattr(trained_module, "train_round", watched)
    agent = hospital.agent()
    agent.handle(hospital.instruction(arrays, 1))
    agent.close()
    # The second round dies between the training and the answer, and the machine starts anew.
    agent = hospital.agent()

    def dies(*_: object, **__: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(SiteAgent, "_release", dies)
        with pytest.raises(Crash):
            agent.handle(hospital.instruction(arrays, 2))
    agent.close()
    agent = hospital.agent()
    reply = agent.handle(hospital.instruction(arrays, 2))
    agent.handle(hospital.instruction(arrays, 3))
    header, sent = opened(agent, reply)
    agent.close()

    assert started[0] is None
    assert started[1] == started[2]
    assert started[1] is not None
    assert 0 < started[1] <= 0.5
    assert started[3] == restore_clip(hospital.state.model("run-1"), 3)
    # The norm itself stays at home.
    assert header.metrics == {}
    assert set(sent) == set(arrays)


def test_a_norm_above_the_public_bound_is_not_used(tmp_path: Path, archive: Path) -> None:
    plan = small_plan(privacy={"clipping": "adaptive", "clipping_norm": 0.5, "epsilon": 100.0})
    hospital = build_hospital(tmp_path / "site", archive, plan)
    arrays = SiteModel.build(plan, small_atlas()).shared_arrays()
    agent = hospital.agent()
    agent.handle(hospital.instruction(arrays, 1))
    stored = hospital.state.model("run-1") / "clip-0000001.json"
    stored.write_text('{"clipping_norm": 5.0}')
    with pytest.raises(SmrfedError, match="SMR-E410"):
        agent.handle(hospital.instruction(arrays, 2))
    agent.close()
