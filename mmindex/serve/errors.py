"""Status codes of what can go wrong (PS3.18 8.5), with a body that says why.

A body names no path of the server, and no value of a file.
"""

from __future__ import annotations

from mmindex.errors import (
    DecodeError,
    FormatError,
    FrameIndexError,
    IndexFormatError,
    InstanceNotFoundError,
    MissingDependencyError,
    MissingFileError,
    MMIndexError,
    NoPixelDataError,
    NotAddressableError,
    RemoteReadError,
    StaleIndexError,
    is_missing,
)
from mmindex.serve.accept import NotAcceptableError, UnsatisfiableRangeError
from mmindex.serve.current import was_replaced


class RequestError(Exception):
    """A request that is answered with a status code and a sentence.

    Attributes
    ----------
    status : int
        The status code.
    message : str
        What is wrong.
    headers : tuple of (bytes, bytes)
        Headers that go with it.
    """

    def __init__(
        self, status: int, message: str, headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers


_STATUS_CODES: tuple[tuple[type[MMIndexError], int], ...] = (
    (InstanceNotFoundError, 404),
    (FrameIndexError, 404),
    (NoPixelDataError, 404),
    (StaleIndexError, 410),
    (MissingFileError, 410),
    (NotAddressableError, 406),
    (DecodeError, 406),
    (MissingDependencyError, 501),
    (IndexFormatError, 503),
    (FormatError, 404),  # the frame or the header is not there to be sent
    (MMIndexError, 503),  # the index cannot be opened or read now
)


def explain(error: Exception) -> RequestError | None:
    """Return how an error is answered; None for one that is a fault of the server."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, NotAcceptableError):
        return RequestError(406, str(error))
    if isinstance(error, UnsatisfiableRangeError):
        content_range = (b"content-range", f"bytes */{error.size}".encode())
        return RequestError(416, str(error), (content_range,))
    if was_replaced(error):
        return RequestError(503, "the index was replaced: ask again", ((b"retry-after", b"1"),))
    if isinstance(error, RemoteReadError):  # its message may name the store
        return RequestError(502, "the object store does not give the bytes: ask again")
    if isinstance(error, MMIndexError):
        for kind, status in _STATUS_CODES:
            if isinstance(error, kind):
                return RequestError(status, error.message)
    if isinstance(error, OSError):
        if is_missing(error):
            return RequestError(410, "the file is gone")
        return RequestError(503, f"the file cannot be read: {error.strerror or 'unknown error'}")
    return None
