"""What is done in a forked child, which may hang or die; and what is done in little memory."""

from __future__ import annotations

import os
import signal
import sys
import traceback
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")

LITTLE = 4 << 20  # bytes of memory that a refusal may take
LONGEST = 60  # seconds after which a child that hangs is killed


def exit_code(work: Callable[[], object]) -> int:
    """Return the exit code of a child that does `work`; see `wait_for`."""
    return wait_for(start(work))


def start(work: Callable[[], object]) -> int:
    """Fork a child that does `work`, and return its process id.

    The child exits with 0, or with 1 where `work` returns False or raises. A child that hangs is
    killed.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)  # there are threads
        child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(LONGEST)
        code = 1 if work() is False else 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def wait_for(child: int) -> int:
    """Return a child's exit code, that of a signal negative; kill what the child forked."""
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    return code


@contextmanager
def little_memory() -> Iterator[None]:
    """Fail where what is done in the `with` takes more memory than `LITTLE`."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < LITTLE
