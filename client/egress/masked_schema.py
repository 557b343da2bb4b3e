"""Which integers a reply of the secure aggregation may hold: names, types and sizes by the plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy.typing as npt

from shared_model.plan import FederationPlan
from shared_model.protocol.messages import MASK_KINDS, AnyHeader, Kind
from shared_model.protocol.sealed import SIGNATURE_BYTES
from shared_model.secure_aggregation.encryption import SEALED_BYTES
from shared_model.secure_aggregation.keys import KEY_BYTES
from shared_model.secure_aggregation.messages import UnmaskOrder
from shared_model.secure_aggregation.plan_block import plan_block
from shared_model.secure_aggregation.shamir import ELEMENT_BYTES

_COMMITMENT_BYTES = 32

#: Name of an array -> its type and shape.
Schema = Mapping[str, tuple[str, tuple[int, ...]]]


def holds_integers(kind: Kind, plan: FederationPlan) -> bool:
    """Whether a reply of this kind is one of integers under this plan."""
    return kind in MASK_KINDS or (kind == "train" and plan.privacy.summed)


def masked_problems(
    header: AnyHeader,
    kind: Kind,
    arrays: Mapping[str, npt.NDArray[Any]],
    plan: FederationPlan,
    numbers: int,
    order: UnmaskOrder | None,
) -> Iterator[tuple[str, object, object]]:
    """What is wrong with the arrays of such a reply: what, expected, found.

    ``numbers``: P, of the plan's shared parameters. ``order``: what an ``unmask`` reply answers. Of
    ``shares`` and ``unmask`` a reply may hold fewer than the largest set, never another array;
    a site whose two secrets were both in one ``unmask`` reply could be read alone, so that is
    looked at here once more.
    """
    if not plan.privacy.summed:
        yield f"a reply of kind {kind}", "privacy mode 'distributed' or 'central'", "another"
        return
    schema = _schema(header, kind, plan, numbers, order)
    found = {name: (array.dtype.name, array.shape) for name, array in arrays.items()}
    strange = sorted(name for name, form in found.items() if schema.get(name) != form)
    if strange:
        name = strange[0]
        yield f"array {name[:60]!r}", schema.get(name, "no such array"), found[name]
    missing = sorted(schema.keys() - found.keys())
    if missing and kind in ("keys", "train"):
        yield "a reply without some of its arrays", sorted(schema), missing[:5]
    names = [name.split("/", 1)[-1] for name in found]
    if kind == "unmask" and len(set(names)) < len(names):
        yield "both secrets of one site", "one of them", sorted(found)[:10]


def _schema(
    header: AnyHeader, kind: Kind, plan: FederationPlan, numbers: int, order: UnmaskOrder | None
) -> Schema:
    if kind == "train":
        return {
            "masked": ("uint64", (numbers,)),
            "confirmation": ("uint8", (SIGNATURE_BYTES,)),
        }
    if kind == "unmask":
        survivors, dropped = ((), ()) if order is None else (order.survivors, order.dropped)
        names = [*(f"self/{one}" for one in survivors), *(f"key/{one}" for one in dropped)]
        return dict.fromkeys(names, ("uint8", (ELEMENT_BYTES,)))
    block = plan_block(plan, header.run_id, header.round)
    if kind == "keys":
        sizes = {
            "share_key": KEY_BYTES,
            "mask_keys": KEY_BYTES * block.rounds,
            "seeds": _COMMITMENT_BYTES * block.rounds,
        }
    else:
        peers = [name for name in block.sites if name != header.site]
        sizes = {f"share/{name}": SEALED_BYTES * block.rounds for name in peers}
    return {name: ("uint8", (size,)) for name, size in sizes.items()}
