"""The network checks against real TLS servers, proxies, a middlebox and a black hole."""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from preflight_peers import Authority, Behaviour, black_hole, coordinator, proxy

from client.preflight.network.answer import check_answer, check_large_body
from client.preflight.network.certificate import check_certificate
from client.preflight.network.clock import check_clock, judge
from client.preflight.network.connection import check_connection
from client.preflight.network.names import check_name
from client.preflight.network.way import Way
from client.proxy import NetworkOptions, Proxy, proxy_for
from shared_model.errors import SmrfedError
from shared_model.preflight.checks import Note

STEPS = (check_name, check_connection, check_certificate, check_answer, check_clock)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pki")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder, "Federation Authority")


@pytest.fixture(scope="module")
def port(authority: Authority) -> Iterator[int]:
    with coordinator(authority.server()) as port:
        yield port


def code(way: Way, *steps: object) -> str:
    """The number that the last step ends with; those before it pass."""
    *before, last = steps
    for step in before:
        step(way)  # type: ignore[operator]
    with pytest.raises(SmrfedError) as caught:
        last(way)  # type: ignore[operator]
    found[:] = [str(caught.value)]
    return caught.value.code


found: list[str] = []


def test_a_straight_way_that_is_in_order(authority: Authority, port: int) -> None:
    way = Way("127.0.0.1", port, None, authority.file)
    texts = [step(way) for step in (*STEPS, check_large_body)]
    assert not any(isinstance(text, Note) for text in texts)
    assert "directly" in texts[1]
    assert "29 days left" in texts[2]
    assert "6 MiB got through" in texts[5]


def test_the_same_through_a_proxy(authority: Authority, port: int) -> None:
    with proxy() as by:
        way = Way("127.0.0.1", port, Proxy("localhost", by, "HTTPS_PROXY"), authority.file)
        texts = [step(way) for step in (*STEPS, check_large_body)]
    assert "the proxy resolves 127.0.0.1" in texts[0]
    assert f"through the proxy localhost:{by} (HTTPS_PROXY)" in texts[1]
    assert not any(isinstance(text, Note) for text in texts)


@pytest.mark.parametrize("status", ["403 Forbidden", "407 Proxy Authentication Required"])
def test_a_proxy_that_refuses_is_quoted(authority: Authority, port: int, status: str) -> None:
    with proxy(status) as by:
        way = Way("127.0.0.1", port, Proxy("127.0.0.1", by, "x"), authority.file)
        assert code(way, check_connection) == "SMR-E432"
    assert status in found[0]


def test_an_inspecting_proxy_is_named_by_its_issuer(
    authority: Authority, port: int, folder: Path
) -> None:
    inspector = Authority(folder, "Hospital Web Shield")
    with coordinator(inspector.server()) as impostor, proxy(to=impostor) as by:
        way = Way("127.0.0.1", port, Proxy("127.0.0.1", by, "x"), authority.file)
        assert code(way, check_connection, check_certificate) == "SMR-E433"
    assert "Hospital Web Shield" in found[0]
    assert "Federation Authority" in found[0]
    assert not way.secured


@pytest.mark.parametrize(
    ("host", "begins", "ends", "expected", "word"),
    [
        ("127.0.0.1", -3, -1, "SMR-E434", "expired"),
        ("127.0.0.1", 1, 3, "SMR-E434", "not valid yet"),
        ("coordinator.example", -1, 3, "SMR-E435", "a certificate for coordinator.example"),
    ],
)
def test_certificates_that_do_not_hold(
    authority: Authority, host: str, begins: float, ends: float, expected: str, word: str
) -> None:
    with coordinator(authority.server(host, begins, ends)) as port:
        way = Way("127.0.0.1", port, None, authority.file)
        assert code(way, check_connection, check_certificate) == expected
    assert word in found[0]


def test_a_certificate_near_its_end_and_one_that_nobody_pinned_are_notes(
    authority: Authority,
) -> None:
    with coordinator(authority.server(ends=5)) as port:
        way = Way("127.0.0.1", port, None, authority.file)
        check_connection(way)
        assert isinstance(check_certificate(way), Note)
        stranger = Way("127.0.0.1", port, None, None)
        check_connection(stranger)
        text = check_certificate(stranger)
        assert isinstance(text, Note)
        assert "issued by Federation Authority" in text
        # Nothing is pinned and nothing secret is sent: the steps behind it are tried too.
        assert "answers" in check_answer(stranger)


def test_a_server_without_tls_breaks_off(authority: Authority) -> None:
    with proxy() as port:
        way = Way("127.0.0.1", port, None, authority.file)
        assert code(way, check_connection, check_certificate) == "SMR-E431"


def test_names_ports_and_silence(authority: Authority) -> None:
    assert code(Way("nobody.invalid", 443, None, None), check_name) == "SMR-E430"
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert code(Way("127.0.0.1", port, None, None), check_connection) == "SMR-E431"
    with black_hole() as port:
        begin = time.monotonic()
        assert code(Way("127.0.0.1", port, None, None), check_connection) == "SMR-E431"
        assert "packets are dropped" in found[0]
        assert time.monotonic() - begin < 20


def test_a_limit_on_bodies_is_found(authority: Authority) -> None:
    with coordinator(authority.server(), Behaviour(largest_body=1 << 20)) as port:
        way = Way("127.0.0.1", port, None, authority.file)
        for step in STEPS:
            step(way)
        assert code(way, check_large_body) == "SMR-E436"


def test_another_service_is_not_taken_for_a_coordinator(authority: Authority) -> None:
    with coordinator(authority.server(), Behaviour(health=502)) as port:
        way = Way("127.0.0.1", port, None, authority.file)
        steps = (check_connection, check_certificate, check_answer)
        assert code(way, *steps) == "SMR-E438"
        assert "HTTP 502" in found[0]


def test_a_clock_that_the_coordinator_would_refuse(authority: Authority) -> None:
    for shift, refused in ((-30, True), (600, True), (200, False), (-4, False)):
        with coordinator(authority.server(), Behaviour(clock_s=shift)) as port:
            way = Way("127.0.0.1", port, None, authority.file)
            for step in STEPS[:4]:
                step(way)
            if refused:
                assert code(way, check_clock) == "SMR-E437"
            elif shift == 200:
                assert isinstance(check_clock(way), Note)
            else:
                check_clock(way)


def test_the_clock_is_given_the_benefit_of_whole_seconds_and_slow_answers() -> None:
    # 4.9 s ahead is allowed; a Date cut to whole seconds may make it look like 5.9.
    judge(1005.9, 1005.9, 1000.0)
    with pytest.raises(SmrfedError, match="ahead of"):
        judge(1006.1, 1006.1, 1000.0)
    with pytest.raises(SmrfedError, match="behind"):
        judge(700.0, 700.1, 1000.0)
    # An answer that took long says less about the clock, and never too much.
    assert not isinstance(judge(990.0, 1020.0, 1000.0), Note)


def test_the_proxy_is_the_one_that_flowers_client_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx

    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        for spelling in (name, name.lower()):
            monkeypatch.delenv(spelling, raising=False)
    assert proxy_for("c.example", NetworkOptions()) is None
    monkeypatch.setenv("HTTPS_PROXY", "http://user:se%20cret@proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "inside.example,127.0.0.1")
    for host in ("c.example", "inside.example", "x.inside.example", "127.0.0.1"):
        ours = proxy_for(host, NetworkOptions())
        client = httpx.Client()
        transport = client._transport_for_url(httpx.URL(f"https://{host}/"))
        assert (ours is None) == (transport is client._transport), host
        client.close()
    chosen = proxy_for("c.example", NetworkOptions())
    assert chosen is not None
    assert (chosen.host, chosen.port) == ("proxy.example", 3128)
    assert chosen.authorization == "Basic dXNlcjpzZSBjcmV0"
    assert "cret" not in f"{chosen} {chosen!r}"
    assert proxy_for("c.example", NetworkOptions(proxy="direct")) is None
    named = proxy_for("inside.example", NetworkOptions(proxy="http://other:80"))
    assert named is not None
    assert named.host == "other"
    with pytest.raises(SmrfedError, match="SMR-E432") as refused:
        proxy_for("c.example", NetworkOptions(proxy="socks5://user:secret@other:1080"))
    assert "secret" not in str(refused.value)


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_nginx_with_its_own_limit_is_found(authority: Authority, tmp_path: Path) -> None:
    pem = authority.server()
    with coordinator(authority.server()) as behind:
        for limit, passes in (("", False), ("client_max_body_size 16m;", True)):
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            folder = tmp_path / f"nginx-{passes}"
            folder.mkdir()
            (folder / "nginx.conf").write_text(
                f"daemon off; user {getpass.getuser()}; pid {folder}/pid;\n"
                f"error_log {folder}/error.log; events {{}}\n"
                f"http {{ access_log off; client_body_temp_path {folder}/body;\n"
                f"proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;\n"
                f"uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n"
                f"server {{ listen 127.0.0.1:{port} ssl; {limit}\n"
                f"ssl_certificate {pem}; ssl_certificate_key {pem};\n"
                f"location / {{ proxy_pass https://127.0.0.1:{behind}; }} }} }}\n"
            )
            command = ["nginx", "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"]
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            try:
                for _ in range(100):
                    with socket.socket() as probe:
                        if probe.connect_ex(("127.0.0.1", port)) == 0:
                            break
                    time.sleep(0.1)
                way = Way("127.0.0.1", port, None, authority.file)
                for step in STEPS:
                    step(way)
                if passes:
                    assert "got through" in check_large_body(way)
                else:
                    assert code(way, check_large_body) == "SMR-E436"
                    assert "HTTP 413" in found[0]
            finally:
                process.terminate()
                process.wait(20)
