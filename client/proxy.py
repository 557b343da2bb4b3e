"""Which HTTP proxy leads from the hospital to its coordinator, if any."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from pydantic import BaseModel, ConfigDict, Field

from shared_model.errors import SmrfedError

_LOOPBACK = "127.0.0.1,localhost"


class NetworkOptions(BaseModel):
    """``[network]`` of ``site.toml``: the way out of the hospital."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    proxy: str | None = Field(
        default=None,
        min_length=1,
        description="http://HOST:PORT of the proxy, or 'direct'; none: HTTPS_PROXY and NO_PROXY",
    )

    courier_updates: Literal["ask", "accept"] = Field(
        default="ask",
        description="a new app bundle of the coordinator runs once a person allowed it, or as soon "
        "as smrfed-site renew hears of it",
    )

    def environment(self, host: str) -> dict[str, str]:
        """Variables with which Flower's SuperNode takes the same way to ``host``.

        Loopback is always direct: SuperNode and SuperExec talk over it.
        """
        if self.proxy is None:
            around = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
            kept = ",".join(filter(None, (around, _LOOPBACK)))
            return {"NO_PROXY": kept, "no_proxy": kept}
        if self.proxy == "direct":
            return {"NO_PROXY": f"{_LOOPBACK},{host}", "no_proxy": f"{_LOOPBACK},{host}"}
        named = dict.fromkeys(("HTTPS_PROXY", "https_proxy"), self.proxy)
        return {**named, "NO_PROXY": _LOOPBACK, "no_proxy": _LOOPBACK}


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy that opens tunnels (CONNECT); ``origin`` says who named it."""

    host: str
    port: int
    origin: str
    authorization: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """Without user and password."""
        return f"{self.host}:{self.port} ({self.origin})"


def proxy_for(host: str, options: NetworkOptions) -> Proxy | None:
    """The proxy on the way to ``host``, by ``site.toml`` or else by the environment.

    The environment is read as Flower's HTTP client reads it. Raises SMR-E432 for a proxy that is
    not ``http://HOST:PORT``.
    """
    if options.proxy == "direct":
        return None
    if options.proxy is not None:
        return _parse(options.proxy, "[network] proxy of site.toml")
    known: Mapping[str, str] = getproxies()
    if proxy_bypass(host):
        return None
    for scheme, name in (("https", "HTTPS_PROXY"), ("all", "ALL_PROXY")):
        if known.get(scheme):
            return _parse(known[scheme], name)
    return None


def _parse(value: str, origin: str) -> Proxy:
    parts = urlsplit(value if "://" in value else f"http://{value}")
    try:
        host, port = parts.hostname, parts.port or 80
    except ValueError:
        host, port = None, 0
    if parts.scheme != "http" or not host:
        raise SmrfedError(
            "SMR-E432",
            "the proxy that is set cannot be used",
            expected="http://HOST:PORT, with user:password@ before the host if it asks for them",
            found=f"a value of {origin} with scheme {parts.scheme!r}",
            remedy="correct it; SOCKS proxies and proxies that speak TLS themselves are not used",
        )
    authorization = None
    if parts.username is not None:
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(secret.encode()).decode()
    return Proxy(host, port, origin, authorization)
