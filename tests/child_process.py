"""What is done in a forked child, which may hang or die; and what is done in little memory."""

from __future__ import annotations

import os
import signal
import sys
import traceback
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")

LITTLE = 4 << 20  # bytes of memory that a refusal may take
LONGEST = 60  # seconds after which a child that hangs is killed


def exit_code(work: Callable[[], object]) -> int:
    """Return the exit code of a child that does `work`; that of a signal is negative.

    A child that hangs is killed, and what it forked with it.
    """
    child = os.fork()
    if not child:
        code = 1
        try:
            os.setpgid(0, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(LONGEST)
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
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
