"""The watch of an archive by a real process: what arrives is served soon, and nothing gets lost."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from container_bytes import write_tar
from dicom_bytes import small_image as image

import mmindex
from mmindex.errors import IndexWriteError, MMIndexError
from mmindex.sources.base import WalkRules

pytest.importorskip("watchfiles")

from mmindex.update import watch as watch_module

SOP_INSTANCE_UID = 0x00080018
PATIENCE = 30.0  # seconds in which a busy machine does anything


def wait_until(holds: Callable[[], bool]) -> float:
    """Wait until something holds; return how many seconds it took."""
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < PATIENCE
        time.sleep(0.01)
    return time.monotonic() - started


class Watching:
    """A process that watches `root`, and the lines of its log."""

    def __init__(self, root: Path, index: Path, *options: str) -> None:
        command = [sys.executable, "-m", "mmindex", "watch", str(root), "--index", str(index)]
        self.process = subprocess.Popen(
            [*command, "--log-format", "json", *options], stdout=subprocess.PIPE
        )
        self.events: list[dict[str, object]] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        wait_until(lambda: "build" in self.kinds())

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.events.append(json.loads(line))

    def kinds(self) -> list[object]:
        return [event["event"] for event in self.events]

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[Watching]:
    """A watch of `root` with one file; its index is outside."""
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "first.dcm").write_bytes(image("1.1"))
    os.utime(tmp_path / "root" / "first.dcm", (1, 1))
    watch = Watching(tmp_path / "root", tmp_path / "index")
    yield watch
    if watch.process.poll() is None:
        watch.end(signal.SIGKILL)


def serves(index: Path, uid: str, pixels: bytes) -> bool:
    """Return whether a frame can be read; a wrong one is an error."""
    with mmindex.open(index) as archive:
        try:
            found = archive.frame(uid, 0)
        except (MMIndexError, KeyError):
            return False
    assert found == pixels
    return True


def test_files_renamed_into_place_are_served_soon_and_none_wrong(
    tmp_path: Path, watching: Watching
) -> None:
    """Readers in other threads see each frame right or not yet, in new folders as well."""
    root, index = tmp_path / "root", tmp_path / "index"
    numbers = range(200)
    arrived: dict[int, float] = {}
    late: list[float] = []
    ended = threading.Event()

    def read() -> None:
        with mmindex.open(index) as archive:
            while not ended.is_set():
                for number in list(arrived):
                    try:
                        assert archive.frame(f"2.{number}", 0) == b"%04d" % number
                    except (MMIndexError, KeyError):
                        continue
                ended.wait(0.01)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for number in numbers:
        folder = root / f"{number % 7}" / "deep"
        folder.mkdir(parents=True, exist_ok=True)
        (tmp_path / "part").write_bytes(image(f"2.{number}", b"%04d" % number))
        (tmp_path / "part").rename(folder / f"{number}.dcm")
        arrived[number] = time.monotonic()
        if number % 40 == 0:
            late.append(
                wait_until(lambda number=number: serves(index, f"2.{number}", b"%04d" % number))
            )
    for number in numbers:
        wait_until(lambda number=number: serves(index, f"2.{number}", b"%04d" % number))
    ended.set()
    for reader in readers:
        reader.join()
    assert sorted(late)[len(late) // 2] < 1.0
    assert watching.end() == 0
    assert watching.kinds()[-1] == "stopped"
    report = mmindex.build(root, index, workers=1)
    assert (report.found, report.scanned, report.removed) == (201, 0, 0)
    assert report.duplicates == 0


def test_files_and_folders_that_leave_are_dropped(tmp_path: Path, watching: Watching) -> None:
    """A folder is moved away whole, and a file is removed; SIGINT ends the watch as well."""
    root, index = tmp_path / "root", tmp_path / "index"
    (tmp_path / "new" / "deep").mkdir(parents=True)
    for number in range(3):
        (tmp_path / "new" / "deep" / f"{number}.dcm").write_bytes(image(f"2.{number}", b"wxyz"))
    (tmp_path / "new").rename(root / "new")
    wait_until(lambda: all(serves(index, f"2.{number}", b"wxyz") for number in range(3)))
    (root / "new").rename(tmp_path / "old")

    def count() -> int:
        with mmindex.open(index) as archive:
            return len(archive)

    wait_until(lambda: count() == 1)
    assert watching.end(signal.SIGINT) == 0


def test_a_file_that_is_written_in_place_is_left_until_it_is_whole(
    tmp_path: Path, watching: Watching
) -> None:
    """No half of it is recorded; its frames are served when it is old enough."""
    root, index = tmp_path / "root", tmp_path / "index"
    content = image("2.1", b"late")
    with open(root / "slow.dcm", "wb", buffering=0) as file:
        for at in range(0, len(content), 40):
            file.write(content[at : at + 40])
            time.sleep(0.1)
    wait_until(lambda: serves(index, "2.1", b"late"))
    assert watching.end() == 0
    updates = [event for event in watching.events if event["event"] == "update"]
    assert [event["statuses"] for event in updates] == [{"indexed": 1}]


def test_a_root_that_is_away_for_a_while_loses_nothing(tmp_path: Path, watching: Watching) -> None:
    """A lost mount leaves nothing, or an empty folder; the watch waits, and goes on."""
    root, index = tmp_path / "root", tmp_path / "index"
    root.rename(tmp_path / "away")
    wait_until(lambda: "away" in watching.kinds())
    root.mkdir()
    wait_until(lambda: "failed" in watching.kinds())
    root.rmdir()
    (tmp_path / "away").rename(root)
    (tmp_path / "part").write_bytes(image("2.1", b"back"))
    (tmp_path / "part").rename(root / "new.dcm")
    wait_until(lambda: serves(index, "2.1", b"back"))
    assert serves(index, "1.1", b"abcd")
    assert watching.end() == 0


def test_a_watch_that_is_killed_leaves_a_right_index(tmp_path: Path, watching: Watching) -> None:
    """A build after kill -9 finds what the watch had not."""
    root, index = tmp_path / "root", tmp_path / "index"
    for number in range(100):
        (tmp_path / "part").write_bytes(image(f"2.{number}", b"%04d" % number))
        (tmp_path / "part").rename(root / f"{number}.dcm")
        if number == 60:
            watching.end(signal.SIGKILL)
    mmindex.build(root, index, workers=1)
    with mmindex.open(index) as archive:
        archive.check_index()
        assert len(archive) == 101
        for number in range(100):
            assert archive.frame(f"2.{number}", 0) == b"%04d" % number


def test_a_full_disk_is_outlived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be written is tried again."""
    events: list[watch_module.WatchEvent] = []
    stop = threading.Event()
    update_files = watch_module.update_files

    def fail_once(*arguments: object, **options: object) -> None:
        monkeypatch.setattr(watch_module, "update_files", update_files)
        raise IndexWriteError("cannot write the index: the disk is full")

    monkeypatch.setattr(watch_module, "update_files", fail_once)
    root = tmp_path / "root"
    root.mkdir()
    watch = watch_module.Watch(root, tmp_path / "index", events.append, stop, rules=WalkRules())
    thread = threading.Thread(target=watch.run, daemon=True)
    thread.start()
    wait_until(lambda: bool(events))
    (tmp_path / "part").write_bytes(image("2.1", b"full"))
    (tmp_path / "part").rename(root / "new.dcm")
    wait_until(lambda: serves(tmp_path / "index", "2.1", b"full"))
    stop.set()
    thread.join()
    assert [event.kind for event in events] == ["build", "failed", "update", "stopped"]
    assert "the disk is full" in events[1].reason


def test_a_burst_past_counting_ends_in_a_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system drops reports where there are too many: all files are looked at."""
    monkeypatch.setattr(watch_module, "_MANY", 3)
    events: list[watch_module.WatchEvent] = []
    stop = threading.Event()
    (tmp_path / "root").mkdir()
    watch = watch_module.Watch(
        tmp_path / "root", tmp_path / "index", events.append, stop, rules=WalkRules(), min_age=0.1
    )
    thread = threading.Thread(target=watch.run, daemon=True)
    thread.start()
    wait_until(lambda: bool(events))
    (tmp_path / "new").mkdir()
    for number in range(10):
        (tmp_path / "new" / f"{number}").write_bytes(image(f"2.{number}"))
    for number in range(10):
        (tmp_path / "new" / f"{number}").rename(tmp_path / "root" / f"{number}")
    wait_until(lambda: all(serves(tmp_path / "index", f"2.{n}", b"abcd") for n in range(10)))
    wait_until(lambda: [event.kind for event in events].count("build") > 1)
    stop.set()
    thread.join()


@pytest.mark.long
@pytest.mark.parametrize("others", [0, 50_000])
def test_a_thousand_files_are_served_within_a_second_each_to_eight_readers(
    tmp_path: Path, others: int
) -> None:
    """From its rename on, in new folders as well; none is wrong, none is there twice."""
    root, index, ready = tmp_path / "root", tmp_path / "index", tmp_path / "ready"
    ready.mkdir()
    for number in range(others):
        folder = root / "others" / f"{number % 50}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.dcm").write_bytes(image(f"3.{number}"))
        os.utime(folder / f"{number}.dcm", (1, 1))
    root.mkdir(exist_ok=True)
    mmindex.build(root, index)
    watching = Watching(root, index)
    numbers = range(1000)
    for number in numbers:
        (ready / f"{number}").write_bytes(image(f"2.{number}", b"%04d" % number))
    (root / "new").mkdir()
    arrived: dict[int, float] = {}
    served: dict[int, float] = {}
    wrong: list[object] = []
    ended = threading.Event()

    def read(seed: int) -> None:
        chance = random.Random(seed)
        with mmindex.open(index, revalidate_after=0.0) as archive:
            while not ended.is_set():
                for number in chance.sample(numbers, 5):
                    with suppress(MMIndexError):
                        if archive.frame(f"2.{number}", 0) != b"%04d" % number:
                            wrong.append(number)
                        if len(list(archive.records_of(f"2.{number}"))) > 1:
                            wrong.append(f"twice {number}")
                ended.wait(0.02)

    def measure() -> None:
        with mmindex.open(index) as archive:
            while len(served) < len(numbers) and not ended.is_set():
                for number in list(arrived):
                    if number not in served and f"2.{number}" in archive:
                        assert archive.frame(f"2.{number}", 0) == b"%04d" % number
                        served[number] = time.monotonic()
                time.sleep(0.002)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
    threads.append(threading.Thread(target=measure))
    for thread in threads:
        thread.start()
    for number in numbers:
        folder = root if number % 2 else root / "new"
        if number % 4 == 0:
            folder = root / f"study-{number // 8}"
            folder.mkdir(exist_ok=True)
        arrived[number] = time.monotonic()
        (ready / f"{number}").rename(folder / f"{number}.dcm")
        if number % 10 == 0:
            time.sleep(0.01)
    started = time.monotonic()
    while len(served) < len(numbers) and time.monotonic() - started < PATIENCE:
        time.sleep(0.05)
    ended.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(served) == len(numbers)
    slowest = max(served[number] - arrived[number] for number in numbers)
    assert slowest < 1.0
    assert watching.end() == 0
    report = mmindex.build(root, index, workers=1)
    found = others + len(numbers)
    assert (report.found, report.scanned, report.removed, report.duplicates) == (found, 0, 0, 0)


def run_watch(
    tmp_path: Path, events: list[watch_module.WatchEvent], **options: float
) -> tuple[threading.Event, threading.Thread]:
    """Watch in a thread until the event is set."""
    stop = threading.Event()
    (tmp_path / "root").mkdir()
    watch = watch_module.Watch(
        tmp_path / "root", tmp_path / "index", events.append, stop, rules=WalkRules(), **options
    )
    thread = threading.Thread(target=watch.run, daemon=True)
    thread.start()
    return stop, thread


def test_a_rescan_follows_after_its_time(tmp_path: Path) -> None:
    """A build of all, whether or not anything was reported."""
    events: list[watch_module.WatchEvent] = []
    stop, thread = run_watch(tmp_path, events, rescan=0.3)
    wait_until(lambda: len(events) >= 3)
    stop.set()
    thread.join()
    assert {event.kind for event in events[:-1]} == {"build"}


def test_an_archive_with_too_many_folders_to_watch_is_built_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system refuses to watch, nothing is lost: it says so, and looks at all."""
    import watchfiles

    def refuse(*paths: str, **options: object) -> Iterator[object]:
        raise OSError("OS file watch limit reached")

    monkeypatch.setattr(watchfiles, "watch", refuse)
    events: list[watch_module.WatchEvent] = []
    stop, thread = run_watch(tmp_path, events, rescan=0.2)
    wait_until(lambda: "build" in [event.kind for event in events])
    (tmp_path / "root" / "new.dcm").write_bytes(image("2.1", b"poll"))
    os.utime(tmp_path / "root" / "new.dcm", (1, 1))
    wait_until(lambda: serves(tmp_path / "index", "2.1", b"poll"))
    stop.set()
    thread.join()
    assert "watch limit" in events[0].reason
    assert events[-1].kind == "stopped"


@pytest.mark.parametrize("is_built", [True, False])
def test_an_error_that_comes_again_is_met_about_once_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_built: bool
) -> None:
    """Whether a build has ended or not, a watch that fails at once fills no log."""
    fails = not is_built

    def build(*arguments: object, **options: object) -> object:
        nonlocal fails
        if fails:
            raise RuntimeError("no more threads")
        fails = True
        return real(*arguments, **options)  # type: ignore[arg-type]

    real = watch_module.build
    monkeypatch.setattr(watch_module, "build", build)
    events: list[watch_module.WatchEvent] = []
    stop, thread = run_watch(tmp_path, events, rescan=0.01)
    wait_until(lambda: "failed" in [event.kind for event in events])
    time.sleep(2.2)
    stop.set()
    thread.join()
    assert [event.kind for event in events].count("failed") <= 4


def test_a_file_that_takes_the_place_of_a_folder_and_the_other_way(
    tmp_path: Path, watching: Watching
) -> None:
    """What was below is dropped; what is below now is served."""
    root, index = tmp_path / "root", tmp_path / "index"
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "a.dcm").write_bytes(image("2.1", b"fold"))
    (tmp_path / "new").rename(root / "place")
    wait_until(lambda: serves(index, "2.1", b"fold"))
    (root / "place").rename(tmp_path / "new")
    (tmp_path / "part").write_bytes(image("2.2", b"file"))
    (tmp_path / "part").rename(root / "place")

    def uids() -> set[str]:
        with mmindex.open(index) as archive:
            return set(archive)

    wait_until(lambda: uids() == {"1.1", "2.2"})
    (root / "place").unlink()
    (tmp_path / "new").rename(root / "place")
    wait_until(lambda: uids() == {"1.1", "2.1"})
    assert watching.end() == 0


def test_a_container_that_arrives_or_changes_is_served(tmp_path: Path) -> None:
    """Its files come with it, and those that it no longer has go."""
    watching = Watching(tmp_path, tmp_path / ".mmindex", "--min-age", "0.2")
    try:
        for name, uids in (("first", ("1.1", "1.2")), ("second", ("1.2", "1.3"))):
            content = write_tar([(f"{uid}.dcm", image(uid)) for uid in uids])
            (tmp_path.parent / "beside").write_bytes(content)
            os.replace(tmp_path.parent / "beside", tmp_path / "s.tar")
            with mmindex.open(tmp_path, revalidate_after=0) as archive:
                wait_until(lambda archive=archive, uids=uids: list(archive) == list(uids))
                for uid in uids:
                    assert archive.frame(uid, 0) == b"abcd", name
    finally:
        watching.end()


def arrive(tmp_path: Path, name: str, uid: str, pixels: bytes = b"abcd") -> Path:
    """Rename a file into place."""
    (tmp_path / "part").write_bytes(image(uid, pixels))
    path = tmp_path / "root" / name
    (tmp_path / "part").rename(path)
    return path


def test_a_removal_that_is_refused_holds_up_no_arrival(tmp_path: Path) -> None:
    """The gone files stay in the index and are looked at later; what arrives is served at once."""
    events: list[watch_module.WatchEvent] = []
    stop, thread = run_watch(tmp_path, events, max_removed=0)
    wait_until(lambda: bool(events))
    gone = arrive(tmp_path, "gone.dcm", "1.1", b"gone")
    wait_until(lambda: serves(tmp_path / "index", "1.1", b"gone"))
    gone.unlink()
    wait_until(lambda: "failed" in [event.kind for event in events])
    for number in range(3):
        arrive(tmp_path, f"{number}.dcm", f"2.{number}")
        took = wait_until(lambda number=number: serves(tmp_path / "index", f"2.{number}", b"abcd"))
        assert took < 10.0  # and not the minute after which the gone file is looked at again
    with mmindex.open(tmp_path / "index") as archive:
        assert "1.1" in archive
    stop.set()
    thread.join()
    assert [event.kind for event in events].count("failed") == 1


def test_a_build_that_refuses_a_removal_holds_up_no_arrival(tmp_path: Path) -> None:
    """As one that begins on an archive of which too much is gone."""
    root, index = tmp_path / "root", tmp_path / "index"
    root.mkdir()
    for number in range(2):
        (root / f"{number}.dcm").write_bytes(image(f"1.{number}"))
    mmindex.build(root, index, workers=1)
    (root / "0.dcm").unlink()
    events: list[watch_module.WatchEvent] = []
    stop = threading.Event()
    watch = watch_module.Watch(
        root, index, events.append, stop, rules=WalkRules(), max_removed=0, rescan=60.0
    )
    thread = threading.Thread(target=watch.run, daemon=True)
    thread.start()
    wait_until(lambda: bool(events))
    assert (events[0].kind, "at most 0" in events[0].reason) == ("failed", True)
    for number in range(2, 5):
        arrive(tmp_path, f"{number}.dcm", f"2.{number}")
        wait_until(lambda number=number: serves(index, f"2.{number}", b"abcd"))
    stop.set()
    thread.join()
    assert "update" in [event.kind for event in events]


def test_what_becomes_due_during_a_build_is_looked_at_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The build may have passed its place before the last write."""
    root = tmp_path / "root"
    root.mkdir()
    path = root / "late.dcm"
    path.write_bytes(image("2.1", b"late"))
    real = watch_module.build

    def build(*arguments: object, **options: object) -> object:
        path.unlink()
        report = real(*arguments, **options)
        path.write_bytes(image("2.1", b"late"))
        time.sleep(0.2)
        return report

    monkeypatch.setattr(watch_module, "build", build)
    events: list[watch_module.WatchEvent] = []
    watch = watch_module.Watch(
        root, tmp_path / "index", events.append, threading.Event(), rules=WalkRules()
    )
    due = time.monotonic() + 0.1  # after the build's start, before its end
    watch._due = {os.fsencode(path): due, os.fsencode(root / "before"): due - 10}
    watch._build()
    assert watch._due == {os.fsencode(path): due}
    watch._catch_up(time.monotonic())
    assert serves(tmp_path / "index", "2.1", b"late")


def test_a_file_dated_in_the_future_is_served_and_costs_no_builds(
    tmp_path: Path, watching: Watching
) -> None:
    """Renamed or written in place, by a clock that is decades ahead."""
    root, index = tmp_path / "root", tmp_path / "index"
    (tmp_path / "part").write_bytes(image("2.1", b"2099"))
    os.utime(tmp_path / "part", (4e9, 4e9))
    (tmp_path / "part").rename(root / "renamed.dcm")
    (root / "inplace.dcm").write_bytes(image("2.2", b"2099"))
    os.utime(root / "inplace.dcm", (4e9, 4e9))
    for uid in ("2.1", "2.2"):
        assert wait_until(lambda uid=uid: serves(index, uid, b"2099")) < 20.0
    with open(root / "inplace.dcm", "ab") as file:
        file.write(bytes(2))
    os.utime(root / "inplace.dcm", (4e9 + 1, 4e9 + 1))

    def is_known() -> bool:
        with mmindex.open(index) as archive:
            return not [each for each in archive.problems() if each.kind == "stale"]

    wait_until(is_known)
    assert watching.end() == 0
    assert watching.kinds().count("build") == 1
    report = mmindex.build(root, index, workers=1, min_age=2.0)
    assert (report.postponed, report.scanned) == (0, 0)


def test_a_new_folder_costs_a_watch_no_look_at_the_paths_of_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked: list[object]
) -> None:
    """Neither at first nor half a second later, when it is looked at again."""
    calls: list[object] = []
    update_files = watch_module.update_files

    def count(root: str, paths: list[bytes], *others: object) -> object:
        calls.extend(paths)
        return update_files(root, paths, *others)

    monkeypatch.setattr(watch_module, "update_files", count)
    events: list[watch_module.WatchEvent] = []
    stop, thread = run_watch(tmp_path, events)
    wait_until(lambda: bool(events))
    (tmp_path / "new" / "deep").mkdir(parents=True)
    (tmp_path / "new" / "deep" / "a.dcm").write_bytes(image("2.1", b"fold"))
    (tmp_path / "new").rename(tmp_path / "root" / "new")
    wait_until(lambda: serves(tmp_path / "index", "2.1", b"fold"))
    wait_until(lambda: os.fsencode(tmp_path / "root" / "new") + b"/" in calls)
    wait_until(lambda: "update" in [event.kind for event in events])
    assert looked == []
    arrive(tmp_path, "stays.dcm", "2.2")
    wait_until(lambda: serves(tmp_path / "index", "2.2", b"abcd"))
    (tmp_path / "root" / "new").rename(tmp_path / "new")
    wait_until(lambda: b"new" in looked)
    stop.set()
    thread.join()


def start_watch(root: Path, index: Path, output: Path) -> subprocess.Popen[bytes]:
    """Start a watch that logs to a file."""
    command = [sys.executable, "-m", "mmindex", "watch", str(root), "--index", str(index)]
    with open(output, "wb", buffering=0) as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.PIPE)


def end_watch(process: subprocess.Popen[bytes]) -> tuple[int, bytes]:
    """End a watch, and return its exit code and what it wrote to standard error."""
    process.terminate()
    _, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, errors


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_log_on_a_full_disk_ends_no_watch(tmp_path: Path) -> None:
    """Lines are lost, files are served; SIGTERM ends the watch as ever."""
    root, index = tmp_path / "root", tmp_path / "index"
    root.mkdir()
    process = start_watch(root, index, Path("/dev/full"))
    try:
        wait_until(index.exists)
        for number in range(3):
            arrive(tmp_path, f"{number}.dcm", f"2.{number}")
            wait_until(lambda number=number: serves(index, f"2.{number}", b"abcd"))
        assert end_watch(process) == (0, b"")
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_is_full_for_a_while_holds_index_and_log(
    tmp_path: Path, small_disk: Path
) -> None:
    """Neither ends the watch; with room again, what arrived meanwhile is served."""
    root, index = tmp_path / "root", small_disk / "index"
    root.mkdir()
    process = start_watch(root, index, small_disk / "log")
    try:
        wait_until(index.exists)
        arrive(tmp_path, "first.dcm", "1.1")
        wait_until(lambda: serves(index, "1.1", b"abcd"))
        with suppress(OSError), open(small_disk / "filler", "wb", buffering=0) as filler:
            while True:
                filler.write(bytes(512))
        for number in range(400):  # more than free pages of the index take
            arrive(tmp_path, f"{number}.dcm", f"2.{number}")
        time.sleep(1.5)
        assert process.poll() is None
        (small_disk / "filler").unlink()
        for number in range(400):
            wait_until(lambda number=number: serves(index, f"2.{number}", b"abcd"))
        assert end_watch(process)[0] == 0
    finally:
        process.kill()
        process.wait()
    with mmindex.open(index) as archive:
        archive.check_index()


def test_reports_that_the_system_dropped_are_made_up_for_by_a_build(
    tmp_path: Path, watching: Watching
) -> None:
    """The queue of the system is full while the watch stands still: a file's report is lost."""
    limit = Path("/proc/sys/fs/inotify/max_queued_events")
    if not limit.exists():
        pytest.skip("no inotify")
    root, index = tmp_path / "root", tmp_path / "index"
    busy = [os.open(root / f"busy-{number}", os.O_RDWR | os.O_CREAT) for number in range(2)]
    wait_until(lambda: len(list(mmindex.open(index).records())) == 3)
    watching.process.send_signal(signal.SIGSTOP)
    for _ in range(int(limit.read_text())):  # reports of one file after the other are not joined
        for number in busy:
            os.pwrite(number, b"x", 0)
    arrive(tmp_path, "lost.dcm", "2.1")
    time.sleep(1.0)
    watching.process.send_signal(signal.SIGCONT)
    wait_until(lambda: serves(index, "2.1", b"abcd"))
    for number in busy:
        os.close(number)
    assert watching.end() == 0


def test_a_name_that_is_no_text_delays_no_other_file(tmp_path: Path, watching: Watching) -> None:
    """watchfiles gives up at such a name: the watch begins anew with a build."""
    root, index = tmp_path / "root", tmp_path / "index"
    for number in range(3):
        Path(os.fsdecode(bytes(root) + b"/M\xfcller-%d" % number)).write_bytes(image(f"2.{number}"))
        os.utime(os.fsdecode(bytes(root) + b"/M\xfcller-%d" % number), (1, 1))
        (tmp_path / "new").write_bytes(image(f"3.{number}"))
        (tmp_path / "new").rename(root / f"{number}.dcm")
        for uid in (f"2.{number}", f"3.{number}"):
            wait_until(lambda uid=uid: serves(index, uid, b"abcd"))  # type: ignore[misc]
    assert watching.end() == 0
