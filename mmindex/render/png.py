"""Frames of an instance -> PNG files, in one window for all of them, so that they compare."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING

from mmindex.errors import DecodeError, MissingDependencyError
from mmindex.render.window import MOST_FRAMES_SAMPLED, find_window, render, spread

if TYPE_CHECKING:
    from PIL import Image

    from mmindex.read.instance import Instance


def check_picture(instance: Instance) -> None:
    """Raise an error where no picture can be made of an instance's frames.

    Raises
    ------
    DecodeError
        The samples are indices into a palette.
    MissingDependencyError
        Pillow is not installed.
    """
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise MissingDependencyError("PNG needs Pillow: pip install 'mmindex[codecs]'") from None
    if instance.record.image_pixel.photometric_interpretation == "PALETTE COLOR":
        raise DecodeError(
            "the samples are indices into a palette (PALETTE COLOR), not a picture: "
            "use `mmindex frame --format npy`, or `Instance.array`",
            path=instance.path,
        )


def walk_pictures(instance: Instance, frame_indices: Sequence[range]) -> Iterator[bytes]:
    """Yield frames as PNG files; decodes one frame at a time, and a single frame once.

    Parameters
    ----------
    frame_indices : sequence of range
        The frames, counted from 0.

    Raises
    ------
    DecodeError, MissingDependencyError
        As `check_picture`.
    MMIndexError
        As `Instance.array`.
    """
    check_picture(instance)
    from PIL import Image

    decode = lru_cache(maxsize=1)(instance.array)
    sampled = spread(frame_indices, MOST_FRAMES_SAMPLED)
    window = find_window(map(decode, sampled), len(sampled))
    for frame_index in chain.from_iterable(frame_indices):
        pixels = render(decode(frame_index), instance.record.image_pixel, window)
        yield encode_png(Image.fromarray(pixels))


def encode_png(picture: Image.Image) -> bytes:
    """Return a picture as a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
