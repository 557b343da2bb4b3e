"""What the public address answers: the fleet's path, health and enrolment, and nothing else."""

from __future__ import annotations

import http.client
import ssl

from server.config import CoordinatorFolder
from shared_model.enrolment.messages import ENROLMENT_PATH
from shared_model.errors import SmrfedError
from shared_model.preflight.checks import NotLookedAt

#: Methods that these paths do not take: whoever reaches them answers 405 and does nothing.
CLOSED = (
    "/v1/control/list-runs",
    "/v1/control/register-node",
    "/v1/runtime/acquire-task",
    "/docs",
    "/openapi.json",
    "/redoc",
    "/metrics",
    "/",
)
_REFUSED = (403, 404)
_FLEET = "/v1/fleet/pull-messages"
_ANSWER_S = 10.0


def check_outside(home: CoordinatorFolder, address: str | None) -> str:
    """Ask the public address for what must be closed, and for what must answer.

    Raises SMR-E705 naming every path that is open or dead. Best run from another machine, with a
    copy of the authority's certificate in a folder of its own.
    """
    if address is None:
        raise NotLookedAt("--public HOST:PORT asks from here what sites would see")
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    wrong: list[str] = []
    for path in CLOSED:
        status = _ask(home, host, int(port), path)
        if status not in _REFUSED:
            wrong.append(f"{path} answers {status}, not 403")
    health = _ask(home, host, int(port), "/health")
    if health != 200:
        wrong.append(f"/health answers {health}, not 200")
    # The proxy lets POST through alone; the SuperLink refuses this one, which is no message.
    fleet = _ask(home, host, int(port), _FLEET, "POST")
    if fleet in (*_REFUSED, 502, 503, 504):
        wrong.append(f"{_FLEET} answers {fleet}: sites cannot reach the SuperLink")
    enrolment = _ask(home, host, int(port), ENROLMENT_PATH)
    if enrolment != 403:
        wrong.append(f"{ENROLMENT_PATH} answers {enrolment} without a token, not 403")
    if wrong:
        raise SmrfedError(
            "SMR-E705",
            f"the public address {address} does not expose exactly what it should",
            expected="403 for all but /v1/fleet/, /health and enrolment",
            found="; ".join(wrong),
            remedy="put the reverse proxy of deploy/nginx in front and the SuperLink on loopback; "
            "Flower's Control API has no authentication: who reaches it runs code at every site",
        )
    return f"{len(CLOSED)} paths are closed; fleet, health and enrolment answer"


def _ask(home: CoordinatorFolder, host: str, port: int, path: str, method: str = "GET") -> int:
    trust = ssl.create_default_context(cafile=home.authority)
    connection = http.client.HTTPSConnection(host, port, timeout=_ANSWER_S, context=trust)
    try:
        connection.request(method, path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise SmrfedError(
            "SMR-E705",
            f"the public address {host}:{port} does not answer with TLS of this coordinator",
            expected=f"HTTPS with a certificate from {home.authority}",
            found=f"{type(error).__name__}: {error}"[:200],
            remedy="start the reverse proxy, open its port, and give it the certificate in pki/",
        ) from None
    finally:
        connection.close()
