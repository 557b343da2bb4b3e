"""The notebook of the documentation runs from end to end, without a notebook server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simulations.notebooks.run import main, run_notebook

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebooks" / "federation.ipynb"


def code(*sources: str) -> dict[str, object]:
    cells = [{"cell_type": "code", "source": source.splitlines(True)} for source in sources]
    return {"cells": [{"cell_type": "markdown", "source": ["# text"]}, *cells]}


def test_cells_run_in_order_and_what_they_say_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "small.ipynb"
    picture = "from matplotlib.figure import Figure\nfigure = Figure((1, 1))\nfigure"
    file.write_text(json.dumps(code("x = 2\nprint(x)", "x + 1", picture)))
    main(file)
    text, first, second, third = json.loads(file.read_text())["cells"]
    assert text["source"] == ["# text"]
    assert first["outputs"] == [{"output_type": "stream", "name": "stdout", "text": ["2\n"]}]
    assert second["outputs"][0]["data"]["text/plain"] == ["3"]
    assert third["outputs"][0]["data"]["image/png"]


def test_a_cell_that_fails_ends_the_run() -> None:
    with pytest.raises(ZeroDivisionError):
        run_notebook(code("1 / 0"), "bad")


def test_the_stored_notebook_has_the_outputs_of_a_whole_run() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    programs = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in programs] == list(range(1, len(programs) + 1))
    assert all(cell["outputs"] for cell in programs)
    assert not any(output["output_type"] == "error" for c in programs for output in c["outputs"])


@pytest.mark.slow
def test_the_notebook_runs_from_end_to_end() -> None:
    stored = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    done = run_notebook(stored, NOTEBOOK.name)
    spoken = json.dumps([cell.get("outputs") for cell in done["cells"]])
    assert "spent epsilon" in spoken
    assert "image/png" in spoken
