"""Log lines as JSON: what they hold, and what they must not hold."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_model.enrolment.token import JoinToken
from shared_model.errors import SmrfedError
from shared_model.observability.json_log import JsonFormatter, redact
from shared_model.observability.log_setup import log_to_stream

NAME = "Schmidtkowski"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield stream
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(False)


def records(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_object_with_time_level_logger_and_process(lines: io.StringIO) -> None:
    log_to_stream("smrfed-site run", "json", withhold=True, stream=lines)
    logging.getLogger("client.agent.agent").info("answered round %d of %s", 3, "run\nx")
    (record,) = records(lines)
    assert record["level"] == "info"
    assert record["logger"] == "client.agent.agent"
    assert record["service"] == "smrfed-site run"
    assert record["message"] == "answered round 3 of ..."
    assert str(record["time"]).endswith("+00:00")
    assert isinstance(record["process"], int)


def test_texts_are_withheld_at_a_hospital(lines: io.StringIO) -> None:
    log_to_stream("site", "json", withhold=True, stream=lines)
    ours, foreign = logging.getLogger("client.archive"), logging.getLogger("nibabel.global")
    path = f"/archive/sub-{NAME}/x.nii.gz"
    ours.warning("no copy of %s is kept: %r", path, ValueError(path))
    ours.warning("%(who)s has %(count)d scans", {"who": NAME, "count": 2})
    ours.error("refused: %s", SmrfedError("SMR-E212", f"scan of {NAME}", remedy="none"))
    ours.error(ValueError(NAME))
    foreign.warning("pixdim[0] of %s is wrong", path)
    foreign.warning(f"reading {path}")
    try:
        raise SmrfedError("SMR-E213", f"cannot read {path}", remedy="none") from OSError(path)
    except SmrfedError:
        ours.exception("round %d failed", 7)
    assert NAME not in lines.getvalue()
    assert "archive/sub" not in lines.getvalue()
    found = [record["message"] for record in records(lines)]
    assert found[1] == "... has 2 scans"
    assert found[2] == "refused: SMR-E212"
    assert found[4] == "..."
    exception = records(lines)[-1]["exception"]
    assert isinstance(exception, dict)
    assert (exception["type"], exception["code"]) == ("SmrfedError", "SMR-E213")
    assert "test_json_log.py" in exception["at"][0]


def test_a_template_that_does_not_fit_leaves_unfilled() -> None:
    record = logging.LogRecord("client.x", 20, "x.py", 1, "%d patients %s", (NAME, NAME), None)
    line = json.loads(JsonFormatter("site", withhold=True).format(record))
    assert line["message"] == "%d patients %s"


SECRETS = (
    "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\n-----END OPENSSH PRIVATE KEY-----",
    "https://user:hunter2222@proxy.example:3128",
    "Authorization: Bearer abcdef0123456789",
    "Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=",
    "token=s3cr3t-value-here",
    '{"secret": "s3cr3t-value-here"}',
    "password: s3cr3t-value-here",
    "smrfed1-" + "A" * 60,
)


@pytest.mark.parametrize("secret", SECRETS)
def test_secrets_are_redacted_in_both_formats(secret: str, lines: io.StringIO) -> None:
    for log_format in ("json", "text"):
        log_to_stream("coordinator", log_format, withhold=False, stream=lines)  # type: ignore[arg-type]
        logging.getLogger("server.x").error("it said %s, and went on", secret)
        try:
            raise RuntimeError(secret)
        except RuntimeError:
            logging.getLogger("server.x").exception("it failed")
    text = lines.getvalue()
    for hidden in ("b3BlbnNzaC1rZXk", "hunter2222", "abcdef0123456789", "dXNlcjpzZWNyZXQ",
                   "s3cr3t-value-here", "A" * 60):  # fmt: skip
        assert hidden not in text
    assert "[redacted]" in text


def test_an_invitation_is_redacted_whole() -> None:
    token = JoinToken.issue("c.example:443", "ab" * 32, "north", 600).encode()
    text = redact(f"smrfed-site join {token} --config site.toml")
    assert text == "smrfed-site join [redacted] --config site.toml"


def test_what_is_no_secret_stays() -> None:
    for text in (
        "round 3 of run study-1 saved, sha256 " + "ab" * 32,
        "fingerprint 0123-4567-89ab-cdef-0123-4567-89ab-cdef",
        "[SMR-E412] no site agent answers on /run/smrfed/agent.sock",
        "token of site north has expired",
        "https://coordinator.example:443/v1/fleet/",
    ):
        assert redact(text) == text


@given(st.text(), st.lists(st.one_of(st.text(), st.integers(), st.floats(), st.none())))
def test_every_record_is_one_line_of_json(message: str, args: list[object]) -> None:
    for withhold in (True, False):
        for name in ("client.x", "foreign"):
            record = logging.LogRecord(name, 20, "x.py", 1, message, tuple(args), None)
            line = JsonFormatter("s", withhold=withhold).format(record)
            assert "\n" not in line
            assert json.loads(line)["logger"] == name


def test_templates_of_the_hospitals_code_are_no_f_strings() -> None:
    """A template leaves as it stands: it must not have been filled in before (ruff's G rules)."""
    root = Path(__file__).parents[3]
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--isolated",
        "--select",
        "G001,G002,G003,G004",
    ]
    result = subprocess.run(
        [*command, "client", "shared_model"], cwd=root, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout
