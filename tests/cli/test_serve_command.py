"""`mmindex serve`: who may be served what, and a server that runs until it is stopped."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import urllib.request

import pytest
from cli_runner import new_runner
from dicom_bytes import native_file

import mmindex
from mmindex.cli import main


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
    ],
)
def test_what_is_refused(archive, monkeypatch, arguments, code, words):
    """Other hosts need a token or --insecure; a token is long; files have to be there."""
    monkeypatch.chdir(archive)
    (archive / "short.txt").write_text("secret\n")
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
