"""Data sets that break the rules of structure: what is served, and what must raise."""

from __future__ import annotations

import contextlib
import io
import struct
from itertools import product

import pytest
from dicom_bytes import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    ITEM_DELIMITER,
    PIXEL_DATA,
    SEQUENCE_DELIMITER,
    UNDEFINED,
    dicom_file,
    element,
    image_attributes,
    item,
    pack_tag,
    sequence,
)
from outcomes import open_proved

import mmindex
from mmindex.errors import FormatError

PIXELS = b"abcd"
FORMS = [(EXPLICIT_VR_LITTLE_ENDIAN, "<", False), (IMPLICIT_VR_LITTLE_ENDIAN, "<", True)]
ALL_FORMS = [*FORMS, (EXPLICIT_VR_BIG_ENDIAN, ">", False)]
SEQUENCE = 0x00291010


def image(form: tuple[str, str, bool], *between: bytes, pixel_data: bytes | None = None) -> bytes:
    """Return an image with elements between its attributes and its pixel data."""
    uid, order, implicit = form
    if pixel_data is None:
        pixel_data = element(PIXEL_DATA, "OB", PIXELS, order=order, implicit=implicit)
    attributes = image_attributes(order=order, implicit=implicit)
    return dicom_file(attributes + b"".join(between) + pixel_data, uid)


def frames_and_anomalies(data: bytes) -> tuple[list[bytes], dict[str, int]]:
    """Return the frames, and how often each anomaly was seen."""
    with open_proved(io.BytesIO(data)) as instance:
        return list(instance), {each.code: each.count for each in instance.record.anomalies}


def content(order: str, implicit: bool) -> bytes:
    """Return two elements in tag order."""
    first = element(0x00321060, "LO", "text", order=order, implicit=implicit)
    return first + element(0x00400275, "UT", "long", order=order, implicit=implicit)


@pytest.mark.parametrize(
    ("form", "vr", "undefined"), list(product(ALL_FORMS, ["SQ", "UN"], [False, True]))
)
def test_R43_items_in_the_other_form_are_read_as_it(form, vr, undefined):
    """Each item of a sequence of undefined length is looked at, whatever is around it."""
    _, order, implicit = form
    declared_implicit = implicit or vr == "UN"
    inner_order = "<" if vr == "UN" else order
    inside = content(inner_order, not declared_implicit)
    items = [item(inside, order=inner_order, undefined=undefined)] * 3
    value = b"".join(items) + pack_tag(0xFFFEE0DD, inner_order) + bytes(4)
    mixed = element(SEQUENCE, vr, value, order=order, implicit=implicit, length=UNDEFINED)
    frames, anomalies = frames_and_anomalies(image(form, mixed))
    assert frames == [PIXELS]
    assert anomalies == ({"vr-mismatch": 3} if undefined else {})


def test_R43_an_unknown_element_in_the_byte_order_around_it_is_read():
    """The items of a UN in a Big Endian data set may be in Big Endian, too."""
    form = ALL_FORMS[2]
    inside = item(content(">", False), order=">", undefined=True)
    value = inside + pack_tag(0xFFFEE0DD, ">") + bytes(4)
    unknown = element(SEQUENCE, "UN", value, order=">", length=UNDEFINED)
    frames, anomalies = frames_and_anomalies(image(form, unknown))
    assert (frames, anomalies) == ([PIXELS], {"vr-mismatch": 1})


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("count", [1, 2])
def test_R43_elements_without_a_vr_at_the_top_level_are_read(order, count):
    """An element that lacks its VR has a 4-byte length, where that leads to the next element."""
    form = ALL_FORMS[0] if order == "<" else ALL_FORMS[2]
    lacking = [
        element(SEQUENCE + number, "LO", b"abcd1234", order=order, implicit=True)
        for number in range(count)
    ]
    frames, anomalies = frames_and_anomalies(image(form, *lacking))
    assert (frames, anomalies) == ([PIXELS], {"vr-mismatch": count})


@pytest.mark.parametrize("blank", [b"  ", b"\0\0"])
def test_R43_a_blank_vr_with_a_2_byte_length_is_read(blank):
    """Blanks or zeros for a VR keep the short header."""
    lacking = pack_tag(SEQUENCE) + blank + struct.pack("<H", 8) + b"abcd1234"
    frames, anomalies = frames_and_anomalies(image(FORMS[0], lacking))
    assert (frames, anomalies) == ([PIXELS], {"vr-mismatch": 1})


def test_R43_implicit_pixel_data_whose_length_spells_a_vr_is_read():
    """21316 bytes are 44 53 in Implicit VR, which is DS: the length that fits decides."""
    pixels = bytes(range(251)) * 85
    pixels = pixels[:0x5344]
    attributes = image_attributes(rows=146, columns=146)
    lacking = element(0x00291010, "LO", "text", implicit=True)
    data = dicom_file(attributes + lacking + element(PIXEL_DATA, "OB", pixels, implicit=True))
    frames, anomalies = frames_and_anomalies(data)
    assert (frames, anomalies) == ([pixels], {"vr-mismatch": 2})


def test_R43_an_explicit_element_in_an_implicit_data_set_is_read():
    """The reverse: VR letters that would be a length beyond the end."""
    explicit = element(SEQUENCE, "LO", "text")
    frames, anomalies = frames_and_anomalies(image(FORMS[1], explicit))
    assert (frames, anomalies) == ([PIXELS], {"vr-mismatch": 1})


@pytest.mark.parametrize("length", [5, 100_000, 0xFFFFFFFE])
def test_R43_a_length_that_leads_nowhere_in_either_form_is_refused(length):
    """Neither form fits: the error names the element and the bytes in place of its VR."""
    lacking = element(SEQUENCE, "LO", b"abcd1234", implicit=True, length=length)
    with pytest.raises(FormatError, match=r"value representation in \(0029,1010\)"):
        mmindex.scan(image(FORMS[0], lacking))


def test_R43_a_mixed_item_never_leads_out_of_its_parent():
    """An element that would end behind its sequence is no element in that form."""
    inside = element(0x00321060, "LO", b"abcd", implicit=True, length=40)
    mixed = sequence(SEQUENCE, [item(inside, undefined=True)], undefined=True)
    with pytest.raises(FormatError, match="0x"):
        mmindex.scan(image(FORMS[0], mixed))


@pytest.mark.parametrize("form", ALL_FORMS)
@pytest.mark.parametrize("element_number", [0xE00D, 0xE0DD])
@pytest.mark.parametrize("sequence_first", [False, True])
def test_R44_a_stray_delimiter_at_the_top_level_is_stepped_over(
    form, element_number, sequence_first
):
    """A delimiter behind a sequence of defined length, or alone, ends nothing."""
    _, order, implicit = form
    before = sequence(
        SEQUENCE, [item(content(order, implicit), order=order)], order=order, implicit=implicit
    )
    stray = struct.pack(f"{order}HHI", 0xFFFE, element_number, 0)
    frames, anomalies = frames_and_anomalies(image(form, before * sequence_first, stray))
    assert (frames, anomalies) == ([PIXELS], {"stray-item": 1})


@pytest.mark.parametrize("form", ALL_FORMS)
@pytest.mark.parametrize("undefined", [False, True])
def test_R44_an_item_at_the_top_level_is_stepped_over_and_replaces_nothing(form, undefined):
    """What is in a stray item is not the image's, even where the image lacks it."""
    _, order, implicit = form
    inside = element(0x00200013, "IS", "9", order=order, implicit=implicit)
    inside += image_attributes(rows=9, columns=9, order=order, implicit=implicit)
    data = image(form, item(inside, order=order, undefined=undefined))
    frames, anomalies = frames_and_anomalies(data)
    assert (frames, anomalies) == ([PIXELS], {"stray-item": 1})
    assert mmindex.scan(data).image_numbers.instance_number is None


def test_R44_an_item_whose_length_leads_nowhere_is_stepped_over_by_its_header():
    """The header alone is skipped where an element follows it, and none its value."""
    header = pack_tag(0xFFFEE000) + struct.pack("<I", 7)
    frames, anomalies = frames_and_anomalies(image(FORMS[0], header, content("<", False)))
    assert (frames, anomalies) == ([PIXELS], {"stray-item": 1})


def test_R44_an_item_that_no_element_follows_is_refused():
    """Neither the item's length nor its header leads to an element."""
    data = image(FORMS[0], pack_tag(0xFFFEE000) + struct.pack("<I", 7) + b"\1\2\3" * 20)
    with pytest.raises(FormatError, match="found an item of 7 bytes"):
        mmindex.scan(data)


def test_R44_the_first_value_of_a_wanted_tag_counts():
    """An element that comes again replaces nothing."""
    data = image(FORMS[0], element(0x00280010, "US", 9))
    assert mmindex.scan(data).image_pixel.rows == 2


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("undefined", [False, True])
def test_R44_3F3F_for_FFFE_is_read_as_it(implicit, undefined):
    """A file that went through a text conversion has a question mark for each byte over 7F."""
    good = sequence(
        SEQUENCE,
        [item(content("<", implicit), undefined=undefined)],
        implicit=implicit,
        undefined=True,
    )
    damaged = good.replace(b"\xfe\xff\0\xe0", b"??\0?").replace(b"\xfe\xff\x0d\xe0", b"??\x0d?")
    damaged = damaged.replace(b"\xfe\xff\xdd\xe0", b"????")
    frames, anomalies = frames_and_anomalies(image(FORMS[implicit], damaged))
    assert frames == [PIXELS]
    assert set(anomalies) == {"stray-item"}


def test_R44_an_item_delimiter_that_ends_a_sequence_ends_it():
    """An element behind the delimiter belongs to the level of the sequence."""
    inside = item(content("<", False), undefined=True)
    ended = element(SEQUENCE, "SQ", inside + ITEM_DELIMITER, length=UNDEFINED)
    frames, anomalies = frames_and_anomalies(image(FORMS[0], ended))
    assert (frames, anomalies) == ([PIXELS], {"stray-item": 1})


def test_R44_a_sequence_delimiter_in_an_item_that_may_end_it_or_not_is_refused():
    """Where an element of either level may follow, nothing is guessed."""
    inside = item()[:4] + b"\xff" * 4 + content("<", False) + SEQUENCE_DELIMITER
    open_item = element(SEQUENCE, "SQ", inside, length=UNDEFINED)
    with pytest.raises(FormatError, match="found a sequence's end"):
        mmindex.scan(image(FORMS[0], open_item))


def test_R44_the_error_says_what_stands_where_an_element_is_expected():
    """The words are a reader's, not a tag's."""
    inside = item(item(), undefined=True)
    broken = element(SEQUENCE, "SQ", inside + SEQUENCE_DELIMITER, length=UNDEFINED)
    with pytest.raises(FormatError, match=r"expected an element or the item's end.*found an item"):
        mmindex.scan(image(FORMS[0], broken))


@pytest.mark.parametrize("form", ALL_FORMS)
@pytest.mark.parametrize("wrong_by", [-6, -2, -1, 1, 2, 5])
@pytest.mark.parametrize("item_too", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_R50_a_sequence_of_a_wrong_length_ends_where_its_elements_end(
    form, wrong_by, item_too, nested
):
    """The elements inside, walked one by one, lead to the next element; the length does not."""
    _, order, implicit = form
    k = {"order": order, "implicit": implicit}
    inside = element(0x00080050, "SH", "ACC1", **k) + element(0x00091010, "LO", "text more", **k)
    items = item(inside, order=order)
    if item_too:
        header = items[:4] + struct.pack(f"{order}I", len(inside) + wrong_by)
        items = header + inside
    broken = element(SEQUENCE, "SQ", items, length=len(items) + wrong_by, **k)
    between = broken + element(0x00321060, "LO", "long" * 8 if item_too else "text", **k)
    if nested:
        between = sequence(
            0x00291001, [item(between, order=order, undefined=True)], undefined=True, **k
        )
    frames, anomalies = frames_and_anomalies(image(form, between))
    assert (frames, anomalies) == ([PIXELS], {"sequence-length": 1})


@pytest.mark.parametrize("following", [0x00321060, 0x00400010])
def test_R50_a_sequence_that_may_end_in_two_places_is_refused(following):
    """Item and sequence are wrong, and a short element may be the last inside or the next."""
    inside = element(0x00080050, "SH", "ACC1") + element(0x00091010, "LO", "text more")
    items = pack_tag(0xFFFEE000) + struct.pack("<I", len(inside) + 3) + inside
    broken = element(SEQUENCE, "SQ", items, length=len(items) + 3)
    with pytest.raises(FormatError, match=r"sequence \(0029,1010\).* show several ends"):
        mmindex.scan(image(FORMS[0], broken, element(following, "LO", "text")))


@pytest.mark.parametrize("vr", ["SQ", "UN"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("wrong_by", [-4, -2, 2, 4, 6, 8])
def test_R50_a_length_into_the_header_of_the_pixel_data_loses_no_pixel_data(order, vr, wrong_by):
    """Four bytes on, OB and the length of the value look like a header in Implicit VR."""
    form = (EXPLICIT_VR_BIG_ENDIAN if order == ">" else EXPLICIT_VR_LITTLE_ENDIAN, order, False)
    items = item(element(0x00080100, "SH", "ABCD", order=order), order=order) * 2
    broken = element(SEQUENCE, vr, items, order=order, length=len(items) + wrong_by)
    with open_proved(image(form, broken)) as instance:
        assert instance.frame(0) == PIXELS
        assert "sequence-length" in [anomaly.code for anomaly in instance.record.anomalies]


@pytest.mark.parametrize("form", ALL_FORMS)
def test_R50_a_sequence_that_shows_no_end_is_named(form):
    """Where the elements inside lead to no element, the error is the sequence's own."""
    _, order, implicit = form
    value = item(b"\1\2\3\4\5\6\7\x08" * 6, order=order)
    broken = element(SEQUENCE, "SQ", value, order=order, implicit=implicit, length=len(value) - 3)
    with pytest.raises(FormatError, match=r"sequence \(0029,1010\) has a wrong length"):
        mmindex.scan(image(form, broken))


@pytest.mark.parametrize("zeros", [8, 100, 1 << 16, (1 << 16) + 1, 1 << 20])
@pytest.mark.parametrize("form", FORMS)
def test_R54_zeros_end_a_data_set_after_64_KiB_of_them(form, zeros):
    """More zeros are not looked at, which is noted."""
    uid, _, implicit = form
    head = element(0x00080060, "CS", "SR", implicit=implicit)
    record = mmindex.scan(dicom_file(head + bytes(zeros), uid))
    codes = [anomaly.code for anomaly in record.anomalies]
    assert codes == (["zeros-after-data-set"] if zeros > 1 << 16 else [])
    with pytest.raises(FormatError, match="0x"):
        mmindex.scan(dicom_file(head + bytes(min(zeros, 1 << 15)) + b"\1" * 16, uid))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("in_item", [False, True])
def test_R54_zeros_inside_a_sequence_are_refused_at_once(form, in_item):
    """Zeros are neither an item nor an element of one."""
    uid, _, implicit = form
    start = pack_tag(0xFFFEE000) + b"\xff" * 4 if in_item else b""
    opened = element(SEQUENCE, "SQ", start, implicit=implicit, length=UNDEFINED)
    with pytest.raises(FormatError, match=r"\(0029,1010\), found zeros"):
        mmindex.scan(dicom_file(opened + bytes(1 << 20), uid))


@pytest.mark.parametrize(
    "data",
    [
        ITEM_DELIMITER * 600_000,
        item() * 600_000,
        (item(undefined=True)[:8]) * 600_000,
        b"".join(
            element(0x00090000 + at, "LO", "ab", implicit=True) + ITEM_DELIMITER
            for at in range(200_000)
        ),
    ],
    ids=["delimiters", "items", "open items", "mixed"],
)
def test_R43_R44_a_file_of_faults_alone_ends(data):
    """The number of places where a walk looks twice is bounded."""
    head = element(0x00080060, "CS", "SR")
    with contextlib.suppress(FormatError):
        mmindex.scan(dicom_file(head + data))
