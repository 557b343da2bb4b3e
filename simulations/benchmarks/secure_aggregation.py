"""What secure aggregation costs a site and the coordinator, beside the same round without masks.

Run ``python -m simulations.benchmarks.secure_aggregation --numbers 50000 12000000 --sites 4 8 16 32
--json out.json``: a table on stdout. Seconds are CPU seconds of this one-threaded process, so that
other users of the machine change them little. One site's work is measured on one site; the
coordinator's over all sites. Without masks: the site encodes a float32 update, the coordinator
decodes and adds each to its exact sum, and takes the mean.

The other sites' vectors are random numbers with their true confirmations: what the coordinator does
does not depend on what they hold. With ``--check`` all sites mask, and the sum is compared.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console
from rich.table import Table

from server.aggregation.fixed_point import FixedPointSum
from shared_model.protocol.arrays import body_digest, decode_arrays, encode_arrays
from shared_model.protocol.sealed import Sealed, seal
from shared_model.secure_aggregation.block import Block
from shared_model.secure_aggregation.coordinator import BlockSetup, RoundSum
from shared_model.secure_aggregation.masks import Vector
from shared_model.secure_aggregation.messages import (
    MaskedVector,
    UnmaskQuestion,
    encode_advertisements,
    encode_shares,
)
from shared_model.secure_aggregation.signed import KeysReply, confirm
from shared_model.secure_aggregation.site import SiteSession
from shared_model.secure_aggregation.site_keys import SiteKeys
from simulations.benchmarks.machine import Machine

_T = TypeVar("_T")
_PARAMETER = "parameter"


@dataclass(frozen=True)
class Cost:
    """One round of one federation; seconds of CPU, bytes as encoded.

    ``setup_*`` is once per block, for all of its rounds; ``setup_server_s`` is for all sites. Bytes
    of a site are those that it sends (``up``) and gets (``down``, without the parameters, which
    come in either case).
    """

    numbers: int
    sites: int
    dropped: int
    rounds_per_setup: int
    plain_site_s: float
    plain_server_s: float
    plain_up: int
    setup_site_s: float
    setup_server_s: float
    setup_up: int
    setup_down: int
    mask_s: float
    answer_s: float
    server_add_s: float
    server_open_s: float
    up: int
    down: int
    checked: bool

    @property
    def site_s(self) -> float:
        """A site's CPU seconds per round, its part of the set-up included."""
        return self.mask_s + self.answer_s + self.setup_site_s / self.rounds_per_setup

    @property
    def server_s(self) -> float:
        """The coordinator's CPU seconds per round, its part of the set-up included."""
        set_up = self.setup_server_s / self.rounds_per_setup
        return self.server_add_s + self.server_open_s + set_up


class _Federation:
    """All sites of a block after the set-up, and what that cost."""

    def __init__(self, sites: int, rounds: int) -> None:
        names = [f"site-{number:02d}" for number in range(sites)]
        self.keys = {name: Ed25519PrivateKey.from_private_bytes(_secret(name)) for name in names}
        public = {name: key.public_key().public_bytes_raw() for name, key in self.keys.items()}
        enough = sites // 2 + 1
        self.block = Block("benchmark", "1" * 64, 1, rounds, public, enough, enough)
        self.setup = BlockSetup(self.block)
        replies = {name: self._keys_reply(name) for name in names}
        first = names[0]
        keys_s, _ = _timed(lambda: self._keys_reply(first))
        relay_s, relayed = _timed(lambda: self._relay(replies))
        self.sessions: dict[str, SiteSession] = {}
        bodies = {name: self._share(name, relayed) for name in names}
        share_s, _ = _timed(lambda: self._share(first, relayed))
        take_s, _ = _timed(lambda: self._take(bodies))
        self.site_s, self.server_s = keys_s + share_s, relay_s + take_s
        self.up = len(replies[first].body) + len(bodies[first])
        self.down = len(encode_advertisements(relayed))

    def _keys_reply(self, site: str) -> Sealed:
        body = SiteKeys(self.block, site, _secret(site)).advertisement().encode()
        header = KeysReply(
            run_id=self.block.run_id,
            round=self.block.first_round,
            kind="keys",
            site=site,
            plan_digest=self.block.plan_digest,
            body_sha256=body_digest(body),
            instruction_sha256="2" * 64,
        )
        return seal(header.canonical_json, body, self.keys[site])

    def _relay(self, replies: dict[str, Sealed]) -> dict[str, bytes]:
        for site, reply in replies.items():
            self.setup.add_advertisement(site, reply)
        return self.setup.relayed()

    def _share(self, site: str, relayed: dict[str, bytes]) -> bytes:
        session = SiteSession.open(self.block, site, _secret(site), relayed)
        self.sessions[site] = session
        return encode_shares(session.encrypted_shares())

    def _take(self, bodies: dict[str, bytes]) -> None:
        for site, body in bodies.items():
            self.setup.add_shares(site, body)


def measure(numbers: int, sites: int, dropped: int, rounds: int, *, check: bool) -> Cost:
    """One round with so many sites that drop out after all had masked for them."""
    plain = _plain(numbers, sites - dropped)
    federation = _Federation(sites, rounds)
    names = tuple(federation.keys)
    survivors = names[: sites - dropped]
    rng = np.random.default_rng(0)
    total = RoundSum(federation.setup, 1, names, numbers)
    mask_s, add_s, up, expected = 0.0, 0.0, 0, np.zeros(numbers, dtype=np.uint64)
    random = rng.integers(0, 2**63, numbers, dtype=np.uint64)
    for place, site in enumerate(survivors):
        vector = random.copy()
        if place == 0 or check:
            expected += vector
            seconds, body = _timed(lambda s=site, v=vector: _mask(federation, total, s, v))  # type: ignore[misc]
            mask_s = mask_s or seconds
        else:
            signed = confirm(federation.block, 1, total.order.maskers, site, federation.keys[site])
            body = MaskedVector(vector, signed).encode()
        up = len(body)
        del vector
        seconds, _ = _timed(lambda s=site, b=body: total.add(s, b))  # type: ignore[misc]
        add_s += seconds
    order = total.close()
    answer_s, down, open_s = 0.0, 0, 0.0
    for site in survivors[: federation.block.threshold]:
        seconds, asked = _timed(lambda s=site: total.question(s).encode())  # type: ignore[misc]
        open_s += seconds
        seconds, body = _timed(
            lambda s=site, q=asked: (  # type: ignore[misc]
                federation.sessions[s]
                .unmask(1, total.order, order, UnmaskQuestion.decode(q, order, s))
                .encode()
            )
        )
        answer_s, down = answer_s or seconds, len(asked)
        up += len(body) if site == survivors[0] else 0
        seconds, _ = _timed(lambda s=site, b=body: total.add_answer(s, b))  # type: ignore[misc]
        open_s += seconds
    seconds, opened = _timed(total.open)
    if check and (opened != expected.view(np.int64)).any():
        raise RuntimeError("the opened sum is not the plain sum")
    return Cost(
        numbers=numbers,
        sites=sites,
        dropped=dropped,
        rounds_per_setup=rounds,
        plain_site_s=plain[0],
        plain_server_s=plain[1],
        plain_up=plain[2],
        setup_site_s=federation.site_s,
        setup_server_s=federation.server_s,
        setup_up=federation.up,
        setup_down=federation.down,
        mask_s=mask_s,
        answer_s=answer_s,
        server_add_s=add_s,
        server_open_s=open_s + seconds,
        up=up,
        down=down,
        checked=check,
    )


def _mask(federation: _Federation, total: RoundSum, site: str, vector: Vector) -> bytes:
    signed = federation.sessions[site].mask(vector, 1, total.order, federation.keys[site])
    return MaskedVector(vector, signed).encode()


def _plain(numbers: int, sites: int) -> tuple[float, float, int]:
    """A site's seconds, the coordinator's, and a site's bytes, without masks."""
    update = {_PARAMETER: np.random.default_rng(0).normal(0, 0.01, numbers).astype(np.float32)}
    site_s, body = _timed(lambda: encode_arrays(update))
    total = FixedPointSum({_PARAMETER: (numbers,)}, sites)
    server_s = 0.0
    for _ in range(sites):
        seconds, _ = _timed(lambda: total.add(decode_arrays(body), 1))
        server_s += seconds
    seconds, _ = _timed(total.mean)
    return site_s, server_s + seconds, len(body)


def _timed(work: Callable[[], _T]) -> tuple[float, _T]:
    begin = time.process_time()
    result = work()
    return time.process_time() - begin, result


def _secret(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def _table(costs: list[Cost]) -> Table:
    table = Table(title="CPU seconds and bytes per round, set-up shared out; x: beside no masks")
    for column in (
        *("numbers", "sites", "gone", "site s", "plain", "x", "site MB up", "plain MB", "MB down"),
        *("server s", "plain", "x", "server MB in"),
    ):
        table.add_column(column, justify="right")
    for c in costs:
        up = c.up + c.setup_up / c.rounds_per_setup
        down = c.down + c.setup_down / c.rounds_per_setup
        table.add_row(
            f"{c.numbers:,}",
            str(c.sites),
            str(c.dropped),
            f"{c.site_s:.3f}",
            f"{c.plain_site_s:.4f}",
            f"{c.site_s / c.plain_site_s:.1f}",
            f"{up / 1e6:.3f}",
            f"{c.plain_up / 1e6:.3f}",
            f"{down / 1e6:.3f}",
            f"{c.server_s:.3f}",
            f"{c.plain_server_s:.3f}",
            f"{c.server_s / c.plain_server_s:.1f}",
            f"{up * (c.sites - c.dropped) / 1e6:.1f}",
        )
    return table


def main() -> None:
    """The command line of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--numbers", type=int, nargs="+", default=[50_000, 12_000_000])
    parser.add_argument("--sites", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--rounds", type=int, default=20, help="rounds per set-up")
    parser.add_argument("--check", action="store_true", help="all sites mask; compare the sum")
    parser.add_argument("--json", type=Path, help="write the measurements here")
    options = parser.parse_args()
    before = Machine.now()
    costs = []
    for numbers in options.numbers:
        for sites in options.sites:
            for dropped in (0, 1):
                costs.append(measure(numbers, sites, dropped, options.rounds, check=options.check))
                if options.json:
                    record = {"machine": asdict(before), "costs": [asdict(c) for c in costs]}
                    options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    console = Console(width=140)
    console.print(_table(costs))
    console.print(f"before: {before}\nafter: load average {Machine.now().load_average:g}")


if __name__ == "__main__":
    main()
