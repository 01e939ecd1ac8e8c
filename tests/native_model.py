"""Writes files of native frames from a model: valid ones, and with one witness damaged.

Each frame is random bits, so that the true frame can be told from any other. The witnesses are
Number of Frames, the length of the value, the shape of a frame (Rows, Bits Allocated, Samples per
Pixel), and the end of the file. `NativeCase.undetectable` names what no rule can see:

* `shape-of-the-same-length`: Rows, Columns, Bits Allocated or Samples per Pixel are damaged. The
  pixel data of another shape is as long as a valid one of another number of frames, or has an
  excess or a lack that R35 serves.
* `count-of-other-frames`: Number of Frames is damaged so that frames of another stride fill the
  value exactly, or that there are more, and the bits that pad the value are as long as one.
* `length-of-other-frames`: the value's length is damaged, or the file is cut, so that frames of
  another stride or of other bits fill the declared length, or what is left, exactly.
"""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from dicom_bytes import PIXEL_DATA, dicom_file, element, image_attributes

import mmindex
from mmindex.errors import MMIndexError


@dataclass(frozen=True)
class NativeModel:
    """A valid file of native frames, each a number of bits; `pad_to` is 1, 8, 16 or 32 bits."""

    rows: int
    columns: int
    samples: int
    bits: int
    count: int
    photometric: str
    pad_to: int
    frames: tuple[int, ...]

    @property
    def frame_bits(self) -> int:
        """Bits of a frame: 10, 12 and 14 are packed, YBR_FULL_422 has two samples a pixel."""
        samples = 2 if self.photometric == "YBR_FULL_422" else self.samples
        return self.rows * self.columns * samples * self.bits

    @property
    def stride(self) -> int:
        """Bits from a frame to the next."""
        return -(-self.frame_bits // self.pad_to) * self.pad_to

    def value(self) -> bytes:
        """Return the value: bits run on from the lowest, and a pad byte makes the length even."""
        whole = sum(frame << at * self.stride for at, frame in enumerate(self.frames))
        length = (self.stride * self.count + 7) // 8
        return whole.to_bytes(length, "little") + bytes(length % 2)

    def true_frames(self) -> list[bytes]:
        """Return the frames as they are read: from bit 0 on, bits after the last one zero."""
        length = (self.frame_bits + 7) // 8
        return [frame.to_bytes(length, "little") for frame in self.frames]

    def write(self, count: str | None, length: int | None = None, **shape: int) -> bytes:
        """Return the file, with another count, length or shape in its header."""
        attributes = image_attributes(
            rows=shape.get("rows", self.rows),
            columns=shape.get("columns", self.columns),
            samples=shape.get("samples", self.samples),
            bits=shape.get("bits", self.bits),
            number_of_frames=count,
            photometric=self.photometric,
        )
        value = element(PIXEL_DATA, "OW", self.value(), length=length)
        return dicom_file(attributes + value)


@dataclass(frozen=True)
class NativeCase:
    """A file, its true frames, how many of them are there, and what was damaged."""

    model: NativeModel
    data: bytes
    damage: str
    there: int
    undetectable: str = ""


def make_model(rng: random.Random) -> NativeModel:
    """Return a file: any bits, samples and number of frames; few padded one by one (rule R40)."""
    bits = rng.choice([1, 8, 8, 10, 12, 14, 16, 32])
    samples = rng.choice([1, 1, 3]) if bits in (8, 16) else 1
    photometric = "MONOCHROME2" if samples == 1 else "RGB"
    columns = rng.randrange(1, 9)
    if samples == 3 and bits == 8 and rng.random() < 0.4:
        photometric, columns = "YBR_FULL_422", 2 * columns
    model = NativeModel(
        rng.randrange(1, 9),
        columns,
        samples,
        bits,
        rng.choice([1, 1, 2, 3, 5, 8]),
        photometric,
        1,
        (),
    )
    if model.count > 1 and bits in (1, 8) and rng.random() < 0.3:
        model = replace(model, pad_to=rng.choice([8, 16, 32]))
    frames = tuple(rng.getrandbits(model.frame_bits) for _ in range(model.count))
    return replace(model, frames=frames)


def make_native_case(seed: int) -> NativeCase:
    """Return the file of a seed: a model, with one witness damaged."""
    rng = random.Random(seed)
    model = make_model(rng)
    count, data = model.count, model.write(str(model.count))
    length = len(model.value())
    damage = rng.choice(["nothing", "count", "length", "cut", "shape", "excess"])
    if model.stride != model.frame_bits:  # against the standard already: not damaged further
        why = _why_length_is_unseen(model, length)
        return NativeCase(model, data, "padded", count, why)
    if damage == "count":
        text = rng.choice([str(rng.randrange(1, 2 * count + 2)), "0", "many", f"{count}.0", None])
        other = count if text is not None and text.startswith(str(count)) else text
        return NativeCase(
            model,
            model.write(text),
            f"count {text}",
            count,
            "" if other == count else _why_count_is_unseen(model, other),
        )
    if damage == "length":
        wrong = max(0, length + rng.choice([-1, 1, -2, 2, -4, 4, -length, 1000, -7, 12]))
        there = min(wrong, length)
        return NativeCase(
            model,
            model.write(str(count), wrong),
            f"length {length} -> {wrong}",
            _whole(model, there),
            _why_length_is_unseen(model, wrong) or _why_length_is_unseen(model, there),
        )
    if damage == "cut":
        lost = rng.randrange(1, length + 1)
        return NativeCase(
            model,
            data[:-lost],
            f"cut by {lost}",
            _whole(model, length - lost),
            _why_length_is_unseen(model, length - lost),
        )
    if damage == "shape":
        name = rng.choice(["rows", "columns", "bits"])
        wrong = rng.choice([n for n in (1, 2, 3, 4, 8, 16) if n != getattr(model, name)])
        return NativeCase(
            model,
            model.write(str(count), **{name: wrong}),
            f"{name} {wrong}",
            0,
            "shape-of-the-same-length",
        )
    if damage == "excess":
        excess = rng.randrange(1, 2 * length)
        grown = model.write(str(count), length + excess) + rng.randbytes(excess)
        return NativeCase(
            model, grown, f"excess {excess}", count, _why_length_is_unseen(model, length + excess)
        )
    return NativeCase(model, data, damage, count)


def _whole(model: NativeModel, length: int) -> int:
    """Return how many frames are whole in so many bytes of the value."""
    ends = [at * model.stride + model.frame_bits for at in range(model.count)]
    return sum(end <= 8 * length for end in ends)


def _walk_frame_lengths(model: NativeModel) -> Iterator[int]:
    """Yield the bits of frames that the header allows: packed, in words, of three samples."""
    pixels = model.rows * model.columns
    samples = {model.samples, 2} if model.photometric == "YBR_FULL_422" else {model.samples}
    for number in samples:
        for bits in {model.bits, 16, 32} if model.bits in (10, 12, 14) else {model.bits}:
            yield pixels * number * bits


def _fills(model: NativeModel, count: int, length: int, *, but_for: int = 0) -> bool:
    """Return whether frames of another stride than the true one fill a value exactly."""
    rows = model.rows
    for bits in _walk_frame_lengths(model):
        row = bits // rows if bits % rows == 0 else bits
        for pad in (1, 8, 16, 32):
            strides = {-(-bits // pad) * pad, -(-row // pad) * pad * rows}
            for stride in strides - {but_for}:
                needed = (stride * count + 7) // 8
                if length in (needed, needed + needed % 2):
                    return True
    return False


def _why_count_is_unseen(model: NativeModel, text: str | None) -> str:
    """Return why another number of frames reads like a valid file."""
    count = int(text) if text is not None and text.isdigit() and int(text) else 1
    length = len(model.value())
    is_padding = count > model.count and 8 * length // model.stride > model.count
    if is_padding or _fills(model, count, length, but_for=model.stride):
        return "count-of-other-frames"
    return ""


def _why_length_is_unseen(model: NativeModel, length: int) -> str:
    """Return why a value of another length reads like one of other frames."""
    if _fills(model, model.count, length, but_for=model.stride):
        return "length-of-other-frames"
    return ""


def find_wrong_native_frame(case: NativeCase, *, tolerant: bool = True) -> str:
    """Return which frame of a case is wrong and how, empty where none is or none can be told."""
    if case.undetectable and tolerant:
        return ""
    true = case.model.true_frames()[: case.there]
    try:
        with mmindex.open_file(io.BytesIO(case.data)) as instance:
            for index in range(min(len(instance), len(true) + 40)):
                try:
                    found = instance.frame(index)
                except MMIndexError:
                    continue
                if index >= len(true) or found != true[index]:
                    return f"{case.model}, {case.damage}: frame {index} of {len(instance)}"
    except MMIndexError:
        pass
    return ""
