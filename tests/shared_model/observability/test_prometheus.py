"""Metrics as Prometheus reads them: the real parser, and a real server on loopback."""

from __future__ import annotations

import math
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_model.errors import SmrfedError
from shared_model.observability.metrics_server import MetricsServer, write_textfile
from shared_model.observability.prometheus import CONTENT_TYPE, Metric, Metrics

parser = pytest.importorskip("prometheus_client.parser", reason="prometheus_client is missing")


@given(
    st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.text(max_size=30), max_size=3),
    st.floats(allow_nan=False),
    st.text(max_size=40),
)
def test_every_label_value_and_number_comes_back(
    labels: dict[str, str], value: float, text: str
) -> None:
    out = Metrics("smrfed")
    out.gauge("figure", text).set(value, **labels)
    (family,) = parser.text_string_to_metric_families(out.render())
    (sample,) = family.samples
    assert (sample.name, sample.labels, sample.value) == ("smrfed_figure", labels, value)


def test_families_counters_and_special_numbers() -> None:
    out = Metrics("smrfed")
    out.counter("rounds_total", "Rounds").add(2, site="a")
    out.counter("rounds_total", "Rounds").add(3, site="a")
    out.counter("rounds_total", "Rounds").add(1, site="b")
    out.gauge("epsilon", "Spent").set(math.inf)
    out.gauge("nothing", "Never set")
    families = {f.name: f for f in parser.text_string_to_metric_families(out.render())}
    assert set(families) == {"smrfed_rounds", "smrfed_epsilon"}
    assert families["smrfed_rounds"].type == "counter"
    assert [s.value for s in families["smrfed_rounds"].samples] == [5, 1]
    assert families["smrfed_epsilon"].samples[0].value == math.inf
    for wrong in ("rounds", "Rounds_total", "a-b_total"):
        with pytest.raises(ValueError, match="not a name"):
            Metric(wrong, "counter", "x")
    with pytest.raises(ValueError, match="not a label"):
        out.gauge("epsilon", "Spent").set(1, __x="y")


def ask(port: int, path: str = "/metrics", host: str | None = None) -> tuple[int, str, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
    if host is not None:
        request.add_header("Host", host)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=20) as answer:
            return answer.status, answer.read().decode(), answer.headers["Content-Type"]
    except urllib.error.HTTPError as error:
        return error.code, "", ""


def test_the_server_answers_loopback_and_nobody_elses_name() -> None:
    answers = iter(["first\n", "second\n"])
    with MetricsServer(0, lambda: next(answers)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            port = server.server_port
            assert server.server_address[0] == "127.0.0.1"
            assert ask(port) == (200, "first\n", CONTENT_TYPE)
            assert ask(port, "/")[0] == 404
            assert ask(port, host="evil.example")[0] == 403
            assert ask(port, host=f"localhost:{port}")[1] == "second\n"
            # What goes wrong while gathering is told to the log, not to the scraper.
            assert ask(port)[0] == 500
            with pytest.raises(SmrfedError, match="SMR-E446"):
                MetricsServer(port, str)
        finally:
            server.shutdown()
            thread.join()


def test_the_textfile_appears_whole_and_readable(tmp_path: Path) -> None:
    path = tmp_path / "smrfed.prom"
    write_textfile(path, "a 1\n")
    write_textfile(path, "a 2\n")
    assert path.read_text() == "a 2\n"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(SmrfedError, match="SMR-E446"):
        write_textfile(tmp_path / "absent" / "x.prom", "a 1\n")
