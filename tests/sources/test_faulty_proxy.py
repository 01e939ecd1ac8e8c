"""Reads through a proxy that breaks answers: the right bytes or an error, within bounded time."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from time import monotonic

import pytest
from sources.faulty_proxy import FAULTS, STALLS, FaultyProxy
from sources.loopback import patient
from sources.range_server import RangeServer

from mmindex.errors import MMIndexError, RemoteReadError, StaleIndexError
from mmindex.sources.object_store import ObjectSource
from mmindex.sources.stores import find_store

obstore = pytest.importorskip("obstore", reason="object stores need obstore")
stores = pytest.importorskip("obstore.store")

SIZE = 1 << 19
DATA = random.Random(2).randbytes(SIZE)

RIGHT = ("delay", "cut", "reset", "429", "500", "503", "504", "garbage")
STALE = ("changed", "changed unnoticed", "other size")
HARMLESS_ALONE = ("delay",)  # without a retry, too


def connect(proxy: FaultyProxy, retries: int = 8, **timeouts: str) -> ObjectSource:
    store = stores.HTTPStore(proxy.url.removesuffix("/a.dcm"), **patient(retries, **timeouts))
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


@pytest.mark.parametrize("fault", STALLS)
def test_an_answer_that_stands_still_is_an_error_in_bounded_time(fault: str) -> None:
    """Before the headers, after them, in the body; one that trickles has the time of an answer."""
    with FaultyProxy(DATA) as proxy:
        timeouts = {"timeout": "300ms"} if fault == "trickle" else {"read_timeout": "300ms"}
        source = connect(proxy, retries=2, **timeouts)
        proxy.share, proxy.faults = 1.0, (fault,)
        begun = monotonic()
        with pytest.raises(RemoteReadError, match=r"http://.*/a\.dcm"):
            source.read(100, 5000)
        assert monotonic() - begun < 10  # far less; each answer would take 3 s
        assert proxy.gets == 3
        proxy.share = 0.0
        assert source.read(100, 5000) == DATA[100:5100]


@pytest.mark.parametrize("fault", STALLS)
def test_an_answer_that_stood_still_is_retried(fault: str) -> None:
    """Another answer comes, and the bytes are right."""
    with FaultyProxy(DATA) as proxy:
        timeouts = {"timeout": "300ms"} if fault == "trickle" else {"read_timeout": "300ms"}
        source = connect(proxy, retries=5, **timeouts)
        proxy.share, proxy.faults, proxy.most_faults = 1.0, (fault,), 1
        assert source.read(100, 5000) == DATA[100:5100]
        assert proxy.gets == 2


def test_a_slow_answer_that_goes_on_is_no_fault() -> None:
    """The store of a URL has a deadline for a standstill, and a long one for all of an answer."""
    options = find_store("http://127.0.0.1").client_options
    assert options["read_timeout"] in ("30s", timedelta(seconds=30))
    assert options["timeout"] in ("30m", timedelta(minutes=30))
    with FaultyProxy(DATA, 1.0, ("slow",)) as proxy:
        source = connect(proxy, retries=0, read_timeout="300ms")
        assert source.read(100, 5000) == DATA[100:5100]  # it takes 0.9 s


@pytest.mark.parametrize("e_tags", [True, False])
def test_a_cut_body_is_not_gone_on_with_from_another_object(e_tags: bool) -> None:
    """Without an ETag there is no retry from the middle; with one, If-Match tells."""
    with RangeServer(e_tags=e_tags) as server:
        server.objects["/a"] = DATA
        source = ObjectSource(stores.HTTPStore(server.url, **patient(4)), "a", "a")
        answers = iter(["cut", "other"])
        server.faults = lambda path: next(answers, "")
        with pytest.raises((RemoteReadError, StaleIndexError)):
            source.read(0, SIZE)
        server.objects["/a"], server.modified = DATA[::-1], server.modified + 5
        with pytest.raises(StaleIndexError):
            source.read(0, 5)
