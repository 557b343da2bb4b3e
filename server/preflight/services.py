"""Whether the coordinator's own processes answer on loopback."""

from __future__ import annotations

import http.client
import socket
import ssl

from server.config import CoordinatorFolder
from shared_model.enrolment.messages import ENROLMENT_PATH
from shared_model.errors import SmrfedError
from shared_model.preflight.checks import Note

_ANSWER_S = 5.0


def check_superlink(home: CoordinatorFolder) -> str:
    """``/health`` with the authority's certificate; raises SMR-E704."""
    port = home.config.superlink_port
    try:
        trust = ssl.create_default_context(cafile=home.authority)
        connection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=_ANSWER_S, context=trust
        )
        try:
            connection.request("GET", "/health")
            status = connection.getresponse().status
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        raise _silent("SuperLink", port, f"{type(error).__name__}: {error}") from None
    if status != 200:
        raise _silent("SuperLink", port, f"HTTP {status}")
    return f"answers on 127.0.0.1:{port}"


def check_enrolment(home: CoordinatorFolder) -> str:
    """The enrolment service refuses who brings no token: that is its answer. Raises SMR-E704."""
    port = home.config.enrolment_port
    if not _listens(port):
        return Note(
            f"nothing listens on 127.0.0.1:{port}: no site can join (smrfed-coordinator up)"
        )
    for secure in (False, True):
        try:
            status = _ask(home, port, secure=secure)
        except (OSError, http.client.HTTPException):
            continue
        if status == 403:
            return f"answers on 127.0.0.1:{port}{', with TLS of its own' if secure else ''}"
    raise _silent("enrolment service", port, "no answer 403 to a request without a token")


def check_dashboard(home: CoordinatorFolder) -> str:
    """Whether dashboard and metrics listen; neither has to."""
    config = home.config
    up = {"dashboard": config.dashboard_port, "metrics": config.metrics_port}
    shown = [f"{name} {'on' if _listens(port) else 'off'}" for name, port in up.items()]
    return ", ".join(shown)


def _ask(home: CoordinatorFolder, port: int, *, secure: bool) -> int:
    connection: http.client.HTTPConnection
    if secure:
        trust = ssl.create_default_context(cafile=home.authority)
        connection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=_ANSWER_S, context=trust
        )
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_S)
    try:
        connection.request("GET", ENROLMENT_PATH)
        return connection.getresponse().status
    finally:
        connection.close()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(_ANSWER_S)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _silent(what: str, port: int, found: str) -> SmrfedError:
    return SmrfedError(
        "SMR-E704",
        f"the coordinator's {what} does not answer as it should",
        expected=f"an answer on 127.0.0.1:{port}",
        found=found,
        remedy="start the coordinator: smrfed-coordinator up; the logs are in the folder logs",
    )
