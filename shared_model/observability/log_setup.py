"""``--log-format json``: where a long-running command's log lines go."""

from __future__ import annotations

import logging
import sys
from typing import Annotated, Literal, TextIO

import typer

from shared_model.observability.json_log import JsonFormatter, redact

LogFormat = Literal["text", "json"]
LOG_FORMAT_VARIABLE = "SMRFED_LOG_FORMAT"
#: Before the command: ``smrfed-site --log-format json run``; or in the environment, for everything
#: that a supervisor starts.
LogFormatOption = Annotated[
    LogFormat,
    typer.Option(
        "--log-format",
        envvar=LOG_FORMAT_VARIABLE,
        help="json: log lines as JSON on standard error, without secrets or patients' data",
    ),
]

_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _RedactedText(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def log_to_stream(
    service: str,
    log_format: LogFormat,
    *,
    withhold: bool,
    level: int = logging.INFO,
    stream: TextIO | None = None,
) -> logging.Handler:
    """Send this process's log to a stream (default: standard error), beside what listens already.

    ``withhold``: for everything that runs at a hospital (:class:`JsonFormatter`); as text such a
    log stays on that machine like the agent's own. Used again for a stream, it replaces its
    handler. Warnings of the package ``warnings`` are logged too.
    """
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(
        JsonFormatter(service, withhold=withhold) if log_format == "json" else _RedactedText(_TEXT)
    )
    root = logging.getLogger()
    for known in [h for h in root.handlers if getattr(h, "smrfed_stream", False)]:
        root.removeHandler(known)
    handler.smrfed_stream = True  # type: ignore[attr-defined]
    root.addHandler(handler)
    if root.level > level or root.level == logging.NOTSET:
        root.setLevel(level)
    logging.captureWarnings(True)
    return handler
