"""Accept headers and byte ranges, as RFC 9110, PS3.18 8.7 and clients have them."""

from __future__ import annotations

import re
import time

import pytest

from mmindex.serve.accept import (
    NotAcceptableError,
    UnsatisfiableRangeError,
    choose_frame,
    parse_accept,
    parse_range,
)

JPEG, LITTLE, BIG = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
IMPLICIT, RLE = "1.2.840.10008.1.2", "1.2.840.10008.1.2.5"
OCTETS, PART = "application/octet-stream", "multipart/related; type="
ANY_SYNTAX = f'{PART}"{OCTETS}"; transfer-syntax=*'


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        'multipart/related; type="*/*"',
        'multipart/related; type="image/jpeg"',
        "multipart/related; type=image/jpeg",
        "multipart/related;type=image/jpeg;transfer-syntax=1.2.840.10008.1.2.4.50",
        'multipart/related; type="application/octet-stream"; transfer-syntax=*',
        "multipart/related; type=application/octet-stream; transfer-syntax=*",
        'multipart/related; type="image/jls"; q=0.9, multipart/related; type="image/jpeg"; q=0.1',
        'multipart/related; type="image/dicom+jpeg"; transfer-syntax="1.2.840.10008.1.2.4.50"',
        "MULTIPART/RELATED; TYPE=IMAGE/JPEG",
    ],
)
def test_what_clients_send_for_a_jpeg_frame_gets_a_multipart_message(accept):
    """Quoted or not, in lists, by wild card or synonym: the stored frame is sent in a part."""
    choice = choose_frame(accept, JPEG, encapsulated=True)
    assert choice.multipart
    assert choice.content_type.endswith(b"; transfer-syntax=" + JPEG.encode())


@pytest.mark.parametrize("accept", ["image/jpeg", "image/*", "text/html, image/jpeg;q=0.5"])
def test_a_single_part_is_sent_to_whom_asks_for_the_image_type(accept):
    """`Accept: image/jpeg` gets the bare frame."""
    choice = choose_frame(accept, JPEG, encapsulated=True)
    assert (choice.multipart, choice.media_type) == (False, "image/jpeg")


@pytest.mark.parametrize(
    ("accept", "syntax", "encapsulated"),
    [
        ('multipart/related; type="image/jp2"', JPEG, True),
        ("multipart/related; type=application/octet-stream", JPEG, True),
        (f"multipart/related; type=application/octet-stream; transfer-syntax={LITTLE}", JPEG, True),
        ("multipart/related; type=application/octet-stream", BIG, False),
        ("image/jpeg", LITTLE, False),
        ("image/jpeg; q=0", JPEG, True),
        (";;;,,,", JPEG, True),
        ('multipart/related; type="', JPEG, True),
    ],
)
def test_what_is_not_stored_is_not_acceptable(accept, syntax, encapsulated):
    """A compressed frame is never sent as if it were Explicit VR Little Endian."""
    with pytest.raises(NotAcceptableError):
        choose_frame(accept, syntax, encapsulated=encapsulated)


@pytest.mark.parametrize("accept", ["text/html", "image/png", f"{OCTETS}; transfer-syntax=1.2.9"])
@pytest.mark.parametrize(
    ("syntax", "encapsulated", "named"),
    [
        (JPEG, True, {f'{PART}"image/jpeg"', ANY_SYNTAX}),
        (RLE, True, {f'{PART}"image/dicom-rle"', ANY_SYNTAX}),
        ("1.2.3.4", True, {ANY_SYNTAX}),
        ("no UID", True, {ANY_SYNTAX}),
        (LITTLE, True, {ANY_SYNTAX}),
        (BIG, True, {ANY_SYNTAX}),
        (LITTLE, False, {f'{PART}"{OCTETS}"', ANY_SYNTAX}),
        (IMPLICIT, False, {f'{PART}"{OCTETS}"', ANY_SYNTAX}),
        (BIG, False, {ANY_SYNTAX}),
    ],
)
def test_what_a_406_names_is_accepted(accept, syntax, encapsulated, named):
    """The remedies of the text are what the frames are sent for; it names no wrong syntax."""
    with pytest.raises(NotAcceptableError) as refused:
        choose_frame(accept, syntax, encapsulated=encapsulated)
    says, _, remedies = str(refused.value).partition(": accept ")
    assert set(remedies.split(" or ")) == named
    for one in remedies.split(" or "):
        choice = choose_frame(one, syntax, encapsulated=encapsulated)
        assert choice.multipart
        assert f'{PART}"{choice.media_type}"' in one
    true = {IMPLICIT: {LITTLE}, "no UID": set()}.get(syntax, {syntax})
    if encapsulated and syntax in (LITTLE, BIG):  # the file says wrongly that they are native
        true = set()
    assert set(re.findall(r"[0-9]+(?:\.[0-9]+){2,}", says)) == true


def test_the_best_quality_comes_first():
    """Media types are in the order of q, and those of q=0 are left out."""
    found = parse_accept("a/b;q=0.2, c/d, e/f;q=0, g/h;q=0.5")
    assert [one.media_type for one in found] == ["c/d", "g/h", "a/b"]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-9", (0, 10)),
        ("bytes=90-", (90, 100)),
        ("bytes=90-5000", (90, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=-1000", (0, 100)),
        ("bytes=9-3", None),
        ("bytes=0-1,5-6", None),
        ("bytes=-", None),
        ("items=0-1", None),
        ("", None),
        ("bytes=" + "9" * 400 + "-", None),
    ],
)
def test_byte_ranges(header, expected):
    """One range is served; what cannot be parsed is ignored (RFC 9110 14.2)."""
    assert parse_range(header, 100) == expected


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=-0", "bytes=9999999999999999999-"])
def test_a_range_after_the_end_is_unsatisfiable(header):
    """Such a range is status 416."""
    with pytest.raises(UnsatisfiableRangeError):
        parse_range(header, 100)


def test_long_headers_are_not_kept() -> None:
    """A client that sends ever other long Accept headers makes nothing grow."""
    from mmindex.serve import accept

    before = accept._parse.cache_info().currsize, accept._choose_frame.cache_info().currsize
    for number in range(50):
        header = ",".join(f"image/x{number}-{at}" for at in range(100)) + ",image/jpeg"
        assert len(parse_accept(header)) == 101
        syntax = "1.2.840.10008.1.2.4.50"
        assert choose_frame(header, syntax, encapsulated=True).media_type == "image/jpeg"
    after = accept._parse.cache_info().currsize, accept._choose_frame.cache_info().currsize
    assert after == before


@pytest.mark.parametrize(
    "piece", ['"', '\\"', '\\\\"', '"\\', '";', 'a/b;x="', '\\"\\\n', ",", ";", '"\\"']
)
def test_hostile_headers_are_parsed_in_linear_time(piece: str) -> None:
    """No arrangement of quotes and backslashes is tried again and again"""
    from mmindex.serve.accept import _SPLIT

    header = (piece * 8192)[:8192]
    began = time.process_time()
    for _ in range(5):
        for _ in _SPLIT.finditer(header):
            continue
    assert time.process_time() - began < 1
