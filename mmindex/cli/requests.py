"""What `-v` prints of requests to stores: which bytes of which object were read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mmindex.cli.printing import plain, print_message
from mmindex.sources.requests import Request, watching


@contextmanager
def telling_requests(*, is_told: bool) -> Iterator[None]:
    """Print each request that a store answers on standard error, for a `with` statement."""
    if not is_told:
        yield
        return
    with watching(_print):
        yield


def _print(request: Request) -> None:
    read = f"bytes {request.offset}-{request.offset + request.length - 1}"
    print_message(f"{plain(request.name)}: {read if request.length else 'asked'}")
