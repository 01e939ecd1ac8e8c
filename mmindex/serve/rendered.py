"""Pictures for people: WADO-RS `/rendered` and `/thumbnail` (PS3.18 8.3.5, 10.4.1.1.3)."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mmindex.errors import DecodeError, MissingDependencyError
from mmindex.serve.errors import RequestError
from mmindex.serve.held import Held

Window = Literal["file", "auto"] | tuple[float, float]

IMAGE_TYPES = ("image/jpeg", "image/png")
THUMBNAIL = 160  # pixels of the longer side

_WINDOWS: dict[str, Window] = {"file": "file", "auto": "auto"}
_MOST_PIXELS = 1 << 28  # samples of a frame that is decoded
_LONGEST_SIDE = 8192  # pixels of a picture
_QUALITY = 90


@dataclass(frozen=True, slots=True)
class Rendering:
    """The parameters of a rendered frame.

    Attributes
    ----------
    window : str or (float, float)
        `file`, `auto`, or center and width in output units of the Modality LUT.
    quality : int
        Of JPEG, 1 to 100.
    viewport : tuple of int or None
        Width and height that the picture is fitted into.
    source : tuple of int or None
        Left, top, width and height of the part of the frame that is shown.
    """

    window: Window = "file"
    quality: int = _QUALITY
    viewport: tuple[int, int] | None = None
    source: tuple[int, int, int, int] | None = None


def parse_rendering(
    parameters: Mapping[str, str], viewport: tuple[int, int] | None = None
) -> Rendering:
    """Return the rendering that a URL's parameters ask for (PS3.18 8.3.5.1).

    Raises
    ------
    RequestError
        One cannot be parsed or is out of range: status 400.
    """
    quality = parameters.get("quality", str(_QUALITY))
    if not (re.fullmatch("[0-9]{1,3}", quality) and 1 <= int(quality) <= 100):
        raise RequestError(400, "quality is a number from 1 to 100")
    source = None
    asked = parameters.get("viewport")
    if asked is not None:
        viewport, source = _parse_viewport(asked)
    return Rendering(
        _parse_window(parameters.get("window", "file")), int(quality), viewport, source
    )


def _parse_window(text: str) -> Window:
    if text in _WINDOWS:
        return _WINDOWS[text]
    wrong = RequestError(400, "window is CENTER,WIDTH,linear with a width of 1 or more")
    center, _, rest = text.partition(",")
    width, _, function = rest.partition(",")
    if function.lower() not in ("", "linear"):
        raise RequestError(400, "the window function is linear; no other one is rendered")
    try:
        pair = float(center), float(width)
    except ValueError:
        raise wrong from None
    if not (abs(pair[0]) < 1e12 and 1 <= pair[1] < 1e12):
        raise wrong
    return pair


def _parse_viewport(text: str) -> tuple[tuple[int, int], tuple[int, int, int, int] | None]:
    """Return the size of `vw,vh` and the part of the frame of `vw,vh,sx,sy,sw,sh`."""
    pieces = text.split(",")
    wrong = RequestError(400, f"viewport is WIDTH,HEIGHT of 1 to {_LONGEST_SIDE} pixels")
    try:
        numbers = [round(float(piece)) if piece else 0 for piece in pieces]
    except (ValueError, OverflowError):
        raise wrong from None
    if len(numbers) not in (2, 6) or not all(1 <= side <= _LONGEST_SIDE for side in numbers[:2]):
        raise wrong
    size = numbers[0], numbers[1]
    if len(numbers) == 2:
        return size, None
    left, top, width, height = numbers[2:]
    if left < 0 or top < 0 or width < 0 or height < 0 or max(numbers) > 1 << 20:
        raise RequestError(400, "the part of a frame in viewport is LEFT,TOP,WIDTH,HEIGHT")
    return size, (left, top, width, height)


def render(held: Held, frame_index: int, rendering: Rendering, media_type: str) -> bytes:
    """Return a frame as a JPEG or PNG file; PNG has the pixels of `Instance.picture`.

    Raises
    ------
    DecodeError
        The frame cannot be decoded, or is too large.
    MissingDependencyError
        Pillow or the frame's decoder is not installed.
    MMIndexError
        As `Instance.frame`.
    RequestError
        The part of the frame that is asked for lies outside: status 400.
    """
    try:
        from PIL import Image
    except ImportError:
        raise MissingDependencyError("pictures need Pillow: pip install 'mmindex[serve]'") from None
    pixel = held.record.image_pixel
    samples = (pixel.rows or 0) * (pixel.columns or 0) * (pixel.samples_per_pixel or 1)
    if samples > _MOST_PIXELS:
        raise DecodeError(f"a frame of {samples} samples is too large to be rendered")
    image = Image.fromarray(held.instance.picture(frame_index, rendering.window))
    if rendering.source is not None:
        left, top, width, height = rendering.source
        right = min(image.width, left + (width or image.width))
        bottom = min(image.height, top + (height or image.height))
        if left >= right or top >= bottom:
            raise RequestError(400, "the part of the frame in viewport lies outside of it")
        image = image.crop((left, top, right, bottom))
    if rendering.viewport is not None:
        scale = min(rendering.viewport[0] / image.width, rendering.viewport[1] / image.height)
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        if size != image.size:
            kind = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST
            image = image.resize(size, kind)
    out = io.BytesIO()
    if media_type == "image/png":
        image.save(out, "PNG", compress_level=1)
    else:
        image.save(out, "JPEG", quality=rendering.quality)
    return out.getvalue()
