"""What the command line says where it cannot do what is asked: what is wrong, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import pytest
from cli_runner import run
from dicom_bytes import dicom_file, element, image_attributes, native_file

import mmindex
from mmindex.cli import suggestions as near

STUDY, SERIES = "1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.2"
UIDS = [f"1.2.826.0.1.3680043.8.498.77.{number}" for number in (12345, 12346, 99001, 99002)]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive of one series, with its index."""
    for at, uid in enumerate(UIDS):
        data_set = (
            element(0x00080018, "UI", uid)
            + element(0x0020000D, "UI", STUDY)
            + element(0x0020000E, "UI", SERIES)
            + image_attributes()
            + element(0x7FE00010, "OB", bytes(4))
        )
        (tmp_path / f"{at}.dcm").write_bytes(dicom_file(data_set))
    mmindex.build(tmp_path, workers=1)
    return tmp_path


@pytest.mark.parametrize("command", ["ls", "check", "stats"])
def test_a_file_where_an_archive_is_meant_is_wrong_usage(archive, command):
    """It says what is expected, and which command tells of one file."""
    path = archive / "0.dcm"
    stderr = run(command, path, code=2).stderr
    assert f"{path} is a file, and no index: give an archive's folder or index file" in stderr
    assert f"`mmindex info {path}`" in stderr


def test_a_damaged_index_is_told_as_what_it_is(archive):
    """An index is none of the files that were given by mistake."""
    (archive / ".mmindex").write_bytes(b"damaged")
    stderr = run("ls", archive / ".mmindex", code=1).stderr
    assert stderr == f"mmindex: {archive / '.mmindex'}: not an mmindex index\n"


def test_build_of_a_file_says_how_to_build_its_folder(archive, monkeypatch):
    """Also where the file is in the current folder."""
    path = archive / "0.dcm"
    stderr = run("build", path, code=2).stderr
    assert f"{path} is a file: a folder is indexed, as by `mmindex build {archive}`" in stderr
    monkeypatch.chdir(archive)
    assert "as by `mmindex build .`" in run("build", "0.dcm", code=2).stderr


def test_a_command_that_is_suggested_can_be_pasted(tmp_path):
    """A path with a space is quoted."""
    folder = tmp_path / "a ward"
    folder.mkdir()
    assert f"`mmindex build '{folder}'`" in run("ls", folder, code=1).stderr


@pytest.mark.parametrize(
    "command",
    [
        *(("ls",), ("stats",), ("check",)),
        *(("info", "--instance", "1.2.3"), ("frame", 1, "--instance", "1.2.3")),
    ],
)
def test_an_index_that_is_not_there_says_how_one_is_made(tmp_path, command):
    """The name of the file says that it is meant to be an index."""
    name, *rest = command
    index = tmp_path / "archive.mmindex"
    stderr = run(name, index, *rest, code=1).stderr
    assert stderr.startswith(f"mmindex: {index}: there is no such folder or index")
    assert f"`mmindex build FOLDER --index {index}` creates one" in stderr
    other = run(name, tmp_path / "other", *rest, code=1).stderr
    assert other == f"mmindex: {tmp_path / 'other'}: there is no such folder or index\n"


@pytest.mark.parametrize("command", [("info",), ("frame", 1), ("ls",), ("check",)])
def test_a_path_with_a_slip_in_it_gets_its_near_matches(archive, command):
    """Of its folder, quoted for a shell; a folder that is not there has none."""
    name, *rest = command
    (archive / "a name.dcm").touch()
    stderr = run(name, archive / "a nmae.dcm", *rest, code=1).stderr
    assert stderr.endswith(f"; did you mean '{archive / 'a name.dcm'}'?\n")
    assert "did you mean" not in run(name, archive / "absent" / "a.dcm", *rest, code=1).stderr


def test_a_link_that_leads_nowhere_is_not_meant_instead_of_itself(tmp_path: Path) -> None:
    """Its name is in the folder, but that was typed, and leads to nothing."""
    (tmp_path / "long.idx").symlink_to("long.idx")
    assert "did you mean" not in run("ls", tmp_path / "long.idx", code=1).stderr
    (tmp_path / "lung.idx").touch()
    stderr = run("ls", tmp_path / "long.idx", code=1).stderr
    assert stderr.endswith(f"; did you mean {tmp_path / 'lung.idx'}?\n")


def test_a_folder_below_an_index_names_the_folder_that_has_it(archive):
    """Beside the command that would create another index."""
    folder = archive / "a" / "b"
    folder.mkdir(parents=True)
    stderr = run("ls", folder, code=1).stderr
    assert f"name {archive}, whose index may have its files, or create one with `mm" in stderr


@pytest.mark.parametrize("command", [("info",), ("frame", 1), ("ranges", 1), ("sheet",)])
@pytest.mark.parametrize(("uid", "kind"), [(STUDY, "study"), (SERIES, "series")])
def test_the_uid_of_a_study_or_series_is_told_from_an_instance_s(archive, command, uid, kind):
    """It says what the UID is of, and the command that lists the instances."""
    name, *rest = command
    stderr = run(name, archive, *rest, "--instance", uid, code=1).stderr
    assert f"it is a {kind.title()} Instance UID" in stderr
    listing = f"mmindex ls {archive} --{kind} {uid}"
    assert f"`{listing}`" in stderr
    assert len(run(*listing.split()[1:]).stdout.splitlines()) == len(UIDS)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (UIDS[0][:-1], UIDS[:2]),  # cut short
        (UIDS[2][10:], UIDS[2:3]),  # its end
        (UIDS[2].replace("77", "78"), [UIDS[2]]),  # a wrong digit
        (UIDS[2].replace("3680043", "3608043"), [UIDS[2]]),  # two changed places
        (UIDS[2].replace("826", "86"), [UIDS[2]]),  # one is left out
        (UIDS[2] + "7", [UIDS[2]]),  # one is too many
    ],
)
def test_an_unknown_uid_is_answered_with_those_like_it(archive, asked, expected):
    """The one that was meant comes first; there are three at most."""
    with mmindex.open(archive) as index:
        found = near.find_near(index, asked)
    assert found[: len(expected)] == expected
    assert len(found) <= 3
    stderr = run("info", archive, "--instance", asked, code=1).stderr
    assert f"no SOP Instance UID '{asked}'; did you mean {' or '.join(found)}?" in stderr


@pytest.mark.parametrize(("uid", "kind"), [(STUDY, "study"), (SERIES, "series")])
def test_an_unknown_study_or_series_is_answered_with_those_like_it(archive, uid, kind):
    """One digit is wrong, and the one that was meant is named."""
    wrong = uid[:-1] + ("8" if uid[-1] != "8" else "9")
    done = run("ls", archive, f"--{kind}", wrong, code=1)
    assert done.stdout == ""
    said = f"{archive / '.mmindex'}: the index has no {kind.title()} Instance UID"
    assert done.stderr == f"mmindex: {said} '{wrong}'; did you mean {uid}?\n"
    far = run("ls", archive, f"--{kind}", "9.9.9", code=1).stderr
    assert far == f"mmindex: {said} '9.9.9'\n"


@pytest.mark.parametrize("uid", ["1.2.3", "1.2.8", "", "x" * 128, "\u20ac"])
def test_a_uid_like_none_is_answered_with_the_listing(archive, uid):
    """A piece that nearly every UID has is no hint."""
    stderr = run("info", archive, "--instance", uid, code=1).stderr
    assert stderr.endswith(f"; `mmindex ls {archive}` lists those it has\n")


def test_of_very_many_uids_only_the_first_are_looked_at(monkeypatch):
    """The search ends where it said it would, whether or not the archive does."""
    taken = 0

    def walk() -> Iterator[str]:
        nonlocal taken
        for number in count():
            taken += 1
            yield f"1.2.826.0.1.{number}"

    monkeypatch.setattr(near, "_MOST_LOOKED_AT", 1000)
    assert near.find_near(walk(), "1.2.826.0.1.9999")[0].startswith("1.2.826.0.1.999")
    assert taken == 1000


def test_few_uids_are_compared_by_difflib(monkeypatch):
    """However many there are, those that differ most are not."""
    compared = []

    def compare(uid: str, candidates: list[str], *limits: float) -> list[str]:
        compared.extend(candidates)
        return []

    monkeypatch.setattr("difflib.get_close_matches", compare)
    near.find_near(islice(map("1.2.826.{}.4".format, count()), 5000), "1.2.826.4000.5")
    assert len(compared) == 50
    assert "1.2.826.4000.4" in compared


def test_a_slip_at_the_beginning_of_a_uid_does_not_hide_the_one_that_was_meant():
    """Of thousands that begin alike, it is the one that ends alike."""
    known = [f"1.2.826.{number}.4" for number in range(5000)]
    assert near.find_near(known, "1.3.826.4321.4")[0] == "1.2.826.4321.4"


@pytest.mark.parametrize(
    ("option", "uid", "right"), [("--study", SERIES, "series"), ("--series", STUDY, "study")]
)
def test_ls_of_a_series_as_a_study_says_which_option_is_meant(archive, option, uid, right):
    """And the reverse."""
    result = run("ls", archive, option, uid, code=1)
    assert result.stdout == ""
    assert result.stderr.endswith(f"; {uid} is a {right}: use --{right}\n")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        *(("frames", "frame"), ("rangs", "ranges"), ("BUILD", "build"), ("lst", "ls")),
        *(("sheets", "sheet"), ("status", "stats"), ("compat", "compact")),
    ],
)
def test_a_mistyped_command_is_answered_with_those_like_it(typed, meant):
    """The command that was meant is named first."""
    stderr = run(typed, "x", code=2).stderr
    assert f"no such command: {typed}; did you mean {meant}" in stderr


def test_a_command_like_none_is_answered_with_all():
    """There are few enough of them."""
    stderr = run("zzz", code=2).stderr
    assert (
        "no such command: zzz; there are build, update, watch, ls, info, frame, sheet, ranges, "
        in stderr
    )


def test_an_option_before_the_command_is_told_as_an_option():
    """It is no mistyped command."""
    assert "No such option" in run("--nonsense", code=2).stderr


@pytest.mark.parametrize("command", ["check", "frame", "ls", "serve"])
def test_a_command_that_takes_an_index_as_its_archive_says_so(command):
    """`build` has --index; no other option is like it."""
    stderr = run(command, "/data/archive", "--index", "x", code=2).stderr
    assert "--index; name the index file in place of the archive" in stderr
    assert "Did you mean" not in stderr


@pytest.mark.parametrize("command", [("frame", 1), ("ranges", "1-"), ("sheet", "-o", "x.png")])
def test_a_file_whose_frames_are_all_lost_has_none_of_them(tmp_path, monkeypatch, command):
    """One line says where the pixel data ends, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    name, *rest = command
    path = tmp_path / "a.dcm"
    path.write_bytes(native_file(bytes(8), vr="OB", number_of_frames=2)[:-8])
    result = run(name, path, *rest, code=1)
    assert result.stdout == ""
    assert result.stderr.startswith(f"mmindex: {path}: frame 1 is missing: the pixel data ends")
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("frame", "a.dcm", 1, "--format", "pgn"),
            "did you mean png? There are raw, npy, png, jpg.",
        ),
        (("frame", "a.dcm", 1, "--format", "PNG"), "did you mean png?"),
        (("ls", "a", "--color", "alway"), "did you mean always? There are auto, always, never."),
        (("frame", "a.dcm", 1, "--format", "zzz"), "is not one of"),
        (("export", "a", "--format", "parquett"), "did you mean parquet?"),
        (("build", "a", "--log-format", "jsn"), "did you mean json?"),
        (("check", "a", "--fail-on", "stal"), "found stal: did you mean stale?"),
        (("check", "a", "--fail-on", "stale,zzz"), "missing,duplicate,anomaly,new, found zzz"),
        (("frame", "a.dcm", 1, "--window", "fil"), "found 'fil': did you mean file?"),
    ],
)
def test_a_mistyped_value_is_answered_with_the_one_like_it(arguments, said):
    """Where none is like it, all are named."""
    assert said in " ".join(run(*arguments, code=2).stderr.split())
