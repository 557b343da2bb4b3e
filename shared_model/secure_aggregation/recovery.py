"""A secret from the sites' shares of it, checked against what its owner published."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping

from shared_model.errors import SmrfedError
from shared_model.secure_aggregation.block import Block
from shared_model.secure_aggregation.shamir import read_share, reconstruct, value_at

#: Wrong shares that are found and named; more of them make the round void.
MOST_LIARS = 2


def recover(
    shares: Mapping[str, bytes], block: Block, what: str, fits: Callable[[bytes], bool]
) -> tuple[bytes, tuple[str, ...]]:
    """The secret, and the sites whose shares were wrong.

    ``shares``: site -> 33 bytes. ``fits`` compares a candidate with the commitment or public key.
    Any ``threshold`` right shares will do; up to two wrong ones are worked around where enough are
    left. Raises SMR-E138 for fewer shares than the threshold, SMR-E139 when none fit.
    """
    readable = {block.point(site): value for site, value in _readable(shares)}
    if len(readable) < block.threshold:
        raise SmrfedError(
            "SMR-E138",
            f"too few sites hold their shares of {what} out",
            expected=f"{block.threshold} shares",
            found=f"{len(readable)}",
            remedy="the round is void: nothing was opened, the parameters stay; look at which "
            "sites dropped out",
        )
    for without in _left_out(sorted(readable), len(readable) - block.threshold):
        points = [point for point in sorted(readable) if point not in without]
        chosen = {point: readable[point] for point in points[: block.threshold]}
        secret = reconstruct(chosen)
        if secret is not None and fits(secret):
            wrong = {site for site in shares if block.point(site) not in readable}
            wrong |= {
                block.sites[point - 1]
                for point, value in readable.items()
                if value_at(chosen, point) != value
            }
            return secret, tuple(sorted(wrong))
    raise SmrfedError(
        "SMR-E139",
        f"the shares of {what} do not give what its owner published",
        expected=f"{block.threshold} right shares, at most {MOST_LIARS} wrong ones beside them",
        found=f"{len(readable)} shares: {', '.join(sorted(shares))}"[:300],
        remedy="the round is void: nothing was opened, the parameters stay; a site sends wrong "
        "shares, or its owner dealt them: leave sites out one by one to find it",
    )


def _readable(shares: Mapping[str, bytes]) -> Iterable[tuple[str, int]]:
    for site, share in shares.items():
        try:
            yield site, read_share(share)
        except SmrfedError:
            continue


def _left_out(points: list[int], spare: int) -> Iterable[frozenset[int]]:
    for count in range(min(MOST_LIARS, spare) + 1):
        yield from map(frozenset, itertools.combinations(points, count))
