"""Transfer syntaxes: how the data set is encoded and what its fragments may mean.

The list is that of PS3.6 Annex A, retired ones included. A UID that is not in it is
read as Explicit VR Little Endian, and its pixel data by the shape of the element.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

# An RLE header: the number of segments, and where the first one begins (PS3.5 G.5)
_RLE_HEADERS = tuple(bytes((segments, 0, 0, 0, 64, 0, 0, 0)) for segments in range(1, 16))
_START_CODES = (b"\0\0\1", b"\0\0\0\1")


class Codec(Enum):
    """The kind of a frame's bytes, as far as frame boundaries depend on it: a row each.

    Attributes
    ----------
    start_markers : tuple of bytes
        A frame begins with one of these; none where a codec has no such marker.
    end_marker : bytes
        A frame ends with this, but for padding; empty where a codec has no such marker.
    extension : str
        File extension of a frame as it is stored.
    one_fragment : bool
        Whether the standard allows a frame no second fragment (PS3.5 A.4.2, A.4.11).
    """

    NATIVE = "native"
    JPEG = "JPEG", (b"\xff\xd8",), b"\xff\xd9", "jpg"
    JPEG_LS = "JPEG-LS", (b"\xff\xd8",), b"\xff\xd9", "jls"
    JPEG_2000 = "JPEG 2000", (b"\xff\x4f", b"\0\0\0\x0cjP  \r\n\x87\n"), b"\xff\xd9", "j2k"
    JPEG_XL = "JPEG XL", (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"), b"", "jxl"
    RLE = "RLE", _RLE_HEADERS, b"", "rle", True
    ONE_FRAGMENT = "one fragment a frame", (), b"", "raw", True  # uncompressed, deflated: A.4.11
    VIDEO = "video"
    NO_PIXEL_DATA = "no pixel data"  # the pixels are elsewhere: JPIP, SMPTE ST 2110
    UNKNOWN = "unknown"

    start_markers: tuple[bytes, ...]
    end_marker: bytes
    extension: str
    one_fragment: bool

    def __new__(
        cls,
        name: str,
        start_markers: tuple[bytes, ...] = (),
        end_marker: bytes = b"",
        extension: str = "raw",
        one_fragment: bool = False,
    ) -> Codec:
        """Return a row, whose value is the name."""
        codec = object.__new__(cls)
        codec._value_ = name
        codec.start_markers = start_markers
        codec.end_marker = end_marker
        codec.extension = extension
        codec.one_fragment = one_fragment
        return codec

    def begins(self, head: bytes) -> bool:
        """Return whether bytes begin like a frame, or like a video stream.

        A stream begins with a start code (ISO/IEC 13818-2 6.2, 14496-10 Annex B), a transport
        stream's packets (13818-1 2.4.3), or the first box of an ISO media file (14496-12 4.3).
        """
        if self is not Codec.VIDEO:
            return head.startswith(self.start_markers)
        is_transport = head[:1] == head[188:189] == b"\x47"
        return head.startswith(_START_CODES) or head[4:8] == b"ftyp" or is_transport


_FRAME_EXTENSIONS = {"1.2.840.10008.1.2.8.1": "deflate"}
_STREAM_EXTENSIONS = {"MPEG2": "m2v", "H.264": "h264", "H.265": "h265"}  # by what names have


class TransferSyntax(NamedTuple):
    """One transfer syntax, as PS3.6 Annex A names it."""

    uid: str
    name: str
    codec: Codec = Codec.NATIVE
    implicit: bool = False
    big_endian: bool = False
    deflated: bool = False

    @property
    def encapsulated(self) -> bool:
        """Whether the standard has pixel data in fragments here."""
        return self.codec not in (Codec.NATIVE, Codec.NO_PIXEL_DATA, Codec.UNKNOWN)

    @property
    def extension(self) -> str:
        """File extension of a frame as it is stored, or of a video's stream; "raw" without one."""
        if self.codec is Codec.VIDEO:
            return next(end for name, end in _STREAM_EXTENSIONS.items() if name in self.name)
        return _FRAME_EXTENSIONS.get(self.uid, self.codec.extension)


IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"
RLE_LOSSLESS = "1.2.840.10008.1.2.5"

_NAMES = {  # by codec; a UID that begins with a dot goes on from Implicit VR Little Endian's
    Codec.NATIVE: {
        "": "Implicit VR Little Endian",
        ".1": "Explicit VR Little Endian",
        ".1.99": "Deflated Explicit VR Little Endian",
        ".2": "Explicit VR Big Endian",
        ".6.1": "RFC 2557 MIME encapsulation",
        ".6.2": "XML Encoding",
        "1.2.840.10008.1.20": "Papyrus 3 Implicit VR Little Endian",
    },
    Codec.ONE_FRAGMENT: {
        ".1.98": "Encapsulated Uncompressed Explicit VR Little Endian",
        ".8.1": "Deflated Image Frame Compression",
    },
    Codec.RLE: {".5": "RLE Lossless"},
    Codec.JPEG: {
        ".4.50": "JPEG Baseline (Process 1)",
        ".4.51": "JPEG Extended (Process 2 & 4)",
        ".4.52": "JPEG Extended (Process 3 & 5)",
        ".4.53": "JPEG Spectral Selection, Non-Hierarchical (Process 6 & 8)",
        ".4.54": "JPEG Spectral Selection, Non-Hierarchical (Process 7 & 9)",
        ".4.55": "JPEG Full Progression, Non-Hierarchical (Process 10 & 12)",
        ".4.56": "JPEG Full Progression, Non-Hierarchical (Process 11 & 13)",
        ".4.57": "JPEG Lossless, Non-Hierarchical (Process 14)",
        ".4.58": "JPEG Lossless, Non-Hierarchical (Process 15)",
        ".4.59": "JPEG Extended, Hierarchical (Process 16 & 18)",
        ".4.60": "JPEG Extended, Hierarchical (Process 17 & 19)",
        ".4.61": "JPEG Spectral Selection, Hierarchical (Process 20 & 22)",
        ".4.62": "JPEG Spectral Selection, Hierarchical (Process 21 & 23)",
        ".4.63": "JPEG Full Progression, Hierarchical (Process 24 & 26)",
        ".4.64": "JPEG Full Progression, Hierarchical (Process 25 & 27)",
        ".4.65": "JPEG Lossless, Hierarchical (Process 28)",
        ".4.66": "JPEG Lossless, Hierarchical (Process 29)",
        ".4.70": "JPEG Lossless, Non-Hierarchical, First-Order Prediction "
        "(Process 14 [Selection Value 1])",
    },
    Codec.JPEG_LS: {
        ".4.80": "JPEG-LS Lossless Image Compression",
        ".4.81": "JPEG-LS Lossy (Near-Lossless) Image Compression",
    },
    Codec.JPEG_2000: {
        ".4.90": "JPEG 2000 Image Compression (Lossless Only)",
        ".4.91": "JPEG 2000 Image Compression",
        ".4.92": "JPEG 2000 Part 2 Multi-component Image Compression (Lossless Only)",
        ".4.93": "JPEG 2000 Part 2 Multi-component Image Compression",
        ".4.201": "High-Throughput JPEG 2000 Image Compression (Lossless Only)",
        ".4.202": "High-Throughput JPEG 2000 with RPCL Options Image Compression (Lossless Only)",
        ".4.203": "High-Throughput JPEG 2000 Image Compression",
    },
    Codec.JPEG_XL: {
        ".4.110": "JPEG XL Lossless",
        ".4.111": "JPEG XL JPEG Recompression",
        ".4.112": "JPEG XL",
    },
    Codec.VIDEO: {
        ".4.100": "MPEG2 Main Profile / Main Level",
        ".4.100.1": "Fragmentable MPEG2 Main Profile / Main Level",
        ".4.101": "MPEG2 Main Profile / High Level",
        ".4.101.1": "Fragmentable MPEG2 Main Profile / High Level",
        ".4.102": "MPEG-4 AVC/H.264 High Profile / Level 4.1",
        ".4.102.1": "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.1",
        ".4.103": "MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1",
        ".4.103.1": "Fragmentable MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1",
        ".4.104": "MPEG-4 AVC/H.264 High Profile / Level 4.2 For 2D Video",
        ".4.104.1": "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 For 2D Video",
        ".4.105": "MPEG-4 AVC/H.264 High Profile / Level 4.2 For 3D Video",
        ".4.105.1": "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 For 3D Video",
        ".4.106": "MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2",
        ".4.106.1": "Fragmentable MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2",
        ".4.107": "HEVC/H.265 Main Profile / Level 5.1",
        ".4.108": "HEVC/H.265 Main 10 Profile / Level 5.1",
    },
    Codec.NO_PIXEL_DATA: {
        ".4.94": "JPIP Referenced",
        ".4.95": "JPIP Referenced Deflate",
        ".4.204": "JPIP HTJ2K Referenced",
        ".4.205": "JPIP HTJ2K Referenced Deflate",
        ".7.1": "SMPTE ST 2110-20 Uncompressed Progressive Active Video",
        ".7.2": "SMPTE ST 2110-20 Uncompressed Interlaced Active Video",
        ".7.3": "SMPTE ST 2110-30 PCM Digital Audio",
    },
}


def _list_transfer_syntaxes() -> Iterator[TransferSyntax]:
    for codec, names in _NAMES.items():
        for suffix, name in names.items():
            yield TransferSyntax(
                uid=suffix if suffix[:1] == "1" else IMPLICIT_VR_LITTLE_ENDIAN + suffix,
                name=name,
                codec=codec,
                implicit="Implicit" in name,
                big_endian="Big Endian" in name,
                deflated=name.startswith("Deflated Explicit") or name.endswith("Deflate"),
            )


TRANSFER_SYNTAXES = {syntax.uid: syntax for syntax in _list_transfer_syntaxes()}


def find_transfer_syntax(uid: str) -> TransferSyntax:
    """Return the transfer syntax of `uid`; of an unknown one, Explicit VR LE of unknown codec."""
    found = TRANSFER_SYNTAXES.get(uid)
    return found or TransferSyntax(uid, "unknown transfer syntax", Codec.UNKNOWN)
