"""``python -m simulations.notebooks.run FILE``: run the cells in order, keep what they say.

No kernel and no further package: a cell is Python, its printed text is an output, and so is the
value of its last line (a matplotlib figure as a picture). Anything a cell raises ends the run.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from shared_model.atlas.cache import write_atomically


def run_notebook(notebook: dict[str, Any], name: str) -> dict[str, Any]:
    """The notebook (format 4) with the outputs of this run; ``name`` is for tracebacks."""
    space: dict[str, Any] = {"__name__": "__notebook__"}
    cells, count = [], 0
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            cells.append(cell)
            continue
        count += 1
        outputs = _run_cell("".join(cell["source"]), space, f"{name}, cell {count}")
        cells.append({**cell, "execution_count": count, "outputs": outputs})
    return {**notebook, "cells": cells}


def _run_cell(source: str, space: dict[str, Any], name: str) -> list[dict[str, Any]]:
    tree = ast.parse(source, name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, name, "exec"), space)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), name, "eval"), space)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        text = printed.getvalue().splitlines(keepends=True)
        outputs.append({"output_type": "stream", "name": "stdout", "text": text})
    if value is not None:
        outputs.append({"output_type": "display_data", "metadata": {}, "data": _shown(value)})
    return outputs


def _shown(value: object) -> dict[str, Any]:
    if not isinstance(value, Figure):
        return {"text/plain": repr(value).splitlines(keepends=True)}
    buffer = io.BytesIO()
    value.savefig(buffer, format="png", dpi=100)
    return {"image/png": base64.b64encode(buffer.getvalue()).decode(), "text/plain": ["<figure>"]}


def main(path: Path) -> None:
    """Run a notebook and write it back with its outputs."""
    done = run_notebook(json.loads(path.read_text(encoding="utf-8")), path.name)
    write_atomically(path, (json.dumps(done, indent=1, ensure_ascii=False) + "\n").encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
