"""Cases: tiles of a slide on a web server (nginx) and in a bucket (SeaweedFS), on loopback.

Beside mmindex: pydicom and wsidicom over fsspec, whose caches of blocks are off where they read
single tiles, and the bare call of obstore, which looks at no version. Wall time has the work of the
server in it, the same for all; rows of processor time have that of the client alone.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import mmindex
from scripts.benchmark.cases import Case, Setup, Site
from scripts.benchmark.measure import Bench, Call, Contender, opened, tell
from scripts.benchmark.model import MMINDEX
from scripts.benchmark.openers import read_with_pydicom
from scripts.benchmark.slide import open_with_wsidicom, write_slide

BARE_GET = "obstore.get_range"
BARE_GETS = "obstore.get_ranges"
CHECKED_GETS = "obstore.get_async, ETags compared"
FSSPEC_PYDICOM = "pydicom over fsspec"
FSSPEC_WSIDICOM = "wsidicom over fsspec"
KEY = "slide.dcm"  # of the slide in its store
MOST = 1.5  # times the bare call
MANY = 500  # tiles of a batch
WEIGHED = 400  # reads of which processor time is measured


def list_remote(bench: Bench) -> Iterator[Setup]:
    """Yield a slide over HTTP, then over S3; a server that is not installed is left out."""
    side = 24 if bench.quick else 64
    for says, make in (("HTTP, nginx", _serve_http), ("S3, SeaweedFS", _serve_s3)):
        yield f"{side * side} tiles over {says}", partial(_list_cases, make, side)


class Remote:
    """A slide that is served: by obstore in `store`, by fsspec at `url` with `options`."""

    def __init__(
        self, site: Site, where: str, store: Any, url: str, options: dict[str, Any], tiles: Any
    ) -> None:
        self.stack = site.stack
        self.where = where  # what rows call the server
        self.store = store
        self.url = url
        self.options = options
        self.tiles: list[bytes] = tiles  # what has to be read
        instance = self.stack.enter_context(self.open(prove=True))
        self.frame, self.frames = instance.frame, instance.frames  # as an index of it has them
        self.pieces = [instance.byte_ranges(index)[0] for index in range(len(tiles))]

    def open(self, *, prove: bool = False) -> mmindex.Instance:
        """Open the slide with mmindex."""
        return mmindex.open_file(f"s3://bench/{KEY}", store=self.store, prove=prove)

    def list_cases(self) -> Iterator[Case]:
        """Yield single tiles by wall and by processor time, batches, and what opening takes."""
        order = list(range(len(self.tiles)))
        random.Random(1).shuffle(order)
        frames = [(index,) for index in order]
        tile = {"arguments": frames, "expected": self.tiles.__getitem__}
        readers = [
            Contender(MMINDEX, self.frame, **tile),
            opened(FSSPEC_PYDICOM, self.open_pydicom, **tile),
            opened(FSSPEC_WSIDICOM, self.open_wsidicom, **tile),
            Contender(BARE_GET, self.get, **tile),
        ]
        yield Case(f"remote: a random tile, {self.where}", readers, limit=BARE_GET, bound=MOST)
        yield Case(
            f"remote: processor time of a random tile, {self.where}",
            [
                Contender(each.name, partial(_weigh, each.call, order), [()] * 5, note=each.note)
                for each in readers
            ],
            limit=BARE_GET,
            bound=MOST,
            unit="CPU",
        )
        many = {"arguments": [(order[:MANY],)], "expected": self.expect}
        yield Case(
            f"remote: {len(order[:MANY])} random tiles at once, {self.where}",
            [
                Contender(MMINDEX, self.frames, **many),
                Contender(BARE_GETS, self.get_many, **many),
                opened(CHECKED_GETS, self.prepare_checked, **many),
            ],
            limit=BARE_GETS,
            bound=MOST,
        )
        first = {"arguments": frames[:9], "expected": self.tiles.__getitem__}
        yield Case(
            f"remote: open the slide, read a tile, {self.where}",
            [
                Contender(MMINDEX, self.read_first, **first),
                Contender(FSSPEC_PYDICOM, lambda index: self.open_pydicom()(index), **first),
                Contender(FSSPEC_WSIDICOM, lambda index: self.open_wsidicom()(index), **first),
            ],
        )

    def read_first(self, index: int) -> bytes:
        """Open the slide by its table, read a tile."""
        with self.open() as instance:
            return instance.frame(index)

    def open_pydicom(self) -> Callable[[int], bytes]:
        """Parse the header, then let `get_frame` look in a file of fsspec."""
        import fsspec

        opened = fsspec.open(self.url, "rb", **self.options)
        return read_with_pydicom(self.stack.enter_context(opened))

    def open_wsidicom(self) -> Callable[[int], bytes]:
        """Open with wsidicom by fsspec; wsidicom keeps no tile that it read."""
        slide = open_with_wsidicom(self.url, self.stack, file_options=self.options)
        side = round(len(self.tiles) ** 0.5)
        return lambda index: slide.read_encoded_tile(0, (index % side, index // side))

    def get(self, index: int) -> bytes:
        """Read a range that is known, and look at no version."""
        import obstore

        start, length = self.pieces[index]
        return bytes(obstore.get_range(self.store, KEY, start=start, length=length))

    def get_many(self, indices: list[int]) -> list[bytes]:
        """Read ranges, each by a request."""
        import obstore

        starts, lengths = zip(*(self.pieces[index] for index in indices), strict=True)
        found = obstore.get_ranges(self.store, KEY, starts=starts, lengths=lengths, coalesce=0)
        return list(map(bytes, found))

    def prepare_checked(self) -> Callable[[list[int]], list[bytes]]:
        """Read ranges, each by a request whose answer has to have the object's ETag."""
        import obstore

        e_tag = obstore.head(self.store, KEY)["e_tag"]

        async def get(index: int) -> bytes:
            start, length = self.pieces[index]
            options: Any = {"range": (start, start + length), "if_match": e_tag}
            result = await obstore.get_async(self.store, KEY, options=options)
            if result.meta["e_tag"] != e_tag:
                raise ValueError("the object changed")
            return bytes(await result.bytes_async())

        async def gather(indices: list[int]) -> list[bytes]:
            return await asyncio.gather(*map(get, indices))

        return lambda indices: asyncio.run(gather(indices))

    def expect(self, indices: list[int]) -> list[bytes]:
        """Return what a batch has to be."""
        return [self.tiles[index] for index in indices]


def _weigh(read: Call, order: list[int]) -> float:
    """Return the seconds of this process that a read takes."""
    wanted = order[:WEIGHED]
    start = time.process_time()
    for index in wanted:
        read(index)
    return (time.process_time() - start) / len(wanted)


def _list_cases(make: Callable[[int, Site], Remote], side: int, site: Site) -> Iterable[Case]:
    from sources.real_servers import NotInstalledError

    try:
        remote = make(side, site)
    except NotInstalledError as error:
        tell(f"remote: {error}; not measured")
        return
    yield from remote.list_cases()


def _serve_http(side: int, site: Site) -> Remote:
    from obstore.store import HTTPStore
    from sources.real_servers import run_nginx

    url, served = site.stack.enter_context(run_nginx(site.folder))
    tiles = write_slide(served / KEY, side)
    store = HTTPStore(url, client_options={"allow_http": True})
    return Remote(site, "HTTP", store, f"{url}/{KEY}", {"cache_type": "none"}, tiles)


def _serve_s3(side: int, site: Site) -> Remote:
    import obstore
    from sources.real_servers import run_seaweedfs

    store, how = site.stack.enter_context(run_seaweedfs(site.folder))
    written = site.folder / KEY
    tiles = write_slide(written, side)
    obstore.put(store, KEY, written.read_bytes())
    options = {
        "key": how["access_key_id"],
        "secret": how["secret_access_key"],
        "endpoint_url": how["endpoint"],
        "default_cache_type": "none",
    }
    return Remote(site, "S3", store, f"s3://archive/{KEY}", options, tiles)
