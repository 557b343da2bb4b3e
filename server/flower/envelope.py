"""A sealed message as Flower records, at the coordinator's end.

The layout is that of ``client/courier/envelope.py`` (the two ends never import each other; a test
holds them together): the body as an ``Array`` of its own, which Flower cuts in content-addressed
chunks, so that the global parameters are stored and sent to the SuperLink once for all sites.
"""

from __future__ import annotations

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from server.rounds.transport import Failure, said
from shared_model.errors import SmrfedError
from shared_model.protocol.sealed import Sealed

_ENVELOPE = "envelope"
_ARRAYS = "arrays"
_BODY = "body"
_ERROR = "error"
_ENCODING = "smrfed.sealed-body.v1"
_NOT_SEALED = "SMR-E551"
_MAX_TEXT = 200


def pack(message: Sealed) -> RecordDict:
    """The sealed message as records."""
    body = Array(dtype="uint8", shape=(len(message.body),), stype=_ENCODING, data=message.body)
    return RecordDict(
        {
            _ENVELOPE: ConfigRecord({"header": message.header, "signature": message.signature}),
            _ARRAYS: ArrayRecord({_BODY: body}),
        }
    )


def unpack(content: RecordDict) -> Sealed | Failure:
    """The site's sealed reply, or the failure that its courier reports or that it is."""
    if _ERROR in content.config_records:
        error = content.config_records[_ERROR]
        code, title = error.get("code"), error.get("title")
        return said(code, f"{_plain(code)}: {_plain(title)}")
    try:
        envelope = content.config_records[_ENVELOPE]
        header, signature = envelope["header"], envelope["signature"]
        # Taken out of the record, so that the reply is in memory once.
        body = content.array_records[_ARRAYS].pop(_BODY).data
    except KeyError as error:
        return Failure(f"{_NOT_SEALED}: the reply carries no {_plain(str(error))}")
    if not (isinstance(header, bytes) and isinstance(signature, bytes) and isinstance(body, bytes)):
        return Failure(f"{_NOT_SEALED}: the reply's fields are not bytes")
    try:
        return Sealed(header, body, signature)
    except SmrfedError as error:
        return Failure(f"{error.code}: {error.what}")


def _plain(text: object) -> str:
    """Words of a stranger, fit for a log line: printable, bounded."""
    return "".join(c if c.isprintable() else " " for c in str(text))[:_MAX_TEXT]
