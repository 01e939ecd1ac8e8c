"""Who may ask, and what hostile clients get."""

from __future__ import annotations

import asyncio
import socket
import string
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from served_archive import CINE, Served

TOKEN = "correct-horse-battery"


def ask(app, path="/dicom-web/studies", method="GET", **headers):
    async def go():
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return await client.request(method, path, headers=named)

    return asyncio.run(go())


@pytest.fixture(scope="session")
def app(served: Served):
    from mmindex.serve import application

    return application(served.folder)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8042", 200),
        ("localhost", 200),
        ("[::1]:80", 200),
        ("LOCALHOST:1", 200),
        ("evil.example.org", 421),
        ("127.0.0.1.evil.example.org", 421),
        ("", 421),
        ("127.0.0.1:x", 421),
        ("a b", 421),
        ("127.0.0.1@evil", 421),
    ],
)
def test_only_names_of_this_machine_are_hosts(app, host, status):
    """A page whose name was rebound to 127.0.0.1 (DNS rebinding) reads nothing."""
    assert ask(app, host=host).status_code == status


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (None, 401),
        ("", 401),
        (f"Bearer {TOKEN}", 200),
        (f"Bearer {TOKEN}x", 401),
        (f"Basic {TOKEN}", 401),
        (TOKEN, 401),
    ],
)
def test_a_token_is_needed_for_data_but_not_for_the_page(served, authorization, status):
    """Without the token no data comes, and the page's own files hold none."""
    from mmindex.serve import application

    app = application(served.folder, token=TOKEN)
    headers = {} if authorization is None else {"authorization": authorization}
    assert ask(app, **headers).status_code == status
    assert ask(app, served.instance(CINE) + "/frames/1", **headers).status_code == status
    assert ask(app, "/", **headers).status_code == 200


@pytest.mark.parametrize(
    ("cookie", "status"),
    [
        (f"mmindex-token={quote(TOKEN)}", 200),
        (f"a=b; mmindex-token={quote(TOKEN)} ;c=d", 200),
        (f"mmindex-token={quote(TOKEN)}x", 401),
        (f"mmindex-token=x; mmindex-token={quote(TOKEN)}", 401),
        (f"other-mmindex-token={quote(TOKEN)}", 401),
        ("mmindex-token=", 401),
        ("mmindex-token", 401),
        ("mmindex-token=%", 401),
        (";" * 9000, 401),
    ],
)
def test_a_browser_that_saves_a_file_sends_the_token_in_a_cookie(served, cookie, status):
    """A link has no Authorization header; where there is one, the cookie does not count."""
    from mmindex.serve import application

    app = application(served.folder, token=TOKEN)
    assert ask(app, served.instance(CINE), cookie=cookie).status_code == status
    wrong = ask(app, served.instance(CINE), cookie=cookie, authorization="Bearer wrong")
    assert wrong.status_code == 401


@pytest.mark.parametrize("token", [None, TOKEN])
def test_a_request_is_one_line_of_the_log(served, caplog, token):
    """With a token, too, be it right or wrong."""
    from mmindex.serve import application

    app = application(served.folder, token=token)
    with caplog.at_level("INFO", "mmindex.serve"):
        ask(app, authorization=f"Bearer {TOKEN}")
        ask(app, authorization="Bearer wrong")
    assert len(caplog.records) == 2


def test_other_sites_read_only_if_they_are_allowed(served, app):
    """No CORS unless an origin is named; a preflight needs no token."""
    from mmindex.serve import application

    assert "access-control-allow-origin" not in ask(app, origin="https://a.example").headers
    allowing = application(served.folder, token=TOKEN, allow_origins=["https://a.example"])
    preflight = {
        "origin": "https://a.example",
        "access_control_request_method": "GET",
        "access_control_request_headers": "authorization",
    }
    response = ask(allowing, method="OPTIONS", **preflight)
    assert response.headers["access-control-allow-origin"] == "https://a.example"
    response = ask(allowing, method="OPTIONS", **{**preflight, "origin": "https://b.example"})
    assert "access-control-allow-origin" not in response.headers


def test_the_page_has_a_strict_policy(app):
    """No inline script, no framing, no sniffing, no other host."""
    response = ask(app, "/")
    policy = response.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "<script>" not in response.text
    assert "http://" not in response.text
    assert "https://" not in response.text


def test_long_headers_and_targets_are_refused(app):
    """431 and 414."""
    assert ask(app, x_long="a" * 20_000).status_code == 431
    assert ask(app, "/dicom-web/studies?a=" + "b" * 9000).status_code == 414


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/viewer.js/../../app.py",
        "/dicom-web/studies/..%2f..%2fetc%2fpasswd/metadata",
        "/dicom-web/studies/1/series/2/instances/..%2f..%2fetc%2fpasswd",
        "/dicom-web/studies/%00/metadata",
        "//etc/passwd",
        "/dicom-web/studies/1%0d%0aSet-Cookie:%20a=b/metadata",
    ],
)
def test_no_path_leads_out(app, path):
    """What is no record and no file of the page is not found."""
    response = ask(app, path)
    assert response.status_code in (400, 404)
    assert "root:" not in response.text
    assert "set-cookie" not in response.headers


def test_log_lines_have_no_names_and_no_control_characters(served, caplog):
    """Queries hold names: they are not logged; nor can a path forge a line."""
    from mmindex.serve import application

    with caplog.at_level("INFO", logger="mmindex.serve"):
        app = application(served.folder)
        ask(app, "/dicom-web/studies?PatientName=Smith")
        ask(app, "/dicom-web/x%0amm%1b[31mforged")
    lines = [record.getMessage() for record in caplog.records if record.name == "mmindex.serve"]
    assert len(lines) == 2
    assert "Smith" not in lines[0]
    assert all(line.isprintable() for line in lines)


PIECES = st.one_of(
    st.sampled_from(
        [
            *("studies", "series", "instances", "frames", "metadata", "rendered", "thumbnail"),
            *("bulkdata", "1.2.3", "1.2.3.1", CINE, "1", "1,2", "7FE00010", "00081140/1/00081155"),
        ]
    ),
    st.text(string.printable, max_size=12),
)
NAMES = st.sampled_from(
    [
        *("PatientName", "StudyDate", "00081140.00081155", "limit", "offset", "includefield"),
        *("window", "viewport", "quality", "accept", "Modality", "StudyTime", "", "7FE00010"),
    ]
)


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    start=st.sampled_from(
        ["", "/studies/1.2.3", f"/studies/1.2.3/series/1.2.3.1/instances/{CINE}"]
    ),
    pieces=st.lists(PIECES, max_size=4),
    query=st.lists(st.tuples(NAMES, st.text(max_size=20)), max_size=4),
    accept=st.one_of(st.just("*/*"), st.text(string.printable, max_size=60), st.just("image/png")),
    byte_range=st.text("bytes=-0123456789, ", max_size=20),
)
def test_no_request_is_an_error_of_the_server(app, start, pieces, query, accept, byte_range):
    """Whatever is asked: an answer below 500, or 501."""
    path = httpx.URL("/dicom-web" + start + "".join(f"/{quote(piece)}" for piece in pieces))
    clean = "".join(char for char in accept if char.isprintable() and ord(char) < 127)
    response = ask(
        app, path.copy_merge_params(query), accept=clean.strip(), range=byte_range.strip()
    )
    assert response.status_code < 500 or response.status_code == 501


def raw_answer(served: Served, data: bytes) -> bytes:
    port = int(served.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.settimeout(10)
        try:
            connection.sendall(data)
            return connection.recv(65536)
        except ConnectionError:
            return b""


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"a: " + b"b" * 100_000,
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: 127.0.0.1\r\n\r\n",
        b"\0\1\2\3\r\n\r\n",
        b"GET /" + b"a" * 80_000,
        b"POST /dicom-web/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999\r\n\r\n",
    ],
)
def test_broken_requests_end_their_connection_only(served, data):
    """Endless headers, two hosts, no HTTP: the next client is served."""
    answer = raw_answer(served, data)
    assert not answer.startswith(b"HTTP/1.1 200")
    assert httpx.get(served.url + "/dicom-web/studies").status_code == 200


def test_idle_connections_hold_nobody_up(served):
    """Two hundred clients that send half a request do not delay another one."""
    port = int(served.url.rsplit(":", 1)[1])
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
    try:
        for one in idle:
            one.sendall(b"GET / HTTP/1.1\r\nHost: 127")
        assert httpx.get(served.url + "/dicom-web/studies", timeout=5).status_code == 200
    finally:
        for one in idle:
            one.close()


def test_too_many_connections_end_the_oldest_that_sent_nothing(served, monkeypatch):
    """A newcomer is served although as many idle clients as may be are there."""
    monkeypatch.setattr("mmindex.serve.protocol.MOST_CONNECTIONS", 20)
    port = int(served.url.rsplit(":", 1)[1])
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(60)]
    try:
        for _ in range(3):
            assert httpx.get(served.url + "/dicom-web/studies", timeout=5).status_code == 200
    finally:
        for one in idle:
            one.close()


def test_a_slow_sender_is_let_go_of(served, monkeypatch):
    """A request whose headers do not come ends the connection (slow loris)."""
    monkeypatch.setattr("mmindex.serve.protocol.HEADERS_WITHIN", 0.2)
    assert raw_answer(served, b"GET / HTTP/1.1\r\nHost: 127") == b""
