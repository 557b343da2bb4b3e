"""Whether the first host on the way has an address."""

from __future__ import annotations

import socket

from client.preflight.network.way import Way
from shared_model.errors import SmrfedError


def check_name(way: Way) -> str:
    """Resolve the coordinator's name, or the proxy's, which resolves the rest; raises SMR-E430."""
    host, port = way.first_hop
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        whose = "coordinator's" if way.proxy is None else "proxy's"
        raise SmrfedError(
            "SMR-E430",
            f"the {whose} name {host} has no address here",
            expected="an address from this machine's name service",
            found=error,
            remedy="correct the name, repair /etc/resolv.conf, or ask for an entry in the internal "
            "DNS; where only the proxy knows outside names, name the proxy",
        ) from None
    addresses = dict.fromkeys(str(answer[4][0]) for answer in answers)
    behind = "" if way.proxy is None else f"; the proxy resolves {way.host}"
    return f"{host} is {', '.join(list(addresses)[:3])}{behind}"
