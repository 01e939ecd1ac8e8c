"""Frames of an instance -> arrays: what is read, which decoder is called, how many are stacked."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import count
from threading import Event, Thread
from typing import TYPE_CHECKING

import numpy as np

from mmindex.decode.frame import decode_frame, put
from mmindex.decode.native import (
    decode_native,
    finish_room,
    make_room,
    native_frame_bits,
    plan_native,
)
from mmindex.decode.registry import ENCAPSULATED_UNCOMPRESSED, check_known
from mmindex.errors import DecodeError, MMIndexError
from mmindex.read.place import find_place
from mmindex.sources.file import read_range

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from mmindex.decode.stream import Pixels
    from mmindex.frame_table import FrameTable
    from mmindex.index.frame_location import StoredPixels
    from mmindex.read.instance import Instance

_MOST_TASKS = 32  # that an executor gets at least: as many as it may have threads

Decode = Callable[[int, "Pixels | None"], "Pixels"]  # position, array to fill -> array


def read_array(
    instance: Instance,
    frame_index: int,
    *,
    raw: bool,
    rescale: bool = False,
    copy: bool = False,
    out: Pixels | None = None,
) -> Pixels:
    """Return a frame's pixels, in `out` if they fit it; see `Instance.array`.

    Raises
    ------
    DecodeError, MissingDependencyError
        As `Instance.array`.
    """
    try:
        if not rescale:
            return _read_stored(instance, frame_index, raw=raw, copy=copy, out=out)
        from mmindex.read.units import rescale_frame  # most arrays are as stored

        pixels = _read_stored(instance, frame_index, raw=raw)
        return put(rescale_frame(instance, pixels, frame_index), out)
    except MMIndexError as error:  # `naming` takes as long as a short frame
        error.at(instance.path)
        raise


def _read_stored(
    instance: Instance,
    frame_index: int,
    *,
    raw: bool,
    copy: bool = False,
    out: Pixels | None = None,
) -> Pixels:
    """Return a frame's pixels by the record of its instance."""
    record = instance.record
    frames, image = record.frames, record.image_pixel
    uid = record.transfer_syntax_uid
    if frames is None or not (frames.frame_bits or uid == ENCAPSULATED_UNCOMPRESSED):
        pixels = decode_frame(instance.frame(frame_index), image, uid, raw=raw, out=out)
        return _give(pixels, copy, out)
    if uid:
        check_known(uid)
    if record.swaps_pairs:
        frame = find_place(record, frames, frame_index, in_order=True).read(instance.source)
        pixels = decode_native(frame, image, frame_bits=frames.frame_bits, raw=raw)
        return _give(pixels, copy, out)
    found = _read_plain(instance, frames, frame_index, raw, copy, out)
    if found is not None:
        return found
    frame = instance.frame(frame_index)
    if frames.frame_bits:
        bits, big_endian = frames.frame_bits, record.big_endian
        pixels = decode_native(frame, image, frame_bits=bits, big_endian=big_endian, raw=raw)
    else:
        pixels = decode_frame(frame, image, uid, raw=raw)
    return _give(pixels, copy, out)


def _read_plain(
    instance: Instance,
    frames: FrameTable,
    frame_index: int,
    raw: bool,
    copy: bool,
    out: Pixels | None,
) -> Pixels | None:
    """Return the pixels of a frame that is one run of native samples in whole words, else None.

    They are viewed where they lie, or read into the array that the caller gets: a map may be cut,
    which what is copied must not meet.
    """
    image, big_endian = instance.record.image_pixel, instance.record.big_endian
    bits = frames.frame_bits or native_frame_bits(image)
    run = frames.contiguous_range(frame_index)
    if run is None or not 0 <= run[1] - (bits >> 3) <= (bits >> 3) % 2:  # a fragment may be padded
        return None
    plan = plan_native(image, bits, big_endian, raw)
    if not copy and out is None:
        if not plan.is_view:
            return None
        view = instance.source.view(run[0], bits >> 3)
        return decode_native(view, image, frame_bits=bits, big_endian=big_endian, raw=raw)
    room = make_room(plan, out)
    if room is None:
        return None
    instance.source.read_into(run[0], _bytes_of(room))
    return finish_room(plan, room)


def _give(pixels: Pixels, copy: bool, out: Pixels | None) -> Pixels:
    """Return pixels in `out` if they fit it, else as they are, or writable where `copy` asks."""
    if out is not None:
        return put(pixels, out)
    return pixels.copy() if copy and not pixels.flags.writeable else pixels


def read_once(
    root: bytes,
    stored: StoredPixels,
    *,
    raw: bool,
    rescale: bool = False,
    copy: bool = False,
    out: Pixels | None = None,
) -> Pixels | None:
    """Return the pixels of a frame of a file that is opened for it alone; see `Instance.array`.

    None where the file is missing, another one, or shorter.

    Raises
    ------
    DecodeError, MissingDependencyError
        As `Instance.array`.
    """
    (path, version, offset, length), image, uid, bits, slope_and_intercept = stored
    path = root + b"/" + path
    if bits and uid:
        check_known(uid)
    if bits and not rescale and (copy or out is not None):
        plan = plan_native(image, bits, False, raw)
        room = make_room(plan, out)
        if room is not None:
            found = read_range(path, version, offset, length, _bytes_of(room))
            return None if found is None else finish_room(plan, room)
    frame = read_range(path, version, offset, length)
    if frame is None:
        return None
    if bits:
        pixels = decode_native(frame, image, frame_bits=bits, raw=raw)
    else:
        pixels = decode_frame(frame, image, uid, raw=raw, out=None if rescale else out)
    if rescale and slope_and_intercept is not None:
        from mmindex.read.units import apply_rescale

        pixels = apply_rescale(pixels, *slope_and_intercept)
    return _give(pixels, copy, out)


def _bytes_of(room: Pixels) -> memoryview:
    return room.reshape(-1).view(np.uint8).data


def stack_arrays(
    decode: Decode,
    number: int,
    *,
    executor: Executor | None = None,
    threads: int | None = None,
    out: Pixels | None = None,
    skip: bool = False,
) -> tuple[Pixels, dict[int, MMIndexError]]:
    """Return decoded frames as one array, each decoded into its place.

    Parameters
    ----------
    decode : callable
        From a position and the array to fill (without `out`, None for the first frame, whose
        shape and dtype are those of all) the array of a frame.
    number : int
        How many frames.
    executor, threads, out
        As in `Instance.arrays`.
    skip : bool
        Leave out frames that fail, instead of raising.

    Returns
    -------
    ndarray
        Shape (frames, rows, columns[, samples]): `out` or its beginning, or an array of its own.
    dict
        Positions of frames that were left out, ascending, and why.

    Raises
    ------
    DecodeError
        There are no frames, all fail, or they differ in shape or dtype.
    MMIndexError
        As `decode`, for the first position that fails.
    """
    failures: dict[int, MMIndexError] = {}
    start = 0
    if out is None:
        at, array = _decode_first(decode, number, failures, skip)
        out, start = _make_stack(number, array), at + 1
        _fill(out[at], array)
    elif len(out) < number:
        raise DecodeError(f"expected room for {number} frames in `out`, found {len(out)}")
    elif not out.flags.writeable:
        raise ValueError("`out` is read-only")
    stack = out[:number]
    ending = Event()

    def decode_into(position: int) -> None:
        try:
            place = stack[position]
            _fill(place, decode(position, place))
        except MMIndexError as error:
            failures[position] = error
            if not skip:
                ending.set()

    _run(decode_into, range(start, number), executor, threads, ending)
    if failures and not skip:
        raise failures[min(failures)]
    if len(failures) == number:
        raise _say_none(failures)
    if failures:
        kept = [position for position in range(number) if position not in failures]
        for target, position in enumerate(kept):
            stack[target] = stack[position]
        stack = stack[: len(kept)]
    return stack, dict(sorted(failures.items()))


def _decode_first(
    decode: Decode, number: int, failures: dict[int, MMIndexError], skip: bool
) -> tuple[int, Pixels]:
    """Return position and array of the first frame that can be decoded."""
    for position in range(number):
        try:
            return position, decode(position, None)
        except MMIndexError as error:
            if not skip:
                raise
            failures[position] = error
    raise _say_none(failures)


def _say_none(failures: dict[int, MMIndexError]) -> DecodeError:
    """Return the error where there are no frames, or all of them fail."""
    if not failures:
        return DecodeError("there are no frames to stack")
    return DecodeError(f"none of {len(failures)} frames can be decoded: {failures[0].message}")


def _make_stack(number: int, array: Pixels) -> Pixels:
    """Return room for so many arrays; raises DecodeError where there is no memory for them."""
    try:
        return np.empty((number, *array.shape), array.dtype)
    except (MemoryError, ValueError) as error:  # a damaged header may count any number of frames
        raise DecodeError(f"no memory for {number} frames of {array.nbytes} bytes") from error


def _fill(place: Pixels, array: Pixels) -> None:
    """Copy an array to its place, unless it was decoded there; its byte order may be another."""
    if array is place:
        return
    native = array.dtype.newbyteorder("="), place.dtype.newbyteorder("=")
    if array.shape != place.shape or native[0] != native[1]:
        raise DecodeError(
            f"frames that are stacked have one shape and dtype: expected {place.shape} "
            f"of {place.dtype}, found {array.shape} of {array.dtype}"
        )
    if not np.may_share_memory(place, array):
        place[...] = array


def _run(
    call: Callable[[int], None],
    positions: Sequence[int],
    executor: Executor | None,
    threads: int | None,
    ending: Event,
) -> None:
    """Call a function for every position: here, in an executor, or in threads of its own.

    `ending`, set by `call` or by what ends this, Ctrl-C, too, lets nobody take another position.
    """
    workers = min(threads or 1, len(positions))
    if executor is None and workers <= 1:
        for position in positions:
            if ending.is_set():
                break
            call(position)
        return
    turn = count()  # its next() is atomic
    errors: list[BaseException] = []

    def work() -> None:
        try:
            while not ending.is_set() and (at := next(turn)) < len(positions):
                call(positions[at])
        except BaseException as error:
            ending.set()
            errors.append(error)

    try:
        if executor is not None:  # a task a frame would take as long as a short frame
            tasks = min(len(positions), max(_MOST_TASKS, os.cpu_count() or 1))
            for task in [executor.submit(work) for _ in range(tasks)]:
                task.result()
        else:
            _work_together(work, workers, ending)
    except BaseException:
        ending.set()
        raise
    if errors:
        raise errors[0]


def _work_together(work: Callable[[], None], workers: int, ending: Event) -> None:
    """Call `work` in so many threads, this one among them; all have ended before this returns."""
    ends = [Event() for _ in range(workers - 1)]
    others = [Thread(target=_work_to_end, args=(work, end)) for end in ends]
    try:
        for other in others:
            other.start()
        work()
        for end in ends:
            end.wait()
    except BaseException:
        ending.set()
        raise
    finally:  # a `join` that Ctrl-C ended once takes its thread for ended
        for other, end in zip(others, ends, strict=True):
            if other.ident is not None:
                end.wait()


def _work_to_end(work: Callable[[], None], end: Event) -> None:
    work()
    end.set()
