"""`mmindex info`, held against what pydicom reads."""

from __future__ import annotations

import pydicom
from cli_runner import (
    describe,
    info_values,
    print_on_terminal,
    run,
)
from dicom_bytes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    HEVC,
    PIXEL_DATA,
    deflate,
    dicom_file,
    element,
    encapsulated_file,
    extended_offset_table,
    image_attributes,
)
from sample_archive import CINE, NAMES, VIDEO

from mmindex.scan.anomalies import ANOMALIES


def test_info_as_json_says_what_pydicom_reads(cine, cine_frames):
    """Attributes are the file's, lengths those of its frames."""
    dataset = pydicom.dcmread(cine)
    described = describe(cine)
    assert described["sop_instance_uid"] == dataset.SOPInstanceUID
    assert described["study_instance_uid"] == dataset.StudyInstanceUID
    assert described["transfer_syntax_uid"] == dataset.file_meta.TransferSyntaxUID
    assert described["modality"] == "US"
    assert described["number_of_frames"] == 30
    assert described["image_pixel"]["rows"] == dataset.Rows
    lengths = sorted(map(len, cine_frames))
    assert described["frame_length"] == {
        "min": lengths[0],
        "median": lengths[14],
        "max": lengths[29],
    }


def test_info_has_the_same_keys_for_every_instance(archive):
    """What an instance does not have is there, too, and null or empty."""
    keys = {frozenset(describe(archive / name)) for name in NAMES}
    assert len(keys) == 1


def test_info_prints_aligned_lines(archive):
    """Names and values stand in two columns."""
    lines = run("info", archive / CINE).stdout.splitlines()
    column = lines[0].index(str(archive))
    assert all(line[column - 2 : column] == "  " and line[column] != " " for line in lines)
    values = {line[:column].strip(): line[column:] for line in lines}
    assert values["Served from"] == f"the index {archive / '.mmindex'}"
    assert values["Frames"] == "30"
    assert values["Transfer syntax"] == "JPEG Baseline (Process 1) (1.2.840.10008.1.2.4.50)"
    assert values["Anomalies"] == "none"


def test_info_prints_anomalies_with_offset_and_count(tmp_path):
    """An anomaly is a line with its code, its first place in hex, and how often it was seen."""
    path = tmp_path / "odd.dcm"
    data = encapsulated_file([b"\xff\xd8a\xff\xd9"] * 2, 2)
    path.write_bytes(data)
    place = data.index(b"\xff\xd8") - 8
    assert f"odd-fragment-length @0x{place:x}, 2 times" in run("info", path).stdout
    assert describe(path)["anomalies"] == [
        {"code": "odd-fragment-length", "offset": place, "count": 2}
    ]


def test_info_of_an_instance_without_pixels_leaves_the_image_out(folder):
    """There is no line without a value."""
    printed = run("info", folder / "rtplan.dcm").stdout
    assert "no-pixel-data" in printed
    assert "Frame" not in printed


def test_info_of_a_video_tells_of_its_stream_not_of_frames(video):
    """A video is one bit stream: no frame of it is lost, and there are no boundaries."""
    values = info_values(video)
    described = describe(video)
    offset = video.read_bytes().index(VIDEO[0]) - 8
    length = len(b"".join(VIDEO))
    assert values["Video"] == (
        f"one bit stream of {length} bytes in 3 fragments from @0x{offset:x} on, "
        "with 30 frames by (0028,0008)"
    )
    assert not any(name.startswith("Frame") for name in values)
    assert described["number_of_frames"] == 30
    assert described["frames_located"] is None
    assert (described["boundaries"], described["layout"]) == ("none", "stream")
    assert (described["stream_length"], described["number_of_fragments"]) == (length, 3)


def test_info_of_a_video_does_not_say_what_its_file_may_not(tmp_path):
    """Without (0028,0008) there is no number of frames to be told."""
    path = tmp_path / "video.dcm"
    path.write_bytes(encapsulated_file([VIDEO[0]], None, HEVC))
    video = info_values(path)["Video"]
    assert "in 1 fragment from" in video
    assert video.endswith(" on")


def test_info_says_which_offsets_are_in_the_inflated_data_set(tmp_path):
    """Those of a deflated file's data set, not those of its File Meta Information."""
    path = tmp_path / "deflated.dcm"
    data_set = image_attributes(number_of_frames=2) + element(PIXEL_DATA, "OB", bytes(6))
    deflated = deflate(data_set)
    syntax = DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
    path.write_bytes(dicom_file(deflated + bytes(len(deflated) % 2), syntax, group_length=7))
    printed = run("info", path).stdout
    offset = len(data_set) - 6
    assert f"native, from @0x{offset:x} in the inflated data set on" in printed
    assert "1, the last" not in printed
    assert "2, the last of them lost with the end of the file" in printed
    (meta,) = (line for line in printed.splitlines() if "file-meta-group-length" in line)
    assert "inflated" not in meta
    others = [line for line in printed.splitlines() if line.startswith("Anomaly ") and line != meta]
    assert others
    assert all("in the inflated data set" in line for line in others)


def test_info_without_transfer_syntax_says_that_none_is_given(tmp_path):
    """An empty UID is not put into brackets."""
    path = tmp_path / "none.dcm"
    path.write_bytes(dicom_file(image_attributes() + element(PIXEL_DATA, "OB", bytes(4)), None))
    assert info_values(path)["Transfer syntax"] == "none given"
    assert describe(path)["transfer_syntax_name"] == ""


def test_info_of_a_trusted_table_does_not_say_what_nobody_looked_at(tmp_path):
    """Fragments are not counted and frames not measured where the table was taken as it is."""
    path = tmp_path / "trusted.dcm"
    frames = [bytes([0xFF, 0xD8, at, 0, 0xFF, 0xD9]) for at in range(40)]
    table = extended_offset_table([14 * at for at in range(40)], [6] * 40)
    path.write_bytes(encapsulated_file(frames, 40, before=table))
    run("build", tmp_path, "--workers", 1, "--no-prove")
    values, described = info_values(path), describe(path)
    assert described["layout"] == "trusted"
    assert values["Frame boundaries"].endswith("as some of its entries confirm")
    assert values["Layout"].startswith("fragments, not counted, from @0x")
    assert (described["number_of_fragments"], described["frame_length"]) == (None, None)


def test_sizes_on_a_terminal_are_for_people(archive, terminal):
    """A rounded size, and the exact one with its digits in groups."""
    size = (archive / CINE).stat().st_size
    lines = print_on_terminal(terminal, "info", archive / CINE)
    assert f"File size            {size / 1000:.1f} kB, {size:,} bytes" in lines
    assert f"{size} bytes" in run("info", archive / CINE).stdout


def test_info_explains_anomalies_in_the_lines_below_them(tmp_path, terminal):
    """What each means and what was done about it, within the terminal's width."""
    path = tmp_path / "odd.dcm"
    path.write_bytes(encapsulated_file([b"\xff\xd8a\xff\xd9"] * 2, 2))
    known = ANOMALIES["odd-fragment-length"]
    lines = print_on_terminal(terminal, "info", path)
    at = next(i for i, line in enumerate(lines) if line.startswith("Anomaly "))
    assert " ".join(" ".join(lines[at + 1 :]).split()) == f"{known.meaning} {known.done}"
    assert max(map(len, lines[at:])) <= 80
    assert run("info", path).stdout.splitlines()[-1].strip() == f"{known.meaning} {known.done}"
