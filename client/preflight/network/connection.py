"""Whether an outbound connection to the coordinator comes about, straight or by a proxy."""

from __future__ import annotations

import time

from client.preflight.network.way import Way


def check_connection(way: Way) -> str:
    """Open and close one connection; raises SMR-E431 (nobody answers) and SMR-E432 (the proxy)."""
    start = time.monotonic()
    way.open().close()
    way.reached = True
    took = 1000 * (time.monotonic() - start)
    through = "directly" if way.proxy is None else f"through the proxy {way.proxy}"
    return f"{way.address} {through}, {took:.0f} ms"
