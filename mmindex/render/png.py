"""Frames of an instance -> PNG or JPEG files, as a viewer shows them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from mmindex.errors import MissingDependencyError, naming
from mmindex.read.ahead import walk_held
from mmindex.render.shared_window import find_shared_window

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from mmindex.decode.window import Window
    from mmindex.read.instance import Instance
    from mmindex.read.pictures import WindowChoice

_QUALITY = 90  # of JPEG; PNG has none


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
    window: WindowChoice = "file",
    file_format: str = "PNG",
) -> Iterator[bytes]:
    """Yield frames as picture files; decodes one frame at a time, and a single frame once.

    Parameters
    ----------
    frame_indices : sequence of range
        The frames, counted from 0.
    window : "file", "auto" or (center, width)
        As in `Instance.picture`; but frames whose window is by values share one.
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

    by_values = find_shared_window(instance, frame_indices, window)
    for frame_index, take in walk_held(instance, list(chain.from_iterable(frame_indices))):
        picture = draw_picture(instance, frame_index, window, by_values, take)
        yield _encode(Image.fromarray(picture), file_format)


def draw_picture(
    instance: Instance,
    frame_index: int,
    window: WindowChoice,
    by_values: Window | None,
    take: Callable[[], Instance],
) -> NDArray[np.uint8]:
    """Return a frame as `Instance.picture` does, by values in the window of several frames.

    Parameters
    ----------
    take : callable
        Returns what the frame is read from; see `walk_held`.
    """
    from mmindex.read.pictures import read_picture

    with naming(instance.path):
        return read_picture(instance, frame_index, window, by_values=by_values, take=take)


def encode_png(picture: Image.Image) -> bytes:
    """Return a picture as a PNG file."""
    return _encode(picture, "PNG")


def _encode(picture: Image.Image, file_format: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, file_format, quality=_QUALITY)
    return buffer.getvalue()
