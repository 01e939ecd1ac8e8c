"""The benchmark: its files are what they are said to be, its figures and its report are right."""

from __future__ import annotations

import json
import mmap
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from pydicom.encaps import generate_frames, get_frame

import mmindex
from scripts.benchmark import (
    command_line,
    containers,
    footprint,
    frames,
    limits,
    meaning,
    measure,
    page_cache,
    slide,
    stores,
)
from scripts.benchmark.cases import Case, Setup, Site, family
from scripts.benchmark.data import LAYOUTS, VARYING, Frames, write_image, write_small_files
from scripts.benchmark.measure import Bench, Contender, Effort, WrongFrameError
from scripts.benchmark.model import (
    MMINDEX,
    NOT_THERE,
    OTHER_PIXELS,
    PREAD,
    WALK,
    WRONG,
    CannotReadError,
    Measurement,
    Result,
)
from scripts.benchmark.openers import open_pydicom
from scripts.benchmark.report import (
    format_amount,
    format_ratio,
    make_readme,
    make_report,
    make_table,
    say_where_not_first,
    write_json,
)

ListCases = Callable[[int, Site], Iterable[Case]]
EFFORT = Effort(rounds=3, budget=1.0, batch=1e-6, patience=1.0)


def result(title: str = "a case", bound: float | None = None, **samples: float) -> Result:
    """Return a result of one sample a contender; `limit` is os.pread's."""
    measured = [Measurement(name, (value,)) for name, value in samples.items() if name != "limit"]
    if "limit" in samples:
        measured.append(Measurement(PREAD, (samples["limit"],)))
    return Result(title, tuple(measured), "a family", limit=PREAD, bound=bound)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_images_hold_the_seeded_frames_as_pydicom_reads_them(tmp_path: Path, layout: str) -> None:
    """Each layout's frames are those that were seeded, without a problem that mmindex notes."""
    written = write_image(tmp_path, 7, layout, sizes=(100, 300))
    expected = list(written.frames)
    assert [int(frame[4:14]) for frame in expected] == list(range(7))
    data_set = pydicom.dcmread(written.image.path)
    tables = None
    if layout == "Extended Offset Table":
        tables = data_set.ExtendedOffsetTable, data_set.ExtendedOffsetTableLengths
    found = generate_frames(data_set.PixelData, number_of_frames=7, extended_offsets=tables)
    assert list(found) == expected
    assert (
        get_frame(data_set.PixelData, 5, number_of_frames=7, extended_offsets=tables)
        == (expected[5])
    )
    with mmindex.open_file(written.image.path) as instance:
        assert list(instance) == expected
        assert instance.record.anomalies == ()
    assert data_set.SOPInstanceUID == written.image.sop_instance_uid


def test_known_ranges_hold_the_frames(tmp_path: Path) -> None:
    """The limit of a random frame reads the right bytes."""
    written = write_image(tmp_path, 20)
    assert [written.open_and_read(at) for at in range(20)] == list(written.frames)
    sizes_found = {len(frame) for frame in written.frames}
    assert min(sizes_found) >= 4096
    assert max(sizes_found) <= 16384


def test_seeded_frames_are_the_same_again_and_without_a_marker_inside() -> None:
    """The same seed gives the same bytes; another one others; FF is in markers alone."""
    assert list(Frames(5, (100, 200))) == list(Frames(5, (100, 200)))
    assert list(Frames(5, (100, 200))) != list(Frames(5, (100, 200), seed=1))
    assert {frame.count(b"\xff") for frame in Frames(50, (100, 200))} == {3}
    assert {len(frame) % 2 for frame in Frames(50, (100, 200))} == {0}


def test_header_of_endless_items_is_valid(tmp_path: Path) -> None:
    """Every frame has its item of Per-frame Functional Groups."""
    written = write_image(tmp_path, 3, sizes=(100, 200), items=True)
    data_set = pydicom.dcmread(written.image.path)
    groups = data_set.PerFrameFunctionalGroupsSequence
    assert [each.FrameContentSequence[0].DimensionIndexValues[1] for each in groups] == [1, 2, 3]
    assert groups.is_undefined_length
    assert list(generate_frames(data_set.PixelData, number_of_frames=3)) == list(written.frames)
    assert limits.skip_header(written.image.path) == written.pixel_data_offset


def test_walk_of_the_map_finds_every_fragment(tmp_path: Path) -> None:
    """The limit of a scan visits each item after the Basic Offset Table's."""
    written = write_image(tmp_path, 6, LAYOUTS[3], sizes=(100, 200))
    found = limits.walk_items(written.image.path, limits.skip_header(written.image.path))
    assert len(found) == 1 + 2 * 6
    assert [at + 8 for at in found[1::2]] == [offset for offset, _ in written.ranges]


def test_small_files_have_265_elements_and_uids_of_their_own(tmp_path: Path) -> None:
    """They are valid, 39 kB, in folders, and differ in their UIDs."""
    images = write_small_files(tmp_path, 5, files_a_folder=2)
    data_sets = [pydicom.dcmread(image.path) for image in images]
    assert [each.SOPInstanceUID for each in data_sets] == [each[5] for each in images]
    assert [each.SeriesInstanceUID for each in data_sets] == [each[4] for each in images]
    assert len({image.sop_instance_uid for image in images}) == 5
    assert len({image.series_instance_uid for image in images}) == 3
    assert {len(each) + len(each.file_meta) for each in data_sets} == {265}
    assert all(36_000 < os.path.getsize(image.path) < 40_000 for image in images)
    assert len(limits.walk_folder(str(tmp_path))) == 5
    with mmindex.open_file(images[4].path) as instance:
        assert instance.frame(0) == data_sets[4].PixelData


def test_small_files_vary_as_slices_of_a_series_do(tmp_path: Path) -> None:
    """In some elements alone, VARYING and the SOP Instance UID, and in their lengths, too."""
    images = write_small_files(tmp_path, 8)
    data_sets = [pydicom.dcmread(image.path) for image in images]
    assert [len(each) + len(each.file_meta) for each in data_sets] == [265] * 8
    varying = [
        element.tag
        for element in data_sets[0]
        if len({str(each[element.tag].value) for each in data_sets}) > 1
    ]
    assert len(varying) == VARYING + 1
    assert varying[0] == 0x00080018
    for tag in varying[1:]:
        assert len({len(str(each[tag].value)) for each in data_sets}) > 1
    assert len({os.path.getsize(image.path) for image in images}) > 1


def test_pydicom_reads_frames_of_a_kept_open_file_native_and_encapsulated(tmp_path: Path) -> None:
    """Its header is parsed once; any frame is read from the open file, again and in any order."""
    written = write_image(tmp_path, 5, sizes=(100, 200))
    (small,) = write_small_files(tmp_path, 1)
    with open_pydicom(written.image) as read:
        assert [read(at) for at in (3, 0, 3)] == [written.frames[at] for at in (3, 0, 3)]
    pixels = pydicom.dcmread(small.path).PixelData
    with open_pydicom(small) as read:
        assert [read(0), read(0)] == [pixels, pixels]


def test_limit_of_two_fragments_is_the_frame(tmp_path: Path) -> None:
    """One pread and a join of its slices give the frame as it was seeded."""
    written = write_image(tmp_path, 5, LAYOUTS[3], sizes=(100, 200))
    with ExitStack() as stack:
        limit = frames._known_ranges(written, stack, joined=True)
        assert limit.call is not None
        assert limit.expected is not None
        for index, arguments in zip(written.pick(5), limit.arguments, strict=False):
            answer = limit.call(*arguments)
            assert answer == limit.expected(*arguments) == written.frames[index]


def test_pages_are_dropped_or_it_is_said_that_they_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cold case is not measured where a page of a file stays in the cache."""
    path = tmp_path / "file"
    path.write_bytes(bytes(100_000))
    (tmp_path / "empty").touch()
    monkeypatch.setattr(page_cache, "count_cached_pages", lambda path: int(path.name == "file"))
    monkeypatch.setattr(os, "posix_fadvise", lambda *_: None, raising=False)
    monkeypatch.setattr(os, "POSIX_FADV_DONTNEED", 4, raising=False)
    with pytest.raises(page_cache.PagesStayError, match="1 pages of file stay in the cache"):
        page_cache.drop_pages(tmp_path)
    monkeypatch.setattr(page_cache, "count_cached_pages", lambda path: 0)
    page_cache.drop_pages(tmp_path)
    monkeypatch.delattr(os, "posix_fadvise")
    with pytest.raises(page_cache.PagesStayError, match="cannot be asked"):
        page_cache.drop_pages(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems may not tell")
def test_pages_in_the_cache_are_counted(tmp_path: Path) -> None:
    """Every page of a file that was just written is there; an empty file has none."""
    path = tmp_path / "file"
    path.write_bytes(bytes(10 * mmap.PAGESIZE + 1))
    assert page_cache.count_cached_pages(path) == 11
    path.write_bytes(b"")
    assert page_cache.count_cached_pages(path) == 0


def test_ranges_are_written_as_json_and_sqlite(tmp_path: Path) -> None:
    """The formats that an index is compared with hold the ranges."""
    ranges = [(8, 100), (116, 50)]
    assert footprint.write_json(tmp_path / "ranges.json", ranges) == len("[[8,100],[116,50]]")
    assert footprint.write_sqlite(tmp_path / "ranges.db", ranges) > 0


def test_median_and_quartiles() -> None:
    """The spread is half of what lies between the quartiles."""
    measurement = Measurement("a", (5.0, 1.0, 2.0, 4.0, 3.0))
    assert measurement.median == 3.0
    assert measurement.quartiles == (2.0, 4.0)
    assert measurement.spread == 1.0
    assert Measurement("a", (7.0,)).quartiles == (7.0, 7.0)
    assert Measurement("a", (1.0, 2.0)).median == 1.5


def test_contenders_are_measured_in_turn() -> None:
    """Each has a sample a round, and its answer is looked at once."""
    calls: list[str] = []
    contenders = [
        Contender(name, lambda name=name: calls.append(name), prepare=lambda: None)
        for name in ("a", "b")
    ]
    measured = measure.measure(contenders, EFFORT)
    assert [len(each.samples) for each in measured] == [3, 3]
    assert sorted(calls[4:6]) == sorted(calls[6:8]) == sorted(calls[8:]) == ["a", "b"]


def test_peer_that_answers_wrongly_or_fails_is_noted() -> None:
    """A wrong frame, an error and a missing package each say so; the others go on."""

    def fail(kind: type[Exception]) -> None:
        raise kind("(says why)")

    measured = measure.measure(
        [
            Contender(MMINDEX, lambda: b"right", expected=lambda: b"right"),
            Contender("wrong", lambda: b"other", expected=lambda: b"right"),
            Contender("broken", fail, [(ValueError,)]),
            Contender("unable", fail, [(CannotReadError,)]),
            measure.attempt("absent", lambda: fail(ModuleNotFoundError)),
            Contender("too slow", None, note="not measured above 100 frames"),
        ],
        EFFORT,
    )
    assert [each.note for each in measured] == [
        "",
        WRONG,
        "fails: ValueError",
        "(says why)",
        NOT_THERE,
        "not measured above 100 frames",
    ]
    assert [bool(each.samples) for each in measured] == [True, True, False, False, False, False]
    assert [each.counts for each in measured] == [True, False, False, False, False, False]


def test_a_peer_that_cannot_be_opened_is_noted_and_one_with_a_note_is_not_opened() -> None:
    """What mmindex raises when it is opened ends the run."""

    def fail() -> Callable[[], None]:
        raise ModuleNotFoundError

    found = [
        measure.opened("absent", fail, arguments=[(1,)]),
        measure.opened("left out", fail, "not measured above 100 frames"),
        measure.opened("peer", lambda: abs, arguments=[(-1,)], expected=abs),
    ]
    assert [each.note for each in found] == [NOT_THERE, "not measured above 100 frames", ""]
    assert [each.call for each in found] == [None, None, abs]
    (weighed,) = measure.weigh([replace(found[2], note="not asked")])
    assert (weighed.samples, weighed.note) == ((), "not asked")
    with pytest.raises(ModuleNotFoundError):
        measure.opened(MMINDEX, fail)


@pytest.mark.parametrize(("first", "samples"), [(9.0, (3.0,)), (11.0, (11.0,))])
def test_first_call_that_may_import_is_no_sample(
    monkeypatch: pytest.MonkeyPatch, first: float, samples: tuple[float, ...]
) -> None:
    """It is repeated, unless it took so long that an import is a small part of it."""
    clock = [0.0]
    seconds = iter((first, 3.0, 3.0))

    def call() -> None:
        clock[0] += next(seconds)

    monkeypatch.setattr(measure, "perf_counter", lambda: clock[0])
    (measured,) = measure.measure([Contender("peer", call)], EFFORT)
    assert measured.samples == samples


def test_thumbnails_are_compared_by_size_and_mean_colour() -> None:
    """Filters differ: what is as large and as bright counts as the same picture."""
    numpy = pytest.importorskip("numpy")
    expected = numpy.full((4, 4, 3), 100.0)
    stripes = numpy.full((4, 4, 4), 90, "u1")
    stripes[::2] = 111
    assert slide.compare_thumbnails(stripes, expected) == ""
    assert slide.compare_thumbnails(stripes + 4, expected) == OTHER_PIXELS
    assert slide.compare_thumbnails(stripes[:2], expected) == OTHER_PIXELS


def test_decoded_pixels_may_differ_by_two_levels() -> None:
    """An alpha channel is left out; other pixels are noted, and such a peer counts as before."""
    numpy = pytest.importorskip("numpy")
    expected = numpy.full((4, 4, 3), 254, "u1")
    near = numpy.full((4, 4, 4), 255, "u1")
    assert slide.compare_pixels(near, expected) == ""
    assert slide.compare_pixels(near - 4, expected) == OTHER_PIXELS
    assert slide.compare_pixels(near[:2], expected) == OTHER_PIXELS
    peer = Contender("peer", lambda: near - 4, expected=lambda: expected)
    ours = replace(peer, name=MMINDEX)
    compare = slide.compare_pixels
    (measured,) = measure.measure([replace(peer, compare=compare)], EFFORT)
    assert measured.note == OTHER_PIXELS
    assert measured.counts
    assert len(measured.samples) == EFFORT.rounds
    with pytest.raises(WrongFrameError, match=OTHER_PIXELS):
        measure.measure([replace(ours, compare=compare)], EFFORT)


def test_wrong_frame_of_mmindex_ends_the_run() -> None:
    """A benchmark of wrong answers is none."""
    with pytest.raises(WrongFrameError, match="wrong"):
        measure.measure([Contender(MMINDEX, lambda: 1, expected=lambda: 2)], EFFORT)


def test_a_family_measures_case_after_case_in_a_folder_of_its_setup(tmp_path: Path) -> None:
    """Each case runs before its setup goes on; what was opened is closed, then the folder goes."""
    seen: list[object] = []

    def list_setups(bench: Bench) -> Iterator[Setup]:
        yield "two cases", list_cases

    def fail_to_import() -> Contender:
        raise ModuleNotFoundError

    def list_cases(site: Site) -> Iterator[Case]:
        site.stack.callback(lambda: seen.append(site.folder.is_dir()))
        peer = measure.attempt("absent", fail_to_import)
        yield Case("sizes", [Contender(MMINDEX, len, [("four",), ("seven",)]), peer], unit="B")
        seen.append("second")
        yield Case("times", [Contender(MMINDEX, bytes)], limit=PREAD, bound=2.0, learn=seen.append)

    sizes_found, times = family("toy", list_setups)(Bench(tmp_path, EFFORT, quick=True))
    assert sizes_found == Result(
        "sizes",
        (Measurement(MMINDEX, (4.0, 5.0)), Measurement("absent", (), NOT_THERE)),
        "toy",
        unit="B",
    )
    assert (times.family, times.unit, times.limit, times.bound) == ("toy", "s", PREAD, 2.0)
    assert seen == ["second", times.measurements, True]
    assert list(tmp_path.iterdir()) == []


def test_a_family_that_the_system_cannot_measure_says_so_and_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other families go on; a figure that a peer fails to give is a note."""

    def list_setups(bench: Bench) -> Iterator[Setup]:
        yield "first", list_cases
        raise AssertionError("no further setup")

    def list_cases(site: Site) -> Iterator[Case]:
        yield Case("sizes", [Contender("peer", lambda: 1 / 0)], unit="B")
        raise CannotReadError("the system has no figure")

    (found,) = family("toy", list_setups)(Bench(tmp_path, EFFORT, quick=True))
    assert found.measurements == (Measurement("peer", (), "fails: ZeroDivisionError"),)
    assert "toy: the system has no figure; not measured" in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError):
        measure.weigh([Contender(MMINDEX, lambda: 1 / 0)])


def test_folder_of_a_setup_is_removed_with_it(tmp_path: Path) -> None:
    """The files of one setup make room for the next one's, also where a case of mmindex fails."""
    folders: list[list[Path]] = []

    def list_setups(bench: Bench) -> Iterator[Setup]:
        yield from [("first", list_cases)] * 2

    def list_cases(site: Site) -> Iterator[Case]:
        folders.append(list(tmp_path.iterdir()))
        (site.folder / "file").write_bytes(b"1")
        yield Case("sizes", [Contender(MMINDEX, lambda: 1 / (2 - len(folders)))], unit="B")

    results = family("toy", list_setups)(Bench(tmp_path, EFFORT, quick=True))
    assert next(results).family == "toy"
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert [len(each) for each in folders] == [1, 1]
    assert folders[0] != folders[1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("amount", "unit", "text"),
    [
        (2.31e-6, "s", "2.31 us"),
        (0.0452, "s", "45.2 ms"),
        (12.0, "s", "12.0 s"),
        (3e-7, "s", "0.30 us"),
        (4.5, "B", "4.50 B"),
        (16_142_336, "B", "16.1 MB"),
        (999_400, "B", "999 kB"),
        (999_600, "B", "1.00 MB"),
        (0.9996, "s", "1.00 s"),
        (0.0, "B", "0.00 B"),
    ],
)
def test_amounts_have_three_digits_and_a_unit(amount: float, unit: str, text: str) -> None:
    """Seconds and bytes are written so that they can be compared at a glance."""
    assert format_amount(amount, unit) == text


def test_ratios_are_rounded() -> None:
    """Large ones to three digits, small ones to two."""
    assert [format_ratio(each, 1.0) for each in (0.0553, 0.5, 1.0, 9.94, 999.4, 14_111.4)] == [
        "0.055x",
        "0.5x",
        "1.0x",
        "9.9x",
        "999x",
        "14,100x",
    ]
    assert format_ratio(1.0, 0.0) == "-"


def test_table_has_mmindex_the_limit_and_each_peer() -> None:
    """A row says the median with its spread, the limit, the peers as ratios and what is amiss."""
    row = Result(
        "no table, 10 frames",
        (
            Measurement(MMINDEX, (0.002, 0.001, 0.003)),
            Measurement("slow", (0.02,)),
            Measurement("quick", (0.0002,)),
            Measurement("absent", note=NOT_THERE),
            Measurement("careless", (0.001,), WRONG),
            Measurement(WALK, (0.001,)),
        ),
        "frames",
        limit=WALK,
    )
    assert make_table([row]).splitlines()[2:] == [
        "| no table, 10 frames | 2.00 ms ± 25% | walk of the map 1.00 ms: 2.0x | slow 10x, "
        "**quick 0.1x**, absent not there, careless 0.5x (wrong frame) |"
    ]


def test_report_says_that_mmindex_is_first_where_it_is() -> None:
    """A wrong frame is not before a right one."""
    results = [result(mmindex=1.0, peer=2.0, limit=0.9, bound=2.0), result(mmindex=1.0)]
    wrong = Measurement("careless", (0.1,), WRONG)
    results.append(Result("t", (Measurement(MMINDEX, (1.0,)), wrong), "f"))
    assert say_where_not_first(results, "cases") == (
        "In these cases mmindex is first, and within twice the limit where that is asked."
    )


def test_report_says_where_mmindex_is_not_first_or_above_the_bound() -> None:
    """Each such case stands there, also one that has no row; a case without a bound passes none."""
    results = [
        result("first", 2.0, mmindex=1.0, peer=2.0, limit=0.5),
        result("behind", mmindex=3.0, peer=2.0, other=1.0, limit=0.1),
        result("above", 2.0, mmindex=3.0, limit=1.0),
        Result("failed", (Measurement("peer", (1.0,)),), "f"),
    ]
    assert say_where_not_first(results, "cases").splitlines() == [
        "mmindex is **not first**, or **above twice the limit** where that is asked, here:",
        "",
        "- behind: other 1.00 s, peer 2.00 s; mmindex 3.00 s",
        "- above: 3.0x of os.pread; mmindex 3.00 s",
        "- failed: mmindex was not measured",
    ]


def test_readme_says_it_of_the_rows_alone_on_a_line_each() -> None:
    """A case without a row is in the report alone; a row has one line, whatever is amiss."""
    results = [
        result("both", 2.0, mmindex=3.0, peer=2.0, other=1.0, limit=0.5),
        result("first", 2.0, mmindex=1.0, peer=2.0, limit=0.6),
        replace(result("hidden", mmindex=3.0, peer=2.0), shown=False),
        Result("failed", (Measurement("peer", (1.0,)),), "f"),
    ]
    readme = make_readme(results, {"processor": "an abacus"}, quick=False)
    assert "(full run) on: processor an abacus." in readme
    assert readme.splitlines()[-4:] == [
        "mmindex is **not first**, or **above twice the limit** where that is asked, here:",
        "",
        "- both: other 1.00 s, peer 2.00 s, 6.0x of os.pread; mmindex 3.00 s",
        "- failed: mmindex was not measured",
    ]
    assert "hidden" not in readme
    report = make_report(results, {"processor": "an abacus"}, quick=False)
    assert report.startswith(readme)
    assert "- hidden: peer 2.00 s; mmindex 3.00 s" in report
    good = make_readme(results[1:2], {}, quick=False)
    assert good.splitlines()[-1].startswith("In these rows mmindex is first")


def test_report_says_where_mmindex_is_above_its_aim() -> None:
    """In the table, in the list of all cases, on the line of a row; one that is met passes."""
    slow = replace(result("slow", mmindex=2.5, limit=1.0), aim=2.0)
    exact = replace(result("exact", mmindex=2.0), aim=2.0)
    assert make_table([slow, exact]).splitlines()[2:] == [
        "| slow | 2.50 s | os.pread 1.00 s: 2.5x; aim 2.00 s | - |",
        "| exact | 2.00 s | aim 2.00 s | - |",
    ]
    assert say_where_not_first([slow, exact], "cases").splitlines()[-1:] == [
        "- slow: aim 2.00 s; mmindex 2.50 s",
    ]
    assert make_readme([slow, exact], {}, quick=False).splitlines()[-3:] == [
        "mmindex is **not first**, or **above twice the limit** or **the aim** where that is "
        "asked, here:",
        "",
        "- slow: aim 2.00 s; mmindex 2.50 s",
    ]
    good = make_readme([exact], {}, quick=False)
    assert good.splitlines()[-1].endswith("within twice the limit and the aim where that is asked.")


def test_report_and_json_hold_machine_and_samples(tmp_path: Path) -> None:
    """Every sample is kept, and what it was measured on."""
    results = [result(mmindex=1.0, peer=2.0)]
    machine = {"processor": "an abacus", "mmindex": "0.1.0"}
    report = make_report(results, machine, quick=True)
    assert "(quick run, small sizes) on: processor an abacus, mmindex 0.1.0." in report
    write_json(tmp_path / "results.json", results, machine)
    told = json.loads((tmp_path / "results.json").read_text())
    assert told["machine"] == machine
    assert told["results"][0]["measurements"][1] == {
        "contender": "peer",
        "samples": [2.0],
        "note": "",
    }


@pytest.mark.parametrize(
    ("list_cases", "aims"),
    [
        (stores.list_updates, [0.01]),
        (command_line.list_listings, [0.2, 0.2, 0.2, 0.2]),
        (meaning.list_cases, [None, None]),
    ],
)
def test_families_of_archives_are_measured(
    tmp_path: Path, list_cases: ListCases, aims: list[float | None]
) -> None:
    """One file goes into an index each time; each command lists every file."""
    with ExitStack() as stack:
        site = Site(Bench(tmp_path, EFFORT, quick=True), tmp_path, stack)
        results = [case.run("a family", site.bench) for case in list_cases(20, site)]
    for each in results:
        assert all(measured.samples for measured in each.measurements), each
    assert [each.aim for each in results] == [pytest.approx(aim, abs=0.001) for aim in aims]


def test_aims_are_those_of_a_full_run() -> None:
    """An archive of 200,000 files; a quick run's tenth has a tenth of what depends on it."""
    assert command_line.AIMS["check"] == command_line.AIMS["ls"] == 2.0
    assert command_line.AIMS["stats"] == 0.5
    assert command_line.AIMS["export --format parquet"] == 2.0  # 10 s for 1,000,000
    assert command_line.FILES == 200_000
    assert containers.WALK_AIMS["tar"] == 2.5e-6
