"""The courier: a Flower ClientApp that carries sealed bytes to the site agent and back.

Flower starts a new process for every message, so this module imports neither torch nor pydantic:
it unpacks the envelope, hands it to the agent over the unix socket named by the node configuration,
and packs the agent's sealed reply. It holds no key, reads no patient, and takes no decision.
"""

from __future__ import annotations

import logging
from pathlib import Path

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client.courier.envelope import pack, pack_error, unpack
from shared_model.errors import SmrfedError

SOCKET_KEY = "socket"
_LONGEST_S = 7 * 86400.0

_log = logging.getLogger("smrfed.courier")


def carry(message: Message, context: Context) -> Message:
    """Hand the instruction in ``message`` to the agent; answer with its reply or with its error.

    An error becomes a content with ``code`` and ``title`` (see :func:`pack_error`), because Flower
    replaces what a raised exception says by its own words; the whole story stays in the site's log.
    """
    # When the message's time is over nobody waits for the answer. An agent that hangs would
    # otherwise hold one process more for every message.
    patience_s = min(max(float(message.metadata.ttl), 1.0), _LONGEST_S)
    content = _answer(message.content, context.node_config.get(SOCKET_KEY), patience_s)
    return Message(content, reply_to=message)


app = ClientApp()
app.query()(carry)


def _answer(content: RecordDict, socket: object, patience_s: float) -> RecordDict:
    try:
        if not isinstance(socket, str) or not Path(socket).is_socket():
            raise SmrfedError(
                "SMR-E450",
                "the courier finds no site agent",
                found=socket,
                expected="the path of the agent's unix socket",
                remedy="start the agent with `smrfed-site run`, and give the SuperNode its path: "
                "--node-config 'socket=\"...\"'",
            )
        # grpc takes a third of a second to import: a message that fails above does not pay for it.
        from client.agent.stub import AgentClient

        with AgentClient(Path(socket)) as agent:
            return pack(agent.handle(unpack(content), patience_s))
    except SmrfedError as error:
        _log.error("%s", error)
        return pack_error(error.code, error.found)
    except Exception:  # the reason must reach the coordinator, and the details must not
        _log.exception("the courier failed")
        return pack_error("SMR-E452")
