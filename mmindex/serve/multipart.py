"""Messages of several parts: multipart/related (RFC 2387, PS3.18 8.6.1.2)."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

Body = bytes | bytearray | memoryview


class Multipart:
    """Writes multipart/related messages.

    The boundary is random and made once: no file can have been written to contain it.
    """

    def __init__(self) -> None:
        self.boundary = f"mmindex-{secrets.token_hex(16)}"
        self._opening = f"--{self.boundary}\r\nContent-Type: ".encode()
        self._next = b"\r\n" + self._opening
        self.closing = f"\r\n--{self.boundary}--\r\n".encode()

    def content_type(self, media_type: str) -> bytes:
        """Return the message's Content-Type; the parts are of `media_type`."""
        return f'multipart/related; type="{media_type}"; boundary={self.boundary}'.encode()

    def part_head(
        self, content_type: bytes, location: bytes = b"", *, first: bool = False
    ) -> bytes:
        """Return what stands before the bytes of a part."""
        head = (self._opening if first else self._next) + content_type
        if location:
            head += b"\r\nContent-Location: " + location
        return head + b"\r\n\r\n"

    def list_pieces(self, bodies: Sequence[Body], content_type: bytes) -> list[Body]:
        """Return the pieces of a whole message of parts of one type; no body is copied."""
        pieces: list[Body] = []
        for at, body in enumerate(bodies):
            pieces += [self.part_head(content_type, first=not at), body]
        return [*pieces, self.closing]
