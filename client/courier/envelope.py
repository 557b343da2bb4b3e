"""A sealed message as Flower records: the body as an array, so that Flower cuts it in chunks.

The body travels as an ``Array`` of its own: Flower addresses chunks by content, so the global
parameters, which are the same bytes for every site, are stored once for all of them. The header and
the signature are small and differ per site; they travel in a ``ConfigRecord``. The same layout is
written and read by ``server/flower/envelope.py``.
"""

from __future__ import annotations

import re

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from shared_model.errors import SmrfedError
from shared_model.protocol.sealed import Sealed

_ENVELOPE = "envelope"
_ARRAYS = "arrays"
_BODY = "body"
_ERROR = "error"
_ENCODING = "smrfed.sealed-body.v1"

# What a site tells about a failure: a number, and words that no patient's data can reach.
_TITLES = {
    "SMR-E450": "the courier finds no site agent",
    "SMR-E451": "the courier received a message that is not in the protocol",
    "SMR-E452": "the courier failed; the site's log tells why",
    "SMR-E459": "the courier was stopped before the agent had answered",
}


# A closed door (the policy's hours, or the limit of a day), and when it opens.
_CLOSED = ("SMR-E360", "SMR-E361")
_OPENING = re.compile(r"opens at \d{4}-\d\d-\d\dT\d\d:\d\dZ")


def unpack(content: RecordDict) -> Sealed:
    """The sealed message in records that may be hostile; raises SMR-E451, SMR-E111 or SMR-E112."""
    try:
        envelope = content.config_records[_ENVELOPE]
        header, signature = envelope["header"], envelope["signature"]
        body = content.array_records[_ARRAYS][_BODY].data
    except KeyError as error:
        raise _not_protocol(f"no {error}") from None
    if not (isinstance(header, bytes) and isinstance(signature, bytes) and isinstance(body, bytes)):
        raise _not_protocol("fields that are not bytes")
    return Sealed(header, body, signature)


def pack(message: Sealed) -> RecordDict:
    """The sealed message as records."""
    body = Array(dtype="uint8", shape=(len(message.body),), stype=_ENCODING, data=message.body)
    return RecordDict(
        {
            _ENVELOPE: ConfigRecord({"header": message.header, "signature": message.signature}),
            _ARRAYS: ArrayRecord({_BODY: body}),
        }
    )


def pack_error(code: str, found: object = None) -> RecordDict:
    """A failure as records: its number and a fixed title, nothing that depends on data.

    Of what was ``found``, only the time at which the site's door opens is passed on.
    """
    title = _TITLES.get(code, "the site's agent declined; its log and receipts tell why")
    if code in _CLOSED and _OPENING.fullmatch(str(found)):
        title = f"data may not leave the hospital now; {found}"
    return RecordDict({_ERROR: ConfigRecord({"code": code, "title": title})})


def _not_protocol(found: str) -> SmrfedError:
    return SmrfedError(
        "SMR-E451",
        _TITLES["SMR-E451"],
        expected="an envelope with header and signature, and one array named body",
        found=found,
        remedy="check that the coordinator runs the same smrfed version",
    )
