"""OwnLock: threads of a process wait for each other, a forked child for none of its parent's."""

from __future__ import annotations

import threading

import pytest
from child_process import exit_code, forks

from mmindex.own_lock import OwnLock


def test_threads_take_turns() -> None:
    lock, inside, most = OwnLock(), [0], [0]

    def work() -> None:
        for _ in range(2000):
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


@forks
@pytest.mark.parametrize("by_this_thread", [False, True])
def test_a_child_does_not_wait_for_its_parent(by_this_thread: bool) -> None:
    """Whether another thread holds the lock or the one that forks."""
    lock = OwnLock()
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            entered.set()
            leave.wait()

    def enter() -> None:
        with lock:
            pass

    thread = threading.Thread(target=hold)
    if by_this_thread:
        with lock:
            assert exit_code(enter) == 0
    else:
        thread.start()
        entered.wait()
        assert exit_code(enter) == 0
        leave.set()
        thread.join()
    enter()


@forks
def test_threads_of_a_child_share_one_lock() -> None:
    """Whichever of them is the first to take it."""
    lock = OwnLock()
    with lock:
        pass

    def work() -> bool:
        inside, wrong = [0], []
        start = threading.Barrier(4)

        def enter() -> None:
            start.wait()
            with lock:
                inside[0] += 1
                wrong.extend([inside[0]] * (inside[0] > 1))
                inside[0] -= 1

        for _ in range(100):
            threads = [threading.Thread(target=enter) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return not wrong

    assert exit_code(work) == 0
