"""The only thing that a hospital starts for a task of Flower: our installed courier, or a refusal.

Flower would unpack whatever bundle the coordinator's SuperLink sends and run it. Here nothing is
unpacked: a bundle whose SHA-256 the hospital has allowed selects the installed courier, any other
is answered with SMR-E470, noted in the log and in ``refused-bundles.jsonl``. Run as::

    python -P -m client.courier.pinned flwr-clientapp CONNECTION_DIR OPTIONS_OF_FLWR_CLIENTAPP...

with the task's token on standard input. Imports neither torch nor pydantic unless it refuses.
"""

from __future__ import annotations

import hashlib
import logging
import sys
from pathlib import Path
from typing import Any, NoReturn

import flwr.supernode.runtime.run_clientapp as flower
from flwr.app import Context, Message
from flwr.supernode.cli.flwr_clientapp import flwr_clientapp

from client.courier.allowed import allowed_bundles
from client.courier.app import carry
from client.courier.envelope import pack_error
from client.courier.flower_names import REPLACED, require_names
from client.courier.half_sent import HalfSent, NotedClient
from client.courier.stopping import StoppedError, StopSignals
from shared_model.errors import SmrfedError
from shared_model.supervision.token import read_token

REFUSED = "SMR-E470"
STOPPED = "SMR-E459"
CONNECTION_FILE = "connection.toml"
_log = logging.getLogger("smrfed.courier")


class PinnedBundle:
    """Takes the place of Flower's bundle handling for the one message of this process.

    Args:
        connection: the hospital's connection folder: the allow-list, and the record of refusals.
    """

    def __init__(self, connection: Path) -> None:
        self._connection = connection
        self._sha256 = ""
        self._size = 0
        self._half_sent = HalfSent(connection)
        self._push = flower.push_message
        self._signals = StopSignals(flower.register_signal_handlers)
        self.register_signal_handlers = self._signals.register_signal_handlers

    def install_from_fab(self, fab_file: bytes, *_: Any, **__: Any) -> None:
        """Note which bundle came with the message; nothing is unpacked."""
        self._signals.hold()
        self._sha256 = hashlib.sha256(fab_file).hexdigest()
        self._size = len(fab_file)

    def get_project_dir(self, *_: Any, **__: Any) -> Path:
        """A folder that is never used: a hostile identifier must not become a path."""
        return self._connection

    def install_app_dependencies(self, *_: Any, **__: Any) -> NoReturn:
        """Nothing is installed while running, whatever Flower was told."""
        raise PermissionError("smrfed installs nothing at run time")

    def get_load_client_app_fn(self, *_: Any, **__: Any) -> Any:
        """What Flower calls to load the app: the installed courier, or the refusal."""
        allowed = self._sha256 in allowed_bundles(self._connection / CONNECTION_FILE)
        return lambda *_: self.carry_message if allowed else self._refuse

    def carry_message(self, message: Message, context: Context) -> Message:
        """The installed courier, called as Flower calls a ClientApp, whatever the type."""
        try:
            return self._signals.unless_told(lambda: carry(message, context))
        except StoppedError as error:
            _log.error("stopped by %s before the agent had answered", error)
            return Message(pack_error(STOPPED), reply_to=message)

    def push_message(self, client: Any, message: Message, context: Context) -> None:
        """Flower's own, with a note of an answer that the SuperNode has in part."""
        with self._signals.handing_over():
            self._push(NotedClient(client, self._half_sent), message, context)
            self._half_sent.done()

    def _refuse(self, message: Message, context: Context) -> Message:
        error = SmrfedError(
            REFUSED,
            "an app bundle was refused: this hospital did not allow it",
            expected=f"a bundle listed in {self._connection / CONNECTION_FILE}",
            found=f"SHA-256 {self._sha256}, {self._size} bytes, Flower run {context.run_id}",
            remedy="if the coordinator announced a new version, join again; otherwise tell the "
            "coordinator that a foreign run was started. Nothing of the bundle was run or unpacked",
        )
        _log.error("%s", error)
        self._note(str(context.run_id))
        return Message(pack_error(REFUSED), reply_to=message)

    def _note(self, run_id: str) -> None:
        from client.courier.refused_bundles import FILE_NAME, note_bundle

        try:
            note_bundle(self._connection / FILE_NAME, self._sha256, run_id, self._size)
        except (OSError, SmrfedError) as problem:
            # The refusal stands either way, and the log has it.
            _log.error("the refusal could not be noted: %s", problem)


def pin(connection: Path) -> None:
    """Put our bundle handling in place of Flower's; raises SMR-E472 where it would not take."""
    require_names(flower, "run_clientapp", REPLACED)
    pinned = PinnedBundle(connection)
    for name in REPLACED:
        setattr(flower, name, getattr(pinned, name))


def _log_to_stderr() -> None:
    # Our lines only: Flower logs by itself, and its debug lines show parts of the token.
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    _log.addHandler(handler)
    _log.propagate = False


def main() -> None:
    """Answer one message; the process's own arguments never hold the token."""
    _log_to_stderr()
    _, program, connection, *options = sys.argv
    pin(Path(connection))
    sys.argv = [program, *options, "--token", read_token()]
    flwr_clientapp()


if __name__ == "__main__":
    main()
