from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Chunk(_message.Message):
    __slots__ = ("opening", "body")
    OPENING_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    opening: Opening
    body: bytes
    def __init__(self, opening: _Optional[_Union[Opening, _Mapping]] = ..., body: _Optional[bytes] = ...) -> None: ...

class Opening(_message.Message):
    __slots__ = ("header", "signature", "body_bytes")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    BODY_BYTES_FIELD_NUMBER: _ClassVar[int]
    header: bytes
    signature: bytes
    body_bytes: int
    def __init__(self, header: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., body_bytes: _Optional[int] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusReply(_message.Message):
    __slots__ = ("site", "plan_name", "plan_digest", "key_fingerprint", "activity", "run_id", "round", "kind", "started_at_s")
    SITE_FIELD_NUMBER: _ClassVar[int]
    PLAN_NAME_FIELD_NUMBER: _ClassVar[int]
    PLAN_DIGEST_FIELD_NUMBER: _ClassVar[int]
    KEY_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    ACTIVITY_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_S_FIELD_NUMBER: _ClassVar[int]
    site: str
    plan_name: str
    plan_digest: str
    key_fingerprint: str
    activity: str
    run_id: str
    round: int
    kind: str
    started_at_s: float
    def __init__(self, site: _Optional[str] = ..., plan_name: _Optional[str] = ..., plan_digest: _Optional[str] = ..., key_fingerprint: _Optional[str] = ..., activity: _Optional[str] = ..., run_id: _Optional[str] = ..., round: _Optional[int] = ..., kind: _Optional[str] = ..., started_at_s: _Optional[float] = ...) -> None: ...
