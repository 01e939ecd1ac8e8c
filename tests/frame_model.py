"""Writes DICOM files from a model of their frames: valid ones, and with one witness damaged.

Every witness of the frame boundaries (Number of Frames, offset tables, item lengths, start
markers, padding, the end of the file) is damaged alone. Whatever is read of such a file has to be
exactly the true frame, or an error: `find_wrong_frame` says what is not.

Some single damages no rule can see, since the file that results is a valid one of other frames.
`Case.undetectable` names them, and nothing else is tolerated:

* `count-of-mute-fragments`: Number of Frames is absent, 1, or the number of fragments, and nothing
  else speaks: no table, and a codec without start markers.
* `table-of-mute-fragments`: an entry leads to another fragment, or each fragment of a file
  without Number of Frames has one, and the codec has no start marker that would show it.
* `fragment-in-fragment`: an item's length takes in exactly the next fragment of its frame. What
  stands there could be the item's own bytes, which nothing may search for a header.
* `cut-between-fragments`: the file ends exactly with the first fragment of a frame under a codec
  without end marker. The same file is written where only the delimiter is left out.
* `padding-byte`: an item's length leaves out the padding byte after the codec's end marker, and so
  does the frame, which is as whole as before.

Two more are no damage by this measure: bytes that change within a fragment (the frame is what is
stored), and the pad byte of a frame of an Extended Offset Table whose lengths are dropped.
"""

from __future__ import annotations

import io
import random
import struct
from dataclasses import dataclass, replace

from dicom_bytes import (
    DEFLATED_IMAGE_FRAME,
    ENCAPSULATED_UNCOMPRESSED,
    HTJ2K,
    JP2_BOX,
    JPEG_2000,
    JPEG_BASELINE,
    JPEG_LS,
    JPEG_XL,
    JXL_BOX,
    PRIVATE_SYNTAX,
    RLE_LOSSLESS,
    SEQUENCE_DELIMITER,
    dicom_file,
    element,
    extended_offset_table,
    image_attributes,
    item,
)

import mmindex
from mmindex.errors import MMIndexError

RLE_HEADER = struct.pack("<16I", 1, 64, *[0] * 14)
CODECS = {  # transfer syntax, start of a frame, end of a frame
    "jpeg": (JPEG_BASELINE, b"\xff\xd8\xff\xe0", b"\xff\xd9"),
    "jpeg-ls": (JPEG_LS, b"\xff\xd8\xff\xf7", b"\xff\xd9"),
    "jpeg-2000": (JPEG_2000, b"\xff\x4f\xff\x51", b"\xff\xd9"),
    "jpeg-2000-box": (JPEG_2000, JP2_BOX, b"\xff\xd9"),
    "htj2k": (HTJ2K, b"\xff\x4f\xff\x51", b"\xff\xd9"),
    "jpeg-xl": (JPEG_XL, b"\xff\x0a", b""),
    "jpeg-xl-box": (JPEG_XL, JXL_BOX, b""),
    "rle": (RLE_LOSSLESS, RLE_HEADER, b""),
    "uncompressed": (ENCAPSULATED_UNCOMPRESSED, b"", b""),
    "deflated": (DEFLATED_IMAGE_FRAME, b"", b""),
    "private": (PRIVATE_SYNTAX, b"", b""),
}
ONE_FRAGMENT = ("uncompressed", "deflated")
PIXEL_DATA_HEADER = element(0x7FE00010, "OB", b"", length=0xFFFFFFFF)


@dataclass(frozen=True)
class Model:
    """A valid file: its frames as fragments, and which witnesses it has."""

    codec: str
    frames: list[list[bytes]]
    bot: list[int] | bytes | None = None  # None: no table's item at all
    eot: list[int] | None = None
    eot_lengths: list[int] | None = None
    number_of_frames: str | None = None
    end: bytes = SEQUENCE_DELIMITER
    after: bytes = b""

    @property
    def fragments(self) -> list[bytes]:
        """The fragments of all frames."""
        return [fragment for frame in self.frames for fragment in frame]

    def header(self) -> bytes:
        """Return everything before the first fragment's item."""
        data_set = image_attributes(number_of_frames=self.number_of_frames)
        if self.eot is not None:
            data_set += extended_offset_table(self.eot, self.eot_lengths)
        data_set += PIXEL_DATA_HEADER
        if self.bot is not None:
            table = self.bot
            if not isinstance(table, bytes):
                table = struct.pack(f"<{len(table)}I", *table)
            data_set += item(table)
        return dicom_file(data_set, CODECS[self.codec][0])

    def write(self) -> bytes:
        """Return the file."""
        return self.header() + b"".join(map(item, self.fragments)) + self.end + self.after

    def places(self) -> list[list[tuple[int, int]]]:
        """Return (offset, length) of every fragment of every frame in the file."""
        at = len(self.header())
        places: list[list[tuple[int, int]]] = []
        for frame in self.frames:
            places.append([])
            for fragment in frame:
                places[-1].append((at + 8, len(fragment)))
                at += 8 + len(fragment)
        return places


@dataclass(frozen=True)
class Case:
    """A file, its true frames (None: not all there), and what was damaged."""

    model: Model
    data: bytes
    damage: str
    frames: list[bytes | None]
    undetectable: str = ""

    def is_true(self, index: int, found: bytes) -> bool:
        """Return whether a frame is the true one, but for the pad byte that a table leaves out."""
        true = self.frames[index] if index < len(self.frames) else None
        if true is None or found == true:
            return true is not None
        return self.model.eot_lengths is not None and found + b"\0" == true


def starts_of(frames: list[list[bytes]]) -> list[int]:
    """Return the right offset table of frames of these fragments."""
    starts, at = [], 0
    for fragments in frames:
        starts.append(at)
        at += sum(8 + len(fragment) for fragment in fragments)
    return starts


def make_frame(rng: random.Random, codec: str, pieces: int) -> list[bytes]:
    """Return a frame in fragments of even length, without a marker in its middle."""
    _, start, end = CODECS[codec]
    body = bytes(rng.randrange(0x10, 0x80) for _ in range(rng.randrange(24, 60)))
    frame = start + body + end
    frame += b"\0" * (len(frame) % 2)
    least = len(start) + len(start) % 2
    cuts = sorted(rng.sample(range(least + 2, len(frame) - 4, 2), pieces - 1))
    return [frame[a:b] for a, b in zip([0, *cuts], [*cuts, len(frame)], strict=True)]


def make_model(rng: random.Random) -> Model:
    """Return a valid file of any codec, layout and witnesses."""
    codec = rng.choice(list(CODECS))
    count = rng.choice([1, 1, 2, 3, 4, 7])
    layout = rng.choice(["one", "one", "two", "mixed"])
    if codec in ONE_FRAGMENT and count > 1:
        layout = "one"
    frames = []
    for _ in range(count):
        pieces = {"one": 1, "two": 2}.get(layout) or rng.randrange(1, 4)
        frames.append(make_frame(rng, codec, pieces))
    if rng.random() < 0.1:
        frames[rng.randrange(count)].append(b"")
    model = Model(codec, frames, bot=[], number_of_frames=str(count))
    if count == 1 and rng.random() < 0.3:
        model = replace(model, number_of_frames=None)
    tables = rng.choice(["none", "bot", "eot", "both", "eot-without-lengths"])
    starts = starts_of(frames)
    if tables in ("bot", "both"):
        model = replace(model, bot=starts)
    one_each = all(len(frame) == 1 for frame in frames)
    if tables in ("eot", "both", "eot-without-lengths") and one_each:
        lengths = [len(frame[0].rstrip(b"\0")) for frame in frames]
        lengths = [max(a, len(f[0]) - 1) for a, f in zip(lengths, frames, strict=True)]
        with_lengths = None if tables == "eot-without-lengths" else lengths
        model = replace(model, eot=starts, eot_lengths=with_lengths)
    if rng.random() < 0.2:
        model = replace(model, after=element(0xFFFCFFFC, "OB", bytes(10)))
    return model


# One damage each: a function of (rng, model) returns the damaged file, None where there is no such


def true_frames(model: Model, data: bytes, end: int | None = None) -> list[bytes | None]:
    """Return the frames in `data` where the model has them, None where they are not all there.

    An empty fragment has nothing that could be lost.
    """
    end = len(data) if end is None else end
    frames: list[bytes | None] = []
    for places in model.places():
        filled = [(at, length) for at, length in places if length]
        is_there = sum(filled[-1]) <= end
        frames.append(b"".join(data[at : at + n] for at, n in filled) if is_there else None)
    return frames


def damage_nothing(rng: random.Random, model: Model) -> Case:
    """Return the file as it is."""
    data = model.write()
    return Case(model, data, "nothing", true_frames(model, data))


def damage_count(rng: random.Random, model: Model) -> Case:
    """Number of Frames is another number, absent, or no number."""
    count = len(model.frames)
    others = [str(n) for n in range(1, 2 * count + 3) if n != count]
    others += [str(len(model.fragments)), "0", "many", f"{count + 1}.0", f"{count}.0", "1000000"]
    text = rng.choice([*others, None] if count > 1 else others)
    damaged = replace(model, number_of_frames=text)
    data = damaged.write()
    case = Case(damaged, data, f"count {text}", true_frames(damaged, data))
    is_mute = not (CODECS[model.codec][1] or model.bot or model.eot)
    filled = sum(len(fragment) > 0 for fragment in model.fragments)
    if is_mute and (text is None or text.removesuffix(".0") in ("1", str(filled))):
        return replace(case, undetectable="count-of-mute-fragments")
    return case


def damage_bot_entry(rng: random.Random, model: Model) -> Case | None:
    """One entry of the Basic Offset Table leads elsewhere."""
    if not model.bot:
        return None
    bot = list(model.bot)
    items = starts_of([[fragment] for fragment in model.fragments])
    at = rng.randrange(len(bot))
    bot[at] = rng.choice(
        [rng.choice(items), bot[at] + rng.choice([2, 4, 8]), 0, 0xFFFFFFFF, rng.randrange(500)]
    )
    damaged = replace(model, bot=bot)
    data = damaged.write()
    case = Case(damaged, data, f"bot entry {at} = {bot[at]}", true_frames(damaged, data))
    if not CODECS[model.codec][1] and bot[at] in items:
        return replace(case, undetectable="table-of-mute-fragments")
    return case


def damage_bot_length(rng: random.Random, model: Model) -> Case | None:
    """The Basic Offset Table has an entry more or less, half an entry, or one that is 0."""
    if not model.bot:
        return None
    bot: list[int] | bytes = list(model.bot)
    assert isinstance(bot, list)
    items = starts_of([[fragment] for fragment in model.fragments])
    kind = rng.choice(["less", "more", "half", "zero", "zeros", "items", "length"])
    if kind == "less":
        del bot[rng.randrange(len(bot))]
    elif kind == "more":
        bot = sorted([*bot, rng.choice([*items, rng.randrange(500)])])
    elif kind == "half":
        bot = struct.pack(f"<{len(bot)}I", *bot) + b"\x1e\0"
    elif kind == "zero":
        bot = [0]
    elif kind == "zeros":
        bot = [0] * len(bot)
    elif kind == "items":
        bot = items
    damaged = replace(model, bot=bot)
    data = damaged.write()
    if kind == "length":  # of the item alone, so that the fragments begin elsewhere
        at = len(damaged.header()) - 4 * len(bot) - 4
        data = patch(data, at, struct.pack("<I", max(0, 4 * len(bot) + rng.choice([-4, 4, 8, 2]))))
    case = Case(damaged, data, f"bot {kind}", true_frames(damaged, data))
    if not CODECS[model.codec][1] and model.number_of_frames is None:
        return replace(case, undetectable="table-of-mute-fragments")
    return case


def damage_eot(rng: random.Random, model: Model) -> Case | None:
    """One entry or length of the Extended Offset Table is wrong, or one is left out."""
    if not model.eot:
        return None
    eot = list(model.eot)
    lengths = None if model.eot_lengths is None else list(model.eot_lengths)
    at = rng.randrange(len(eot))
    kind = rng.choice(["entry", "length", "less", "lengths"])
    if kind == "entry":
        eot[at] = rng.choice([*model.eot, eot[at] + rng.choice([2, 8]), 0, 2**64 - 1, 2**40])
    elif kind == "length" and lengths:
        lengths[at] = rng.choice([0, lengths[at] + 2, lengths[at] - 2, 2**64 - 1])
    elif kind == "less":
        del eot[at]
    elif lengths:
        del lengths[at]
    damaged = replace(model, eot=eot, eot_lengths=lengths)
    data = damaged.write()
    return Case(damaged, data, f"eot {kind} {at}", true_frames(damaged, data))


def damage_item_length(rng: random.Random, model: Model) -> Case:
    """The length of one item is wrong."""
    data = model.write()
    places = [place for frame in model.places() for place in frame]
    offset, length = rng.choice(places)
    by = rng.choice([-1, 1, -2, 2, -4, 4, -8, 8, -16, 16, 1000, 1 << 20, -length, 3, -6])
    wrong = max(0, length + by) if by != -6 else 0xFFFFFFFF
    if wrong == length:
        wrong += 2
    is_last = (offset, length) == places[-1]
    end = CODECS[model.codec][2]
    cut = data[offset : offset + wrong]
    frames = true_frames(model, data)
    case = Case(model, patch(data, offset - 4, struct.pack("<I", wrong)), "", frames)
    why = ""
    frame = next(frame for frame in model.places() if (offset, length) in frame)
    following = [place for place in frame if place[0] > offset]
    if following and offset + wrong == sum(following[0]):
        why = "fragment-in-fragment"
    if (
        end
        and wrong < length
        and cut.rstrip(b"\0").endswith(end)
        and not data[offset + wrong : offset + length].strip(b"\0")
    ):
        why = "padding-byte"
    return replace(
        case,
        damage=f"item length {length} -> {wrong}{' (last)' * is_last}",
        undetectable=why,
    )


def damage_item_tag(rng: random.Random, model: Model) -> Case:
    """One byte of an item's tag is wrong."""
    data = model.write()
    offset, _ = rng.choice([place for frame in model.places() for place in frame])
    at = offset - 8 + rng.randrange(4)
    damaged = patch(data, at, bytes([data[at] ^ rng.choice([1, 0x80, 0xFF])]))
    return Case(model, damaged, f"item tag @{offset - 8}", true_frames(model, data))


def damage_marker(rng: random.Random, model: Model) -> Case | None:
    """A start marker is damaged, or stands where no frame begins."""
    start = CODECS[model.codec][1]
    if not start:
        return None
    data = model.write()
    places = model.places()
    frame = rng.choice(places)
    offset, length = rng.choice(frame)
    if offset == frame[0][0]:
        data = patch(data, offset, b"\x11\x12")
        return Case(model, data, "marker damaged", true_frames(model, data))
    if length < len(start):
        return None
    data = patch(data, offset, start)
    return Case(model, data, "marker within", true_frames(model, data))


def damage_padding(rng: random.Random, model: Model) -> Case:
    """A fragment has a padding byte more than the standard asks for; tables take part."""
    frames = [list(frame) for frame in model.frames]
    frame = rng.choice(frames)
    at = rng.randrange(len(frame))
    frame[at] += rng.choice([b"\0", b"\0\0"])
    starts = starts_of(frames)
    damaged = replace(
        model,
        frames=frames,
        bot=starts if model.bot else model.bot,
        eot=starts if model.eot else None,
        eot_lengths=model.eot_lengths,
    )
    data = damaged.write()
    return Case(damaged, data, "padding", true_frames(damaged, data))


def damage_end(rng: random.Random, model: Model) -> Case:
    """The delimiter is absent, or something else stands there."""
    end = rng.choice(
        [
            b"",
            bytes(8),
            bytes(rng.randrange(1, 99)),
            b"\xfe\xff\x0d\xe0\0\0\0\0",
            element(0xFFFCFFFC, "OB", bytes(12)),
            bytes(rng.randrange(0x10, 0x80) for _ in range(rng.randrange(1, 40))),
        ]
    )
    damaged = replace(model, end=end)
    data = damaged.write()
    return Case(damaged, data, f"end {end[:12].hex()}", true_frames(damaged, data))


def damage_by_cut(rng: random.Random, model: Model) -> Case:
    """The file ends early, often at an item's edge."""
    data = model.write()
    places = [place for frame in model.places() for place in frame]
    first = len(model.header())
    ends = [offset + length for offset, length in places]
    edge = rng.choice([first, *ends]) + rng.randrange(-3, 9)
    end = rng.choice([edge, rng.choice(ends), rng.randrange(first - 20, len(data))])
    end = min(max(end, 0), len(data) - 1)
    case = Case(model, data[:end], f"cut at {end}", true_frames(model, data, end))
    return replace(case, undetectable=_why_cut_is_unseen(model, end))


def _why_cut_is_unseen(model: Model, end: int) -> str:
    """Return why the loss of a frame's last fragments leaves no trace."""
    for places in model.places():
        ends = [offset + length for offset, length in places]
        if end in ends[:-1] and not CODECS[model.codec][2] and ends.index(end) == 0:
            return "cut-between-fragments"
    return ""


def damage_first_item(rng: random.Random, model: Model) -> Case | None:
    """The Basic Offset Table's item is left out."""
    if model.bot:
        return None
    damaged = replace(model, bot=None)
    data = damaged.write()
    return Case(damaged, data, "no table's item", true_frames(damaged, data))


def patch(data: bytes, at: int, new: bytes) -> bytes:
    """Return data with other bytes at a place."""
    return data[:at] + new + data[at + len(new) :]


DAMAGES = [
    damage_nothing,
    damage_count,
    damage_bot_entry,
    damage_bot_length,
    damage_eot,
    damage_item_length,
    damage_item_tag,
    damage_marker,
    damage_padding,
    damage_end,
    damage_by_cut,
    damage_first_item,
]


def make_case(seed: int) -> Case:
    """Return the file of a seed: a model, with one witness damaged."""
    rng = random.Random(seed)
    while True:
        case = rng.choice(DAMAGES)(rng, make_model(rng))
        if case is not None:
            return case


@dataclass
class Outcome:
    """How many frames of a case were read, and the first that is wrong, if any."""

    frames: int = 0
    errors: int = 0
    wrong: str = ""


def read_case(case: Case, *, prove: bool = True) -> Outcome:
    """Read every frame of a case; a frame is the true one or an MMIndexError."""
    outcome = Outcome()
    try:
        with mmindex.open_file(io.BytesIO(case.data), prove=prove) as instance:
            for index in range(min(len(instance), len(case.frames) + 40)):
                try:
                    found = instance.frame(index)
                except MMIndexError:
                    outcome.errors += 1
                    continue
                outcome.frames += 1
                if not case.is_true(index, found):
                    outcome.wrong = f"frame {index}: found {found!r} of {case.frames!r}"
                    return outcome
    except MMIndexError:
        outcome.errors += len(case.frames)
    return outcome


def find_wrong_frame(case: Case, *, prove: bool = True) -> str:
    """Return which frame of a case is wrong and how, empty where none is or none can be told."""
    wrong = read_case(case, prove=prove).wrong
    return "" if case.undetectable or not wrong else f"{case.model.codec}, {case.damage}: {wrong}"
