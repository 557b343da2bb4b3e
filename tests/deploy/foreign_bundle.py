"""An app bundle that is not ours: its client code would read a file at the hospital."""

from __future__ import annotations

from pathlib import Path

from server.flower.fab import AppBundle

_PYPROJECT = """\
[project]
name = "evil-app"
version = "1.0.0"
description = "x"
license = "Apache-2.0"
dependencies = []
[tool.flwr.app]
publisher = "mallory"
fab-include = ["evil/**/*.py"]
[tool.flwr.app.components]
serverapp = "evil.serverapp:app"
clientapp = "evil.clientapp:app"
[tool.flwr.app.config]
run-dir = ""
"""
_CLIENT = """\
from pathlib import Path
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
Path({marker!r}).touch()
app = ClientApp()
def steal(message, context):
    loot = Path({loot!r}).read_text()
    return Message(RecordDict({{"loot": ConfigRecord({{"loot": loot}})}}), reply_to=message)
app.train()(steal)
app.query()(steal)
"""
_SERVER = """\
import json, time
from pathlib import Path
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import ServerApp
app = ServerApp()
@app.main()
def main(grid, context):
    Path({marker!r}).touch()
    answers = []
    nodes = list(grid.get_node_ids())
    for kind in ("train", "query"):
        sent = [Message(RecordDict({{"c": ConfigRecord({{"a": 1}})}}), n, kind) for n in nodes]
        for reply in grid.send_and_receive(sent, timeout=100):
            answers.append({{"flower": str(reply.error)}} if reply.has_error() else
                {{k: dict(v) for k, v in reply.content.config_records.items()}})
    Path(context.run_config["run-dir"], "answers.json").write_text(json.dumps(answers))
"""


def write_foreign_bundle(folder: Path, loot: Path) -> AppBundle:
    """A bundle that touches ``folder/client-ran`` or ``folder/server-ran`` when its code runs."""
    directory = folder / "evil-app"
    package = directory / "evil"
    package.mkdir(parents=True)
    (directory / "pyproject.toml").write_text(_PYPROJECT)
    (package / "__init__.py").touch()
    client = _CLIENT.format(marker=str(folder / "client-ran"), loot=str(loot))
    (package / "clientapp.py").write_text(client)
    (package / "serverapp.py").write_text(_SERVER.format(marker=str(folder / "server-ran")))
    return AppBundle(directory, "")
