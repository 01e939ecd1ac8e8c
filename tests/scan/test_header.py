"""Values of a header: Number of Frames, however it is written, and the numbers of an image."""

from __future__ import annotations

import struct

import pytest
from dicom_bytes import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    PIXEL_DATA,
    dicom_file,
    element,
    image_attributes,
)

import mmindex
from mmindex.errors import FormatError
from mmindex.image_numbers import ImageNumbers
from mmindex.scan.header import scan_header

FORMS = {
    EXPLICIT_VR_LITTLE_ENDIAN: ("<", False),
    IMPLICIT_VR_LITTLE_ENDIAN: ("<", True),
    EXPLICIT_VR_BIG_ENDIAN: (">", False),
}


def number_of_frames(value: bytes, vr: str = "IS", uid: str = EXPLICIT_VR_LITTLE_ENDIAN):
    order, implicit = FORMS[uid]
    head = element(0x00080060, "CS", "CT", order=order, implicit=implicit)
    frames = element(0x00280008, vr, value, order=order, implicit=implicit)
    return scan_header(dicom_file(head + frames, uid)).number_of_frames()


@pytest.mark.parametrize("uid", FORMS)
@pytest.mark.parametrize("text", [b"12", b"12 ", b" 12", b"12\0\0", b"+12 ", b"0012"])
def test_R46_an_integer_string_is_clean(uid, text):
    """Blanks and NUL are padding."""
    assert number_of_frames(text, uid=uid) == (12, True)


@pytest.mark.parametrize("uid", FORMS)
@pytest.mark.parametrize(
    "text", [b"12\n", b"\t12", b"12\r\n", b"12.0", b"12. ", b"12\\12", b"12\\3 "]
)
def test_R46_unclean_text_is_a_candidate(uid, text):
    """The number is there, and wants confirmation."""
    assert number_of_frames(text, uid=uid) == (12, False)


@pytest.mark.parametrize("order_uid", [EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN])
@pytest.mark.parametrize(
    ("vr", "layout"),
    [("US", "H"), ("SS", "h"), ("UL", "I"), ("SL", "i"), ("UV", "Q"), ("SV", "q"), ("FD", "d")],
)
def test_R46_a_binary_number_is_a_candidate(order_uid, vr, layout):
    """In the byte order of the data set."""
    order, _ = FORMS[order_uid]
    assert number_of_frames(struct.pack(order + layout, 12), vr, order_uid) == (12, False)


@pytest.mark.parametrize("vr", ["", "UN"])
@pytest.mark.parametrize("value", [b"\x0c\0", b"\x0c\0\0\0"])
def test_R46_a_binary_number_of_no_known_vr_is_a_candidate(vr, value):
    """Implicit VR and UN do not say what a value is; its bytes are no digits."""
    uid = EXPLICIT_VR_LITTLE_ENDIAN if vr else IMPLICIT_VR_LITTLE_ENDIAN
    assert number_of_frames(value, vr or "IS", uid) == (12, False)


@pytest.mark.parametrize(
    ("value", "vr"),
    [
        *(
            (text, "IS")
            for text in (b"", b"0 ", b"-2", b"2.5 ", b"many", b"1e3 ", b"2 3 ", b"1" * 300)
        ),
        *((struct.pack("<h", number), "SS") for number in (0, -1)),
        *((struct.pack("<d", number), "FD") for number in (0.5, float("nan"), float("inf"), 1e300)),
        (b"\1", "UL"),
    ],
)
def test_R46_what_is_no_number_is_none(value, vr):
    """Nothing is guessed from other text."""
    assert number_of_frames(value, vr) == (None, False)


def test_R46_an_absent_number_of_frames_is_clean():
    """Absence is no damage."""
    data = dicom_file(element(0x00080060, "CS", "CT"))
    assert scan_header(data).number_of_frames() == (None, True)


def test_texts_lose_tabs_and_line_ends():
    """A UID that a tool wrote with a line end is that UID."""
    record = mmindex.scan(dicom_file(element(0x00080018, "UI", b"1.2.3\r\n\0")))
    assert record.sop_instance_uid == "1.2.3"


NUMBERS = (
    (0x00181063, "DS", b"33.3"),
    (0x00200013, "IS", b" 7"),
    (0x00200032, "DS", b"-1.5\\2e1\\3 "),
    (0x00200037, "DS", b"1\\0\\0\\0\\1\\0 "),
    (0x00209161, "UI", b"1.2.9\0"),
    (0x00209162, "US", 3),
    (0x00209228, "UL", 70_000),
    (0x00209311, "CS", b"TILED_FULL"),
    (0x00280030, "DS", b"0.5\\0.25"),
    (0x00281050, "DS", b"40\\300"),
    (0x00281051, "DS", b"400\\1500"),
    (0x00281052, "DS", b"-1024 "),
    (0x00281053, "DS", b"1 "),
    (0x00480006, "UL", 90_000),
    (0x00480007, "UL", 80_000),
)


@pytest.mark.parametrize("uid", FORMS)
def test_the_numbers_of_an_image_are_read_in_every_encoding(uid):
    """The first value of the window, all of position, orientation and spacing."""
    order, implicit = FORMS[uid]
    layouts = {"US": order + "H", "UL": order + "I"}
    data = element(0x00080060, "CS", "CT", order=order, implicit=implicit) + b"".join(
        element(
            tag,
            vr,
            struct.pack(layouts[vr], value) if vr in layouts else value,
            order=order,
            implicit=implicit,
        )
        for tag, vr, value in NUMBERS
    )
    numbers = mmindex.scan(dicom_file(data, uid)).image_numbers
    assert numbers == ImageNumbers(
        instance_number=7,
        rescale_slope=1.0,
        rescale_intercept=-1024.0,
        window_center=40.0,
        window_width=400.0,
        pixel_spacing=(0.5, 0.25),
        image_position_patient=(-1.5, 20.0, 3.0),
        image_orientation_patient=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        total_pixel_matrix_columns=90_000,
        total_pixel_matrix_rows=80_000,
        dimension_organization_type="TILED_FULL",
        concatenation_uid="1.2.9",
        concatenation_frame_offset_number=70_000,
        in_concatenation_number=3,
        frame_time=33.3,
    )
    assert numbers.slice_position == 3.0


@pytest.mark.parametrize(
    "value",
    [b"", b"text", b"1\\2", b"1\\2\\x ", b"nan\\1\\2", b"1e999\\1\\2", b"1\\2\\3\\4 ", b"1" * 5000],
)
def test_a_position_that_is_no_three_numbers_is_none(value):
    """No number is made of what is none, nor of a value that is too long."""
    data = dicom_file(element(0x00200032, "UN", value))
    numbers = mmindex.scan(data).image_numbers
    assert numbers.image_position_patient is None
    assert numbers.slice_position is None


@pytest.mark.parametrize("value", [b"1.5 ", b"x ", b"", b"1e30"])
def test_an_instance_number_that_is_no_integer_is_none(value):
    """Such as text, or a number beyond 64 bits."""
    data = dicom_file(element(0x00200013, "IS", value))
    assert mmindex.scan(data).image_numbers == ImageNumbers()


def test_a_slice_position_is_along_the_normal():
    """A sagittal slice: rows along y, columns along -z, so that the normal is -x."""
    numbers = ImageNumbers(
        image_position_patient=(12.0, 5.0, 7.0),
        image_orientation_patient=(0.0, 1.0, 0.0, 0.0, 0.0, -1.0),
    )
    assert numbers.slice_position == -12.0


@pytest.mark.parametrize(
    ("tag", "keyword"),
    [(0x00280010, "Rows"), (0x00280011, "Columns"), (0x00280100, "Bits Allocated")],
    ids=["Rows", "Columns", "Bits Allocated"],
)
def test_R36_an_attribute_in_text_is_a_format_error_that_names_it(tag: int, keyword: str) -> None:
    """Rows that are an Integer String are not taken for the number of their characters' codes."""
    numbers = {0x00280002: 1, 0x00280010: 2, 0x00280011: 2, 0x00280100: 8}
    data_set = b"".join(
        element(key, "IS", str(value)) if key == tag else element(key, "US", value)
        for key, value in numbers.items()
    )
    with pytest.raises(FormatError, match=f"{keyword} is absent or no number"):
        mmindex.scan(dicom_file(data_set + element(PIXEL_DATA, "OB", bytes(8192))))


@pytest.mark.parametrize("with_meta", [True, False])
def test_R5_the_record_says_the_byte_order_that_was_found(with_meta: bool) -> None:
    """Big Endian is what the data set is, not what its transfer syntax is called."""
    big = element(0x00080018, "UI", "1.2.3", order=">") + image_attributes(order=">")
    big += element(PIXEL_DATA, "OB", bytes(4), order=">")
    record = mmindex.scan(dicom_file(big, None) if with_meta else big, force=not with_meta)
    assert record.big_endian
    implicit = element(0x00080018, "UI", "1.2.3", implicit=True) + image_attributes(implicit=True)
    implicit += element(PIXEL_DATA, "OB", bytes(4), implicit=True)
    assert not mmindex.scan(dicom_file(implicit, EXPLICIT_VR_BIG_ENDIAN)).big_endian
