"""Requests to stores, as a user sees them: a line each with -v, or how many on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

import click

from mmindex.cli.printing import counted, print_message, rounded_size

if TYPE_CHECKING:
    from mmindex.sources.requests import Request


class RequestCounter:
    """The number of requests that were answered, and their bytes."""

    def __init__(self, *, verbose: bool = False) -> None:
        self.requests = self.bytes = 0
        self._verbose = verbose
        self._lock = Lock()  # many threads read

    def take(self, request: Request) -> None:
        """Count a request; print it where all are to be."""
        with self._lock:
            self.requests += 1
            self.bytes += request.length
            if self._verbose:
                last = request.offset + request.length - 1
                says = f"bytes {request.offset}-{last} of " if request.length else "version of "
                print_message(says + request.name)

    def __str__(self) -> str:
        count = counted(self.requests, "request", grouped=True)
        return f"{count}, {rounded_size(self.bytes)}"


def print_requests(ctx: click.Context, _: click.Parameter, verbose: bool) -> bool:
    """Print each request while a command runs, and how many there were, if `verbose`."""
    if verbose and not ctx.resilient_parsing:
        from mmindex.sources.requests import watching

        counter = RequestCounter(verbose=True)
        ctx.with_resource(watching(counter.take))
        ctx.call_on_close(lambda: print_message(str(counter)) if counter.requests else None)
    return verbose


verbose_option = click.option(
    *("-v", "--verbose"),
    is_flag=True,
    expose_value=False,
    callback=print_requests,
    help="Print what is read of URLs: each range.",
)


@contextmanager
def telling_requests(*, is_told: bool) -> Iterator[None]:
    """Print each request of a build, unless its log is for programs."""
    if not is_told:
        yield
        return
    from mmindex.sources.requests import watching

    with watching(RequestCounter(verbose=True).take):
        yield
