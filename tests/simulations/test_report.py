"""The report as a file: complete, self-contained, escaped, and equal to its JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pydantic import ValidationError
from report_fixture import score, tiny_report

from shared_model.errors import SmrfedError
from simulations.report.html import render_report, report_html
from simulations.report.results import FederationReport
from simulations.report.storage import read_report_json, write_report_json

SECTIONS = (
    "headline",
    "accuracy",
    "gain",
    "errors",
    "privacy",
    "why",
    "cohort",
    "participation",
    "method",
    "again",
)


@pytest.fixture(scope="module")
def page() -> str:
    return report_html(tiny_report())


def changed(**changes: object) -> FederationReport:
    return tiny_report(**changes)


def test_the_page_has_every_section_and_figure(page: str) -> None:
    for section in SECTIONS:
        assert f'id="{section}"' in page
    # Scores, curves, gains, 3 confusion matrices, epsilon, projection, ranking, 3 planes, fusion.
    assert page.count("data:image/svg+xml;base64,") == 13
    assert all(re.search(r'alt="[^"]+"', tag) for tag in re.findall(r"<img [^>]*?src", page))


def test_the_page_needs_nothing_from_outside(page: str, tmp_path: Path) -> None:
    text = re.sub(r'src="data:image/svg\+xml;base64,[A-Za-z0-9+/=]+"', "", page)
    assert "src=" not in text
    assert not re.search(r"https?:|//[a-z]|<script|<link|@import|url\(", text)
    out = tmp_path / "deep" / "report.html"
    render_report(tiny_report(), out)
    assert out.stat().st_size < 3_000_000
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]


def test_the_same_report_gives_the_same_bytes(page: str) -> None:
    assert report_html(tiny_report()) == page


def test_every_name_is_escaped() -> None:
    report = tiny_report()
    hostile = '<script>alert("x")</script>'
    data = json.loads(report.model_dump_json().replace('"north"', json.dumps(hostile)))
    data["run"]["title"] = hostile
    data["arms"][0]["what"] = hostile
    data["participation"][0]["set_aside"] = [{"site": hostile, "reason": hostile}]
    text = report_html(FederationReport.model_validate(data))
    assert "<script" not in text
    assert text.count("&lt;script&gt;") > 5


def test_json_gives_the_same_report_back(tmp_path: Path) -> None:
    report = tiny_report()
    path = tmp_path / "run" / "report.json"
    write_report_json(report, path)
    assert read_report_json(path) == report
    assert [file.name for file in path.parent.iterdir()] == ["report.json"]


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b'{"format": 1}', b"[]"])
def test_an_unreadable_report_has_a_number(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "report.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SmrfedError) as caught:
        read_report_json(path)
    assert caught.value.code == "SMR-E690"


def test_parts_that_were_not_computed_are_named_and_not_drawn() -> None:
    text = report_html(tiny_report(explanations=None, comparisons=(), participation=(), privacy=()))
    assert "Explanations were not recorded" in text
    assert "Paired differences with the hospitals' own models were not computed" in text
    assert "Participation was not recorded" in text
    assert "no spent epsilon is shown" in text


def test_a_run_without_privacy_claims_none() -> None:
    text = report_html(tiny_report(headline_arm="federated", privacy=()))
    assert "No formal guarantee" in text
    assert "Guarantee.</b> The unit" not in text


def test_limits_follow_the_run() -> None:
    report = tiny_report()
    real = report.run.model_copy(update={"synthetic": False, "seeds": 5})
    text = report_html(tiny_report(run=real))
    assert "simulated patients only" not in text
    assert "Every patient is simulated" not in text
    assert "One seed" not in text
    assert "5 independent repetitions" in text


def test_the_wording_makes_no_diagnosis(page: str) -> None:
    assert "Regions that drove this model" in page
    assert "pathology found" not in page


def test_set_aside_rounds_are_put_in_ranges(page: str) -> None:
    assert "rounds 4–6: no reply before the deadline" in page
    assert "round 11: no reply before the deadline" in page


def test_the_highest_score_of_a_column_is_bold_and_the_control_never() -> None:
    report = tiny_report()
    arms = [
        arm.model_copy(update={"scores": arm.scores | {"seen": score(0.99, 162)}})
        if arm.role == "shuffled"
        else arm
        for arm in report.arms
    ]
    text = report_html(tiny_report(arms=[arm.model_dump() for arm in arms]))
    assert "<b>67.0</b>" in text
    assert "<b>99.0</b>" not in text


def test_contradictory_results_are_refused() -> None:
    report = tiny_report()
    good = report.model_dump()
    for path, value in {
        ("headline_arm",): "nobody",
        ("arms", 1, "key"): "prior",
        ("arms", 1, "epsilon"): 3.0,
        ("arms", 0, "scores", "nowhere"): good["arms"][0]["scores"]["seen"],
        ("arms", 0, "scores", "seen", "n"): 81,
        ("arms", 0, "scores", "seen", "low"): 0.9,
        ("arms", 0, "scores", "seen", "confusion"): ((162,),),
        ("comparisons", 0, "low"): 0.9,
        ("privacy", 0, "site"): "nowhere",
        ("cohort", 0, "name"): "seen",
        ("explanations", "scales_mm"): (4.0, 8.0),
        ("explanations", "planes", 0, "chance"): (1.0,),
        ("explanations", "region_mass_ratio", "low"): None,
        ("unknown",): 1,
    }.items():
        data = json.loads(json.dumps(good))
        part = data
        for step in path[:-1]:
            part = part[step]
        part[path[-1]] = value
        with pytest.raises(ValidationError):
            FederationReport.model_validate(data)
