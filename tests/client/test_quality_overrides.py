"""A person's decisions: kept, ordered, tied to one file, and not to be rewritten."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from quality_heads import SHA, good_measures

from client.quality.limits import QualityLimits
from client.quality.overrides import Overrides
from client.quality.verdict import judge_scan
from shared_model.errors import SmrfedError

LIMITS = QualityLimits()
REVIEW = judge_scan(good_measures(cnr=1.0), LIMITS)
FINAL = judge_scan(good_measures(dice=0.5), LIMITS)
OTHER = "cd" * 32


def lines(folder: Path) -> Path:
    return folder / "quality" / "overrides.jsonl"


def test_the_latest_decision_counts_and_all_are_kept(tmp_path: Path) -> None:
    overrides = Overrides(tmp_path)
    assert overrides.latest() == {}
    overrides.record(SHA, "accept", REVIEW, who="A. Physicist", why="known coil")
    overrides.record(OTHER, "reject", REVIEW, who="A. Physicist", why="motion")
    overrides.record(SHA, "reject", REVIEW, who="B. Physicist", why="second look")
    known = Overrides(tmp_path)
    assert {key: o.decision for key, o in known.latest().items()} == {
        SHA: "reject",
        OTHER: "reject",
    }
    assert [o.number for o in known.read()] == [1, 2, 3]
    assert known.read()[0].seen == "review"
    # Another file, even of the same person, is not meant.
    assert "ef" * 32 not in known.latest()


def test_what_cannot_be_used_cannot_be_accepted(tmp_path: Path) -> None:
    with pytest.raises(SmrfedError) as caught:
        Overrides(tmp_path).record(SHA, "accept", FINAL, who="P", why="looks fine")
    assert caught.value.code == "SMR-E270"
    assert "dice-low" in str(caught.value)
    assert Overrides(tmp_path).read() == ()
    Overrides(tmp_path).record(SHA, "reject", FINAL, who="P", why="a phantom")


@pytest.mark.parametrize(
    ("scan", "who", "why"), [(SHA, " ", "why"), (SHA, "who", ""), ("sub-01", "who", "why")]
)
def test_a_decision_needs_a_scan_a_person_and_a_reason(
    tmp_path: Path, scan: str, who: str, why: str
) -> None:
    with pytest.raises(SmrfedError) as caught:
        Overrides(tmp_path).record(scan, "reject", REVIEW, who=who, why=why)
    assert caught.value.code == "SMR-E273"


@pytest.mark.parametrize("attack", ["edit", "drop", "shorten", "swap"])
def test_an_altered_history_is_noticed(tmp_path: Path, attack: str) -> None:
    overrides = Overrides(tmp_path)
    for why in ("one", "two", "three"):
        overrides.record(SHA, "reject", REVIEW, who="P", why=why)
    rows = lines(tmp_path).read_text().splitlines(keepends=True)
    if attack == "edit":
        rows[0] = json.dumps({**json.loads(rows[0]), "decision": "accept"}) + "\n"
    elif attack == "drop":
        del rows[1]
    elif attack == "shorten":
        del rows[2]
    else:
        rows[0], rows[1] = rows[1], rows[0]
    lines(tmp_path).write_text("".join(rows))
    for attempt in (
        overrides.read,
        lambda: overrides.record(SHA, "accept", REVIEW, who="P", why="four"),
    ):
        with pytest.raises(SmrfedError) as caught:
            attempt()
        assert caught.value.code == "SMR-E271"


def test_a_line_that_a_crash_cut_short_never_counted(tmp_path: Path) -> None:
    overrides = Overrides(tmp_path)
    overrides.record(SHA, "accept", REVIEW, who="P", why="one")
    with lines(tmp_path).open("a") as file:
        file.write('{"number": 2, "decision": "rej')
    assert overrides.latest()[SHA].decision == "accept"
    overrides.record(SHA, "reject", REVIEW, who="P", why="two")
    assert [o.why for o in overrides.read()] == ["one", "two"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "quality").write_text("a file in the folder's place")
    with pytest.raises(SmrfedError) as caught:
        Overrides(tmp_path).record(SHA, "reject", REVIEW, who="P", why="x")
    assert caught.value.code == "SMR-E272"


def test_processes_do_not_lose_each_others_decisions(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from client.quality.overrides import Overrides\n"
        "from client.quality.verdict import Verdict\n"
        "for i in range(8):\n"
        "    Overrides(Path(sys.argv[1])).record('ab' * 32, 'reject', Verdict(result='pass'),\n"
        "        who=sys.argv[2], why=str(i))\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path), who], cwd=Path.cwd())
        for who in ("A", "B")
    ]
    assert [process.wait() for process in running] == [0, 0]
    made = Overrides(tmp_path).read()
    for who in ("A", "B"):
        assert [o.why for o in made if o.who == who] == [str(i) for i in range(8)]
