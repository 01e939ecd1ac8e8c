"""`mmindex serve`: who may be served what, and a server that runs until it is stopped."""

from __future__ import annotations

import html
import os
import pty
import re
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import httpx
import pytest
from cli_runner import ROOT, new_runner, run
from dicom_bytes import native_file
from served_archive import CINE, STUDY, Served, write_archive

import mmindex
from mmindex.cli import main

TOKEN = '0123456789abcdef/+&"<'


@pytest.fixture
def archive(tmp_path):
    (tmp_path / "a.dcm").write_bytes(native_file(b"\1\2\3\4"))
    mmindex.build(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["-j", "0"], 2, "'-j' / '--workers'"),
        (["--host", "0.0.0.0"], 2, "--insecure"),
        (["--host", "0.0.0.0", "--token-file", "short.txt"], 2, "16 or more characters"),
        (["--token-file", "nowhere.txt"], 1, "nowhere.txt"),
        (["--ohif", "."], 1, "index.html"),
        (["--ohif", ".", "--token-file", "long.txt"], 2, "sends no token"),
        (["--root", "nowhere"], 1, "nowhere"),
    ],
)
def test_what_is_refused(archive, monkeypatch, arguments, code, words):
    """Other hosts need a token or --insecure; a token is long; files have to be there."""
    monkeypatch.chdir(archive)
    (archive / "short.txt").write_text("secret\n")
    (archive / "long.txt").write_text(TOKEN + "\n")
    result = new_runner().invoke(main, ["serve", ".", *arguments])
    assert result.exit_code == code
    assert words in result.stderr


def test_standard_input_is_not_served():
    """`-` is a file where commands read one once; a server reads it again and again."""
    result = new_runner().invoke(main, ["serve", "-"])
    assert result.exit_code == 2
    assert "serve cannot read standard input: name a file, folder or index" in result.stderr


def test_a_folder_without_an_index_is_offered_one(tmp_path):
    """Nobody can be asked here: the command to run is named."""
    result = new_runner().invoke(main, ["serve", str(tmp_path)])
    assert result.exit_code == 1
    assert "mmindex build" in result.stderr


@pytest.mark.parametrize(("answer", "built"), [("y", True), ("n", False)])
def test_at_a_terminal_the_index_is_built_first_if_wanted(tmp_path, answer, built):
    """A question, then the server; or the command to run."""
    (tmp_path / "a.dcm").write_bytes(native_file(b"\1\2\3\4"))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "mmindex", "serve", str(tmp_path), "--port", "0"]
    process = subprocess.Popen(command, stdin=theirs, stderr=subprocess.PIPE, text=True)
    try:
        os.write(ours, f"{answer}\n".encode())
        lines = []
        while line := process.stderr.readline():
            lines.append(line)
            if "http://" in line:
                break
        text = "".join(lines)
        assert "has no index. Build it now?" in text
        assert ("http://127.0.0.1" in text) is built
        assert (tmp_path / ".mmindex").exists() is built
    finally:
        process.terminate()
        process.communicate(timeout=20)
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_answers_until_it_is_stopped(archive, workers):
    """The address is printed; requests are answered; SIGTERM ends all of its processes."""
    command = [sys.executable, "-m", "mmindex", "serve", str(archive), "--port", "0"]
    process = subprocess.Popen([*command, "--workers", workers], stderr=subprocess.PIPE, text=True)
    try:
        line = process.stderr.readline()
        url = re.search(r"http://127\.0\.0\.1:\d+/", line)[0]
        with urllib.request.urlopen(url + "dicom-web/studies", timeout=20) as response:
            assert response.status == 200
    finally:
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=20)
    assert "Traceback" not in rest


class Running:
    """The command in a process of its own, at an address of this machine."""

    def __init__(self, archive: Path, *options: str, **environment: str) -> None:
        command = [sys.executable, "-m", "mmindex", "serve", str(archive), "--port", "0"]
        self.process = subprocess.Popen(
            [*command, *options],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        )
        self.lines: list[str] = []
        while line := self.process.stderr.readline():
            self.lines.append(line)
            if match := re.search(r"serving .* at http://[^:]+:(\d+)/", line):
                self.port = int(match[1])
                self.url = f"http://127.0.0.1:{self.port}"
                break
        else:
            raise RuntimeError("".join(self.lines))

    def children(self, number: int = 2) -> list[int]:
        """Return the process ids of the workers, once there are this many."""
        command = ["ps", "-o", "pid=", "--ppid", str(self.process.pid)]
        until = time.monotonic() + 20
        while True:
            listed = subprocess.run(command, capture_output=True, text=True).stdout.split()
            if len(listed) == number or time.monotonic() > until:
                return [int(one) for one in listed]
            time.sleep(0.05)

    def stop(self) -> str:
        self.process.send_signal(signal.SIGTERM)
        _, rest = self.process.communicate(timeout=20)
        return "".join(self.lines) + rest


def status_of(running: Running, path: str = "/dicom-web/studies", **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.get(running.url + path, headers=named, timeout=20).status_code


def test_without_a_token_it_is_said_and_only_addresses_are_hosts(archive):
    """--insecure serves all who can connect; a name that was rebound is refused nevertheless."""
    running = Running(archive, "--host", "0.0.0.0", "--insecure", "--allow-host", "pacs.example")
    try:
        for host in ("127.0.0.1", "10.1.2.3:8042", "[::1]", "localhost", "pacs.example:80"):
            assert status_of(running, host=host) == 200
        assert status_of(running, host=socket.gethostname()) == 200
        for host in ("evil.example", "10.1.2.3.evil.example", "pacs.example.evil", "[*]", "*"):
            assert status_of(running, host=host) == 421
    finally:
        text = running.stop()
    assert "can be read by everybody" in text


def test_a_token_and_an_origin_of_the_command_line(tmp_path):
    """--token-file and --allow-origin hold for every resource; the page itself is open."""
    archive = tmp_path / "archive"
    archive.mkdir()
    write_archive(archive)
    mmindex.build(archive)
    (tmp_path / "token").write_text(TOKEN + "\nanother line\n")
    options = ("--host", "0.0.0.0", "--token-file", str(tmp_path / "token"))
    running = Running(archive, *options, "--allow-origin", "https://a.example")
    try:
        right = f"Bearer {TOKEN}"
        frame = Served(archive, "").instance(CINE).removeprefix("/dicom-web") + "/frames/1"
        for path in ("/studies", f"/studies/{STUDY}", f"/studies/{STUDY}/metadata", frame):
            assert status_of(running, "/dicom-web" + path) == 401
            assert status_of(running, "/dicom-web" + path, authorization=right) == 200
            assert status_of(running, "/dicom-web" + path, authorization=right + "x") == 401
        assert status_of(running, "/") == 200
        assert status_of(running, host="evil.example", authorization=right) == 421
        for origin, allowed in (("https://a.example", True), ("https://b.example", False)):
            headers = {"origin": origin, "authorization": right}
            answer = httpx.get(f"{running.url}/dicom-web/studies", headers=headers)
            assert ("access-control-allow-origin" in answer.headers) is allowed
    finally:
        text = running.stop()
    assert TOKEN not in text
    assert "everybody" not in text


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="browsers are found by PATH")
@pytest.mark.parametrize("with_token", [True, False])
def test_a_browser_is_opened_without_the_token_in_its_arguments(archive, tmp_path, with_token):
    """The arguments of a process are read by everybody: the token comes by a file of its own."""
    seen = tmp_path / "seen"
    for name in ("xdg-open", "sensible-browser"):
        script = tmp_path / "bin" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(f'#!/bin/sh\necho "$@" > {seen}.new\nmv {seen}.new {seen}\n')
        script.chmod(0o755)
    (tmp_path / "token").write_text(TOKEN)
    options = ("--token-file", str(tmp_path / "token")) if with_token else ()
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    running = Running(archive, "--open", *options, PATH=path, TMPDIR=str(tmp_path))
    try:
        until = time.monotonic() + 10
        while not seen.exists() and time.monotonic() < until:
            time.sleep(0.05)
        opened = seen.read_text().strip()
        if not with_token:
            assert opened == running.url + "/"
            return
        assert TOKEN not in opened
        assert stat.S_IMODE(os.stat(opened).st_mode) == 0o600
        target = html.unescape(re.search('url=([^"]+)"', Path(opened).read_text())[1])
        assert target.startswith(running.url + "/#token=")
        assert urllib.parse.unquote(target.partition("#token=")[2]) == TOKEN
    finally:
        running.stop()


def test_a_worker_that_dies_is_replaced(archive):
    """Requests go on being answered, and all workers end with the server."""
    running = Running(archive, "--workers", "2")
    try:
        before = running.children()
        assert len(before) == 2
        time.sleep(5.1)  # one that dies sooner after its start is not replaced
        os.kill(before[0], signal.SIGKILL)
        until = time.monotonic() + 10
        while time.monotonic() < until:
            now = running.children()
            if len(now) == 2 and before[0] not in now:
                break
            time.sleep(0.05)
        assert len(now) == 2
        assert before[0] not in now
        for _ in range(20):
            assert status_of(running) == 200
    finally:
        text = running.stop()
    assert "is replaced" in text
    assert running.process.returncode == 0
    assert not any(Path(f"/proc/{one}").exists() for one in now)


_WITHOUT_A_SECOND_FORK = """
import os, signal, sys
from mmindex.serve import server

fork, forks = os.fork, []

def fork_once():
    forks.append(1)
    if len(forks) > 1:
        raise BlockingIOError(11, "Resource temporarily unavailable")
    return fork()

os.fork = fork_once
status = server.run(lambda: None, server.bind("127.0.0.1", 0), workers=2)
blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
try:
    os.wait()
except ChildProcessError:
    sys.exit(f"status {status}, {len(blocked)} signals blocked, no worker left")
"""


def test_a_server_ends_where_a_worker_cannot_be_started():
    """As where `ulimit -u` is reached: the first one would go on with nobody to stop it."""
    ended = subprocess.run(
        [sys.executable, "-c", _WITHOUT_A_SECOND_FORK],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "no worker can be started: Resource temporarily unavailable" in ended.stderr
    assert ended.stderr.endswith("status 1, 0 signals blocked, no worker left\n")


def test_workers_that_die_at_once_end_the_server(archive):
    """A failure that a new worker would have again is the exit status, and not an endless loop."""
    running = Running(archive, "--workers", "2")
    os.kill(running.children()[0], signal.SIGKILL)
    _, text = running.process.communicate(timeout=20)
    assert running.process.returncode == 1
    assert "Traceback" not in text


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_source_that_cannot_be_served_is_refused_at_once(tmp_path, workers):
    """The error is that of one process, whatever the number of workers."""
    (tmp_path / "broken.mmindex").write_bytes(b"no index" * 1000)
    result = new_runner().invoke(
        main, ["serve", str(tmp_path / "broken.mmindex"), "--workers", workers]
    )
    assert result.exit_code == 1
    assert "broken.mmindex" in result.stderr


def test_a_port_in_use_is_named_with_the_option_that_gives_another(archive):
    """One line, of which address it is about."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        stderr = run("serve", archive, "--port", port, code=1).stderr
    assert f"127.0.0.1:{port}: the port is in use: give another one, or 0" in stderr
