"""Every anomaly that a scan can record: its code, its meaning, and what the scan did.

An anomaly breaks the standard in a way that leaves exactly one reading of the bytes. Whatever
prints anomalies for people takes its words from here.
"""

from __future__ import annotations

from typing import NamedTuple


class AnomalyMeaning(NamedTuple):
    """The meaning of an anomaly's code, and the scanner's answer to it.

    Attributes
    ----------
    meaning : str
        What the file does that the standard does not allow.
    done : str
        What the scan did about it.
    """

    meaning: str
    done: str


_TABLE_NAMES = {"bot": "Basic Offset Table", "eot": "Extended Offset Table"}
_TABLE_FAULTS = {
    "count": "The {table} has not one entry a frame.",
    "order": "The entries of the {table} do not increase.",
    "off-item": "The {table} does not begin at the first item, leads to a place that is no item, "
    "or leaves a frame without data.",
    "off-frame": "An entry of the {table} leads to a fragment without the codec's start marker.",
    "fragments": "The {table} gives a frame several fragments where only one is allowed.",
}

ANOMALIES: dict[str, AnomalyMeaning] = {
    code: AnomalyMeaning(meaning, done)
    for code, meaning, done in (
        # The file and its header
        (
            "no-file-meta",
            "The file has no preamble, or no File Meta Information.",
            "Read it, since `force` was given.",
        ),
        (
            "file-meta-group-length",
            "The group length (0002,0000) is absent or wrong.",
            "Read the group by its elements.",
        ),
        (
            "file-meta-byte-order",
            "The File Meta Information is in Big Endian.",
            "Read it in that byte order, since `force` was given.",
        ),
        (
            "file-meta-twice",
            "The file has the File Meta Information twice.",
            "Used the first value of each element.",
        ),
        (
            "no-transfer-syntax",
            "The Transfer Syntax UID (0002,0010) is absent.",
            "Found the encoding by the first element.",
        ),
        (
            "deflate-wrapper",
            "The data set is deflated with a zlib header, or not deflated at all.",
            "Read it as what its first bytes show.",
        ),
        # The data set's structure
        (
            "vr-mismatch",
            "The data set or a part of it is implicit where explicit is declared, or the reverse.",
            "Read each part in the form that fits its lengths.",
        ),
        (
            "stray-item",
            "An item or a delimiter stands where none belongs, or has a damaged tag (3F3F).",
            "Skipped it, or read the damaged tag as what it was.",
        ),
        (
            "sequence-length",
            "The length of a sequence is not that of its items.",
            "Continued where its elements end.",
        ),
        (
            "zeros-after-data-set",
            "More than 64 KiB of zeros follow the last element.",
            "Ended the data set there, and looked at nothing behind.",
        ),
        (
            "pixel-data-missing",
            "The file has image attributes, but no pixel data element.",
            "Gave it the status `no-pixel-data`.",
        ),
        # The attributes
        (
            "number-of-frames",
            "Number of Frames (0028,0008) is absent, 0, no clean number, or contradicted.",
            "Used the count that the length, the offset table or the fragments prove, else 1.",
        ),
        (
            "samples-per-pixel",
            "Samples per Pixel (0028,0002) is absent.",
            "Used one, since the pixel data is exactly that long.",
        ),
        (
            "photometric-length",
            "The photometric interpretation is YBR_FULL_422, but three samples a pixel are stored.",
            "Read three samples a pixel.",
        ),
        # Native pixel data
        (
            "frame-padding",
            "Each native frame is padded to a whole byte, or to 2 or 4 bytes.",
            "Placed the frames at that distance.",
        ),
        (
            "bits-in-words",
            "Bits Allocated is no multiple of 8, and each sample has a 16-bit or 32-bit word.",
            "Read one sample a word.",
        ),
        (
            "pixel-data-short",
            "The native pixel data is shorter than its frames.",
            "Served the frames that are whole.",
        ),
        (
            "pixel-data-excess",
            "The native pixel data is longer than its frames.",
            "Did not serve the excess.",
        ),
        (
            "length-wrapped",
            "The native pixel data is 4 GiB or longer, and its 32-bit length wrapped.",
            "Used the length that the file and the frames agree on.",
        ),
        (
            "native-in-fragment",
            "A fragment under a native transfer syntax has native frames.",
            "Served the native frames within the fragment.",
        ),
        (
            "native-under-encapsulated",
            "The pixel data is native under an encapsulated transfer syntax.",
            "Served native frames, since the value is exactly that long.",
        ),
        # Encapsulated pixel data
        (
            "encapsulated-under-native",
            "The pixel data has an undefined length under a native transfer syntax.",
            "Read the fragments.",
        ),
        (
            "defined-length-encapsulated",
            "The fragments stand in a value of defined length.",
            "Read the fragments within it.",
        ),
        (
            "bare-codestream",
            "The value is a codestream without items.",
            "Served the value as the one frame.",
        ),
        (
            "no-basic-offset-table",
            "The first item is a fragment, and no Basic Offset Table.",
            "Read it as the first fragment.",
        ),
        (
            "bot-wrapped",
            "The 32-bit entries of the Basic Offset Table passed 4 GiB and began again at 0.",
            "Counted on beyond 4 GiB.",
        ),
        (
            "eot-length",
            "A length in the Extended Offset Table is neither the item's nor one less.",
            "Used the item's length.",
        ),
        (
            "eot-with-bot",
            "The file has both offset tables, and they agree.",
            "Used the Extended Offset Table.",
        ),
        (
            "start-markers",
            "Fragments begin with the codec's start marker where no frame begins, or lack it where "
            "one does.",
            "Used the frames that the offset table and Number of Frames agree on.",
        ),
        (
            "item-length",
            "The length of an item is damaged: two offset tables agree, and lead past it.",
            "Used the tables; reading a frame that the damage touches raises.",
        ),
        (
            "fragmented-rle",
            "A frame has several fragments where its transfer syntax allows one.",
            "Joined them, since the offset table or the frames' own headers show which.",
        ),
        (
            "odd-fragment-length",
            "A fragment has an odd length.",
            "Served it as it is.",
        ),
        (
            "empty-fragment",
            "A fragment is empty.",
            "Counted it to the frame before it.",
        ),
        (
            "missing-sequence-delimiter",
            "The file ends after a fragment, without a delimiter.",
            "Served the frames that are whole.",
        ),
        (
            "junk-after-fragments",
            "Something else than a fragment or a delimiter follows a fragment.",
            "Ended the fragments there.",
        ),
        (
            "truncated-fragment",
            "The file ends within a frame.",
            "Reading that frame raises TruncatedFrameError.",
        ),
        *(
            (f"{prefix}-{fault}", meaning.format(table=table), "Dropped the table.")
            for prefix, table in _TABLE_NAMES.items()
            for fault, meaning in _TABLE_FAULTS.items()
        ),
    )
}
