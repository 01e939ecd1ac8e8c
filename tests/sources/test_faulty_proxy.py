"""Reads through a proxy that breaks answers: the right bytes or an error, within bounded time."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from sources.faulty_proxy import FAULTS, FaultyProxy
from sources.loopback import patient

from mmindex.errors import MMIndexError, RemoteReadError, StaleIndexError
from mmindex.sources.object_store import ObjectSource

obstore = pytest.importorskip("obstore", reason="object stores need obstore")
stores = pytest.importorskip("obstore.store")

SIZE = 1 << 19
DATA = random.Random(2).randbytes(SIZE)

RIGHT = ("delay", "cut", "reset", "429", "500", "503", "504", "garbage")
STALE = ("changed", "changed unnoticed", "other size")
HARMLESS_ALONE = ("delay",)  # without a retry, too


def connect(proxy: FaultyProxy, retries: int = 8) -> ObjectSource:
    store = stores.HTTPStore(proxy.url.removesuffix("/a.dcm"), **patient(retries))
    return ObjectSource(store, "a.dcm", proxy.url)


def read_many_times(number: int, share: float) -> Counter[str]:
    """Return how reads ended: "right", or the name of an error; never anything else."""
    with FaultyProxy(DATA, share) as proxy:
        source = connect(proxy)

        def read(seed: int) -> str:
            at = random.Random(seed)
            offset = at.randrange(SIZE)
            length = at.randrange(1, min(8_000, SIZE - offset) + 1)
            try:
                if seed % 5:
                    found = [source.read(offset, length)]
                    expected = [DATA[offset : offset + length]]
                else:
                    found = source.read_many([(offset, length), (9, 90)])
                    expected = [DATA[offset : offset + length], DATA[9:99]]
            except MMIndexError as error:
                return type(error).__name__
            assert found == expected, (seed, offset, length)
            return "right"

        with ThreadPoolExecutor(16) as threads:
            return Counter(threads.map(read, range(number)))


def test_2000_reads_are_right_or_errors() -> None:
    """A quarter of the answers are broken."""
    ended = read_many_times(2000, 0.25)
    assert set(ended) == {"right", "RemoteReadError", "StaleIndexError"}
    assert ended["right"] > 1200


@pytest.mark.long
def test_100000_reads_are_right_or_errors() -> None:
    """None wrong, none short, none for ever."""
    ended = read_many_times(100_000, 0.1)
    assert ended.total() == 100_000
    assert set(ended) == {"right", "RemoteReadError", "StaleIndexError"}
    assert ended["right"] > 80_000


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_stays_is_an_error(fault: str) -> None:
    """Each alone, at every answer: the bytes where they came whole, else the error that fits."""
    with FaultyProxy(DATA) as proxy:
        source = connect(proxy, retries=2)
        proxy.share, proxy.faults = 1.0, (fault,)
        expected: type[Exception] = StaleIndexError if fault in STALE else RemoteReadError
        for offset, length in ((100, 5000), (0, 16), (SIZE - 500, 500)):
            if fault in HARMLESS_ALONE:
                assert source.read(offset, length) == DATA[offset : offset + length]
                continue
            with pytest.raises(expected, match=r"http://.*/a\.dcm"):
                source.read(offset, length)
        assert proxy.gets <= 3 * 9
        assert proxy.endless_sent < 3 * (32 << 20)  # what sockets hold, not what is read


@pytest.mark.parametrize("fault", RIGHT)
def test_a_fault_that_passes_is_retried(fault: str) -> None:
    """Half of the answers are broken, and the bytes are right all the same."""
    with FaultyProxy(DATA, 0.3, (fault,)) as proxy:
        proxy.share = 0.0
        source = connect(proxy, retries=20)
        proxy.share = 0.3
        right = 0
        for at in range(30):
            try:
                assert source.read(at * 100, 5000) == DATA[at * 100 :][:5000]
                right += 1
            except RemoteReadError:
                assert fault in ("cut", "garbage")
        assert right >= (30 if fault not in ("cut", "garbage") else 15)


def test_retries_are_told() -> None:
    """How often a request was sent again is in the error."""
    with FaultyProxy(DATA) as proxy:
        source = connect(proxy, retries=2)
        proxy.share, proxy.faults = 1.0, ("503",)
        with pytest.raises(RemoteReadError, match="after 2 retries"):
            source.read(0, 5)
        assert proxy.gets == 3
