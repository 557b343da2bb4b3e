"""The figures of docs/quality.md: their structure and laws on small heads, and on two real ones."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from native_site_fixture import head, native_plan, t1w, write_scan
from quality_heads import flat_head, good_measures
from rich.console import Console

from client.prepared.native_recipe import NativeRecipe
from client.prepared.record import ScanRecord
from client.preprocessing.brain_extraction import ExtractBrain
from client.preprocessing.registration import RegisterToMNI
from client.quality.catalogue import CATALOGUE
from simulations.benchmarks.quality_calibration import spoiled
from simulations.benchmarks.quality_calibration.calibration import Calibration, calibrate
from simulations.benchmarks.quality_calibration.heads import HeadFile, find_heads
from simulations.benchmarks.quality_calibration.prepared_heads import PreparedHead
from simulations.benchmarks.quality_calibration.span import Span
from simulations.benchmarks.quality_calibration.spoiled import spoil
from simulations.benchmarks.quality_calibration.tables import as_json, print_tables

DATA = Path(__file__).parents[2].parent / "shared" / "data"
# One coarse level each: enough for heads that are nearly where the template is.
PLAN = native_plan(
    {
        "source": "native",
        "bias_field": {"enabled": False},
        "registration": {"levels_mm": [8.0]},
    }
)


def lowest(span: Span | None) -> float:
    assert span is not None
    return span.lowest


def highest(span: Span | None) -> float:
    assert span is not None
    return span.highest


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Calibration]:
    """Two people as stripped scans of 2 mm, through all steps; data, out and what was found."""
    data, out = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("out")
    for number in (1, 2):
        write_scan(t1w(data / "bids" / "made", f"sub-{number}"), head(number), turned=3.0 * number)
    recipe = NativeRecipe(PLAN.input, PLAN.atlas, out)
    with pytest.MonkeyPatch.context() as patch:
        # To look for 23 other orientations, eight times, is most of the time.
        patch.setattr(RegisterToMNI, "_refuse_turned", lambda *_: None)
        return data, out, calibrate(find_heads(data, out), recipe, lambda _: None)


@pytest.mark.slow  # heads are prepared: a minute, for a benchmark
def test_every_figure_is_there_and_one_brain_is_nearer_to_itself_than_to_another(
    small: tuple[Path, Path, Calibration],
) -> None:
    found = small[2]
    assert [row.name for row in found.heads] == ["made sub-1", "made sub-2"]
    assert found.refused == ()
    assert set(found.measures) == {measured.name for measured in CATALOGUE}
    assert found.measures["dice"] == Span.of(row.measures["dice"] for row in found.heads)
    # The air of a stripped scan is zero: its noise cannot be measured.
    assert found.measures["noise_percent"] is None
    like = found.likeness
    copy = like["copy: turned, 1.3 mm, 900 greys"]
    rescan = like["rescan: also gamma, coil, 5 % noise, tighter mask"]
    others = max(highest(like["different people"]), highest(like["different people, one mirrored"]))
    assert others < 0.5 < lowest(rescan)
    assert lowest(rescan) < lowest(copy) < 1
    assert lowest(like["mirrored in the file, compared mirrored"]) > 0.9
    off = [span for name, span in like.items() if name.startswith("registration off")]
    assert highest(off[1]) < lowest(off[0]) < 1
    sides = found.left_right
    assert lowest(sides.one_person) > 0.5
    assert highest(sides.one_mirrored) < -0.5
    assert -0.5 < lowest(sides.different_people) <= highest(sides.different_people) < 0.5
    # Mirrored, each head opposes the others as much as it agreed with them.
    assert sides.against_others is not None
    assert sides.mirrored_against_others is not None
    assert sides.mirrored_against_others.lowest == pytest.approx(
        -sides.against_others.highest, abs=0.1
    )
    assert found.page_mb > 0.1


@pytest.mark.slow
def test_a_second_run_prepares_and_registers_nothing(
    small: tuple[Path, Path, Calibration], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out, first = small

    def again(*_: object) -> None:
        raise AssertionError("a step was done again")

    monkeypatch.setattr(ExtractBrain, "__call__", again)
    monkeypatch.setattr(RegisterToMNI, "__call__", again)
    recipe = NativeRecipe(PLAN.input, PLAN.atlas, out)
    second = calibrate(find_heads(data, out), recipe, lambda _: None)
    assert json.dumps(as_json(second)) == json.dumps(as_json(first))


@pytest.mark.slow
def test_the_tables_tell_all_of_it(small: tuple[Path, Path, Calibration]) -> None:
    text = io.StringIO()
    print_tables(small[2], Console(file=text, width=200))
    told = text.getvalue()
    for name in (*(m.name for m in CATALOGUE), *small[2].likeness, "made sub-1"):
        assert name in told, name
    assert "both signs right" in told


def test_nothing_to_calibrate_with_is_said(tmp_path: Path) -> None:
    assert find_heads(tmp_path, tmp_path) == ()
    recipe = NativeRecipe(PLAN.input, PLAN.atlas, tmp_path)
    with pytest.raises(ValueError, match="no head"):
        calibrate([], recipe, lambda _: None)


@pytest.mark.slow
def test_the_more_harm_the_worse_and_none_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, amounts in {"_NOISE": (0.1, 0.2, 0.3), "_BLUR_MM": (3, 8), "_GHOSTS": ()}.items():
        monkeypatch.setattr(spoiled, name, amounts)
    record = ScanRecord(source_sha256="0" * 64, measures=good_measures())
    recipe = NativeRecipe(
        native_plan(input={"grid": {"spacing_mm": 2.0}}).input, PLAN.atlas, tmp_path
    )
    made = PreparedHead(HeadFile("flat", tmp_path), record, recipe)
    found = {row.harm: row for row in spoil(made, flat_head(noise=0.06))}
    assert found["nothing"].moved == {}
    assert found["nothing"].result == "pass"
    snr = [found[f"noise of {part}% of white matter"].moved["snr_white"] for part in (10, 20, 30)]
    assert snr == sorted(snr, reverse=True)
    assert found["noise of 30% of white matter"].result != "pass"
    assert found["T2-like contrast"].final
    assert "white-over-grey-low" in found["T2-like contrast"].reasons
    blur = [found[f"blur of {mm} mm"].moved["smoothness_mm"] for mm in (3, 8)]
    assert blur == sorted(blur)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real scans at {DATA}")
def test_two_real_heads_give_what_the_page_says(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "simulations.benchmarks.quality", "--data", str(DATA)]
    done = subprocess.run(
        [*command, "--out", str(tmp_path), "--heads", "2", "--json"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [row["name"] for row in found["heads"]] == ["brainchop sub-01", "colin27 sub-01"]
    assert all(row["result"] == "pass" for row in found["heads"])
    measures, like, sides = found["measures"], found["likeness"], found["left_right"]
    # The columns of docs/quality.md, with room for another version of a library.
    assert 0.95 < measures["dice"]["lowest"] <= measures["dice"]["highest"] < 0.98
    contrast = measures["white_over_grey"]
    assert 1.2 < contrast["lowest"] < contrast["highest"] < 1.7
    assert like["different people"]["highest"] < 0.35
    assert like["copy: turned, 1.3 mm, 900 greys"]["lowest"] > 0.99
    assert like["rescan: also gamma, coil, 5 % noise, tighter mask"]["lowest"] > 0.9
    assert like["mirrored in the file, compared mirrored"]["lowest"] > 0.99
    assert sides["one_mirrored"]["highest"] < -0.9
    assert sides["one_person"]["lowest"] > 0.9
    verdicts = {row["harm"]: row["result"] for row in found["spoiled"]}
    assert Counter(row["head"] for row in found["spoiled"]) == {"brainchop sub-01": 14}
    assert verdicts["nothing"] == verdicts["noise of 10% of white matter"] == "pass"
    assert verdicts["noise of 20% of white matter"] == verdicts["blur of 5 mm"] == "review"
    assert verdicts["T2-like contrast"] == "fail"
    assert "Spoiled on purpose" in done.stderr
