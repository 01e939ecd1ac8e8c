"""Frames of an instance -> PNG or JPEG files: in one window, or as a viewer shows each."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Literal

from mmindex.errors import DecodeError, MissingDependencyError
from mmindex.render.window import MOST_FRAMES_SAMPLED, find_window, render, spread

if TYPE_CHECKING:
    from PIL import Image

    from mmindex.read.instance import Instance

PictureWindow = Literal["file", "auto"] | tuple[float, float]

_PALETTE = "PALETTE COLOR"
_QUALITY = 90  # of JPEG; PNG has none


def check_picture(instance: Instance) -> None:
    """Raise an error where no picture can be made of an instance's frames.

    Raises
    ------
    DecodeError
        The samples are indices into a palette.
    MissingDependencyError
        Pillow is not installed.
    """
    require_pillow()
    if instance.record.image_pixel.photometric_interpretation == _PALETTE:
        raise DecodeError(
            "the samples are indices into a palette (PALETTE COLOR), not a picture: "
            "use `mmindex frame --format npy`, or `Instance.array`",
            path=instance.path,
        )


def require_pillow() -> None:
    """Raise MissingDependencyError where Pillow is not installed."""
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise MissingDependencyError("PNG needs Pillow: pip install 'mmindex[codecs]'") from None


def walk_pictures(
    instance: Instance,
    frame_indices: Sequence[range],
    *,
    window: PictureWindow | None = None,
    file_format: str = "PNG",
) -> Iterator[bytes]:
    """Yield frames as picture files; decodes one frame at a time, and a single frame once.

    Parameters
    ----------
    frame_indices : sequence of range
        The frames, counted from 0.
    window : "file", "auto" or (center, width), optional
        As in `Instance.picture`. Without a window, samples over 8 bits are in one window for all
        frames, by their values; frames of PALETTE COLOR are in their colours all the same.
    file_format : str
        "PNG" or "JPEG".

    Raises
    ------
    DecodeError
        As `Instance.picture`.
    MissingDependencyError
        Pillow is not installed.
    MMIndexError
        As `Instance.array`.
    """
    require_pillow()
    from PIL import Image

    if window is not None or instance.record.image_pixel.photometric_interpretation == _PALETTE:
        for frame_index in chain.from_iterable(frame_indices):
            picture = Image.fromarray(instance.picture(frame_index, window or "file"))
            yield _encode(picture, file_format)
        return
    decode = lru_cache(maxsize=1)(instance.array)
    sampled = spread(frame_indices, MOST_FRAMES_SAMPLED)
    window = find_window(map(decode, sampled), len(sampled))
    for frame_index in chain.from_iterable(frame_indices):
        pixels = render(decode(frame_index), instance.record.image_pixel, window)
        yield _encode(Image.fromarray(pixels), file_format)


def encode_png(picture: Image.Image) -> bytes:
    """Return a picture as a PNG file."""
    return _encode(picture, "PNG")


def _encode(picture: Image.Image, file_format: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, file_format, quality=_QUALITY)
    return buffer.getvalue()
