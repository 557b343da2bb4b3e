"""Log lines as JSON: one object a line, without secrets, and at a hospital without patients' data.

A hospital's log shippers carry these lines further than the agent's own log, which stays in its
state folder. So at a hospital texts are withheld unless this module knows where they come from:

- of a message only its template leaves, with numbers filled in; a text argument (a path, an
  identifier, an exception) becomes ``...``, a numbered error its number;
- of an exception only its type and the places in the code;
- of other packages' loggers only level and name: their messages may be made of anything.
"""

from __future__ import annotations

import json
import logging
import re
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from shared_model.errors import SmrfedError

WITHHELD = "..."
#: The packages whose templates are written in this repository, by people who know what leaves.
OUR_LOGGERS = frozenset({"client", "server", "shared_model", "simulations", "smrfed", "__main__"})

_REDACTED = "[redacted]"
_SECRETS = (
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)", re.S),
    # user:password@ in an address.
    re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"),
    re.compile(r"(?i)(?<=bearer )\S+|(?<=basic )[A-Za-z0-9+/=]{8,}"),
    re.compile(r"(?<![\w.-])smrfed\w{0,12}[-:.][A-Za-z0-9_.~+/=-]{40,}"),
    re.compile(
        r"(?i)((?:token|secret|password|passwd|passphrase|api[-_]?key|private[-_]?key|"
        r"authorization)[\"']?\s*[=: ]\s*[\"']?)(?!\[redacted\])[^\s\"',;&]{6,}"
    ),
)


def redact(text: str) -> str:
    """The text without what looks like a private key, a token, a password or a login."""
    for pattern in _SECRETS:
        text = pattern.sub(lambda m: f"{m[1] if m.re is _SECRETS[-1] else ''}{_REDACTED}", text)
    return text


class JsonFormatter(logging.Formatter):
    """One JSON object per record: time, level, logger, message, service, process.

    Args:
        service: which program speaks, for example ``smrfed-site run``.
        withhold: leave out texts that may hold patients' data; for everything at a hospital.
    """

    def __init__(self, service: str, *, withhold: bool) -> None:
        super().__init__()
        self._service = service
        self._withhold = withhold

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        facts: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(self._message(record)),
            "service": self._service,
            "process": record.process,
        }
        if record.exc_info and record.exc_info[0] is not None:
            facts["exception"] = self._exception(*record.exc_info)
        return json.dumps(facts, ensure_ascii=False, allow_nan=False)

    def _message(self, record: logging.LogRecord) -> str:
        if not self._withhold:
            try:
                return record.getMessage()
            except (TypeError, ValueError):
                return str(record.msg)
        if record.name.partition(".")[0] not in OUR_LOGGERS or not isinstance(record.msg, str):
            return _told(record.msg)
        if not record.args:
            return record.msg
        given = record.args
        try:
            if isinstance(given, Mapping):
                return record.msg % {name: _safe(value) for name, value in given.items()}
            return record.msg % tuple(map(_safe, given))
        except (TypeError, ValueError, KeyError):
            return record.msg

    def _exception(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> dict[str, Any]:
        assert kind is not None
        frames = [
            f"{frame.filename.rpartition('site-packages/')[2]}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(trace)
        ]
        facts: dict[str, Any] = {"type": kind.__name__, "at": frames}
        if isinstance(error, SmrfedError):
            facts["code"] = error.code
        if not self._withhold:
            facts["text"] = redact(str(error))
        return facts


class _Withheld(str):
    """Stands for a text; ``%r`` shows it without quotes."""

    def __repr__(self) -> str:
        return str(self)


def _safe(value: object) -> object:
    if isinstance(value, (bool, int, float)) or value is None:
        return value
    return _Withheld(_told(value))


def _told(value: object) -> str:
    """A numbered error's number; nothing of anything else."""
    return value.code if isinstance(value, SmrfedError) else WITHHELD
