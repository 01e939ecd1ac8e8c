"""Room in the folder of temporary files, which scans of whole objects share."""

from __future__ import annotations

import pytest
from child_process import exit_code, forks

from mmindex.sources import temporary_room as module
from mmindex.sources.temporary_room import temporary_room

pytestmark = forks
MUCH = 1 << 62  # more than any disk has


def scan_alone() -> None:
    with temporary_room(MUCH):
        pass


@pytest.mark.parametrize("scans", [1, module._AT_ONCE])
def test_a_process_that_was_forked_meanwhile_waits_for_no_scan_of_its_parent(scans: int) -> None:
    """Its parent's scans do not run in it: they take no room, and give none back."""
    module._taken.extend([1] * scans)
    try:
        assert exit_code(scan_alone) == 0
        assert module._taken == [1] * scans
    finally:
        module._taken.clear()


def test_a_process_that_was_forked_while_the_lock_was_held_has_one_of_its_own() -> None:
    """The thread that would release it is not there."""
    with module._changed:
        assert exit_code(scan_alone) == 0
