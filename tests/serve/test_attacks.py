"""Requests that mean harm: none is an error of the server, costs much time or shows a value."""

from __future__ import annotations

import asyncio
import hmac
import socket
import string
import time
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from served_archive import CINE, CT, FRAMES, OTHER, SR, STUDY, Process, Served, Server

TOKEN = "correct-horse-battery"
LONGEST = 5.0  # seconds that an answer may take; the median takes a thousandth of one


@pytest.fixture(scope="module")
def http(served: Served):
    with httpx.Client(base_url=served.url, timeout=30) as client:
        yield client


def send(served: Served, data: bytes) -> bytes:
    """Return what the server answers to bytes, up to the end of the connection."""
    port = int(served.url.rsplit(":", 1)[1])
    received = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        try:
            connection.sendall(data)
            while piece := connection.recv(65536):
                received += piece
        except ConnectionError:
            pass
    return bytes(received)


METHODS = st.one_of(
    st.sampled_from(["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "TRACE"]),
    st.text(string.ascii_uppercase, min_size=1, max_size=12),
)
PIECES = st.one_of(
    st.sampled_from(
        [
            *("dicom-web", "studies", "series", "instances", "frames", "metadata", "rendered"),
            *(
                "thumbnail",
                "bulkdata",
                "workitems",
                STUDY,
                "1.2.3.1",
                "1.2.3.2",
                CINE,
                CT,
                SR,
                OTHER,
            ),
            *("1", "9", "1,2", "7FE00010", "00291001", "00081140", "..", "%2e%2e", "viewer.js"),
        ]
    ),
    st.text(max_size=12).map(lambda text: quote(text.encode("utf-8", "surrogatepass"))),
)
STARTS = st.sampled_from(
    [
        *("", "/dicom-web", "/dicom-web/studies", f"/dicom-web/studies/{STUDY}"),
        f"/dicom-web/studies/{STUDY}/series/1.2.3.1/instances/{CINE}",
        f"/dicom-web/studies/{STUDY}/series/1.2.3.2/instances/{CT}",
        f"/dicom-web/studies/{STUDY}/series/1.2.3.2/instances/{SR}",
    ]
)
VALUES = st.one_of(
    st.sampled_from(
        [
            *("*/*", "image/png", "image/jpeg", "application/dicom", "application/dicom+json"),
            *('multipart/related; type="application/dicom"', "multipart/related; type=image/*"),
            *("application/octet-stream; transfer-syntax=*", "bytes=0-0", "bytes=5-2", "bytes=-1"),
            *("bytes=0-" + "9" * 19, "bytes=" + "0-0," * 200, "*", '"x"', "gzip", "0", "-1"),
            *("99999999999999999999", "file", "auto", "1,1", "1e9,1e9", "nan,nan", "20200101-"),
        ]
    ),
    st.text(string.printable, max_size=40),
    st.text(max_size=20),
)
HEADERS = st.sampled_from(
    [
        *("accept", "range", "if-range", "if-none-match", "accept-encoding", "origin", "host"),
        *("authorization", "content-type", "x-forwarded-host", "transfer-encoding", "expect"),
    ]
)
NAMES = st.sampled_from(
    [
        *("PatientName", "StudyDate", "StudyTime", "00081140.00081155", "7FE00010", "limit"),
        *("offset", "includefield", "fuzzymatching", "window", "viewport", "quality", "accept", ""),
    ]
)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    method=METHODS,
    start=STARTS,
    pieces=st.lists(PIECES, max_size=5),
    query=st.lists(st.tuples(NAMES, VALUES), max_size=4),
    headers=st.lists(st.tuples(HEADERS, VALUES), max_size=4),
)
def test_no_request_ends_in_a_failure(served, method, start, pieces, query, headers):
    """Any method, path, query and headers: an answer that says no more than it should, in time."""
    target = start + "".join(f"/{piece}" for piece in pieces) or "/"
    pairs = [f"{quote(name)}={quote(value, errors='replace')}" for name, value in query]
    target += "?" + "&".join(pairs) if pairs else ""
    lines = [f"{method} {target} HTTP/1.1", "connection: close"]
    names = [name for name, _ in headers]
    lines += [] if "host" in names else ["host: 127.0.0.1"]
    for name, value in headers:
        clean = "".join(char for char in value if " " <= char != "\x7f")
        lines.append(f"{name}: {clean}")
    data = "\r\n".join(lines).encode("utf-8", "replace") + b"\r\n\r\n"
    began = time.monotonic()
    answer = send(served, data)
    assert time.monotonic() - began < LONGEST
    if answer:
        status = int(answer[9:12])
        assert status < 500 or status == 501, (data, answer)
    assert b"Traceback" not in answer
    assert str(served.folder).encode() not in answer


@pytest.mark.parametrize(
    ("wanted", "status"),
    [
        ("bytes=0-" + "9" * 19, 206),
        ("bytes=0-" + "9" * 400, 200),
        ("bytes=-" + "9" * 19, 206),
        ("bytes=" + "9" * 19 + "-", 416),
        ("bytes=" + ",".join(["0-"] * 1000), 200),
        ("bytes=7-3", 200),
        ("lines=1-2", 200),
    ],
)
def test_huge_and_many_ranges(http, served, wanted, status):
    """A range is cut to the frame, refused, or ignored; a thousand at once are one answer."""
    headers = {"accept": "image/jpeg", "range": wanted}
    response = http.get(served.instance(CINE) + "/frames/2", headers=headers)
    assert response.status_code == status
    assert len(response.content) <= max(len(FRAMES[1]), 100)


@pytest.mark.parametrize(
    "accept",
    [
        '"' * 8000,
        "a/b;" * 2000,
        '\\"' * 4000,
        "multipart/related;" + 'type="' * 1300,
        ",".join(f"image/x{n};q=0.{n % 10}" for n in range(500)),
        "*/*;q=" + "1" * 4000,
        "\xff\xfe/\xfd",
        ";;;,,,;=;,",
        "image/jpeg;q=nan",
    ],
)
def test_malformed_accept_headers(http, served, accept):
    """What cannot be parsed counts as nothing: 200 or 406, at once."""
    began = time.monotonic()
    for path in ("/frames/1", "/metadata", "/rendered", "", "/bulkdata/00291001"):
        headers = {"accept": accept.encode("latin-1")}
        response = http.get(served.instance(CINE) + path, headers=headers)
        assert response.status_code in (200, 406)
    assert time.monotonic() - began < LONGEST


@pytest.mark.parametrize(
    "target",
    [
        "/dicom-web/studies/1%0d%0aSet-Cookie:%20a=b",
        "/dicom-web/studies?PatientName=%0d%0aSet-Cookie:%20a=b&x=%0d%0aSet-Cookie:%20a=b",
        f"/dicom-web/studies/{STUDY}/series/1.2.3.1/instances/{CINE}%0d%0aSet-Cookie:%20a=b",
        f"/dicom-web/studies/{STUDY}/series/1.2.3.1/instances/{CINE}/bulkdata/%0d%0aSet-Cookie:a",
        "/mmindex%0d%0aSet-Cookie:%20a=b",
        "//evil.example/%2f..",
    ],
)
def test_nothing_of_a_request_becomes_a_header(served, target):
    """Line ends in a path or query stay out of the headers, and no answer leads elsewhere."""
    request = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    head = send(served, request.encode()).split(b"\r\n\r\n")[0].lower()
    assert head.startswith(b"http/1.1 ")
    assert b"set-cookie" not in head
    assert b"evil" not in head
    assert not head.startswith(b"http/1.1 3")


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"/dicom-web/studies?PatientName=\xbd", 400),
        (b"/dicom-web/studies?\xff\xfe=1", 400),
        ("/dicom-web/studies?PatientName=M\xfcller*".encode(), 400),
        (b"/dicom-web/studies/\xbd/metadata", 400),
        (b"/dicom-web/studies?PatientName=%bd", 200),
    ],
)
def test_bytes_that_are_no_text(served, target, status):
    """Bytes of a target that are not ASCII are 400 from uvicorn."""
    request = b"GET " + target + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    assert send(served, request)[9:12] == b"%d" % status


@pytest.mark.parametrize(
    ("query", "status"), [(b"PatientName=M\xc3\xbcller*", 200), (b"\xbd=", 400)]
)
def test_queries_that_another_asgi_server_lets_through(served, query, status):
    """A query in plain UTF-8 is understood, other bytes are 400."""
    from mmindex.serve import application

    statuses = []

    async def note(message):
        statuses.append(message.get("status"))

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/dicom-web/studies",
        "root_path": "",
        "raw_path": b"/dicom-web/studies",
        "query_string": query,
        "scheme": "http",
        "headers": [(b"host", b"localhost")],
        "server": ("localhost", 80),
        "client": None,
    }
    asyncio.run(application(served.folder)(scope, None, note))
    assert statuses[0] == status


def test_host_of_a_forwarding_header_is_ignored(http, served):
    """X-Forwarded-Host changes no URL in an answer: nobody is led to another host."""
    headers = {"x-forwarded-host": "evil.example", "forwarded": "host=evil.example"}
    response = http.get("/dicom-web/studies", headers=headers)
    assert "evil" not in response.text
    assert served.url in response.text


def test_a_token_is_compared_in_constant_time(served, monkeypatch):
    """Right, wrong, shorter and longer tokens go through `hmac.compare_digest`."""
    from mmindex.serve import application

    compared, real = [], hmac.compare_digest

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return real(a, b)

    monkeypatch.setattr("mmindex.serve.security.hmac.compare_digest", compare)
    server = Server(application(served.folder, token=TOKEN))
    try:
        for token, status in ((TOKEN, 200), (TOKEN[:-1], 401), ("x", 401), (TOKEN + "x", 401)):
            headers = {"authorization": f"Bearer {token}"}
            response = httpx.get(server.url + "/dicom-web/studies", headers=headers)
            assert response.status_code == status
            assert TOKEN not in response.text
    finally:
        server.stop()
    assert len(compared) == 4
    assert all(b == f"Bearer {TOKEN}".encode() for _, b in compared)


def test_logs_have_no_value_of_a_patient(served, tmp_path):
    """With --log-requests, whatever is asked: no name, no ID, no query; each request is a line."""
    server = Process(served.folder, tmp_path / "log", "--log-requests")
    try:
        with httpx.Client(base_url=server.url, timeout=30) as client:
            for uid in (CINE, CT, SR, OTHER):
                place = served.instance(uid)
                for path in ("", "/metadata", "/rendered", "/thumbnail", "/frames/1", "/frames/99"):
                    client.get(place + path)
            client.get("/dicom-web/studies?PatientName=Smith^John&PatientID=ID-1.2.4")
            client.get("/dicom-web/studies?PatientName=Smith&StudyDate=nonsense&limit=x")
            client.get("/dicom-web/instances?includefield=all")
    finally:
        text = server.stop()
    assert text.count("mmindex: GET /dicom-web/") == 27
    assert not any(value in text for value in ("ller^", "Anna", "Smith", "John", "ID-1.2", "?"))


def open_many(port: int, most: int) -> list[socket.socket]:
    opened = []
    for _ in range(most):
        try:
            opened.append(socket.create_connection(("127.0.0.1", port), timeout=5))
        except OSError:
            break
    return opened


@pytest.mark.long
def test_thousands_of_connections_leave_the_server_answering(served):
    """As many idle and half-sent requests as this process may hold: the next one is answered."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 20_400 if hard == resource.RLIM_INFINITY else min(hard, 20_400)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    opened = []
    try:
        port = int(served.url.rsplit(":", 1)[1])
        opened = open_many(port, min(10_000, (wanted - 400) // 2))
        for one in opened[::2]:
            try:
                one.sendall(b"GET / HTTP/1.1\r\nHost: 127")
            except OSError:
                continue
        for _ in range(5):
            response = httpx.get(served.url + served.instance(CINE) + "/frames/1", timeout=20)
            assert response.status_code == 200
    finally:
        for one in opened:
            one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(opened) > 500
    assert httpx.get(served.url + "/dicom-web/studies", timeout=20).status_code == 200
