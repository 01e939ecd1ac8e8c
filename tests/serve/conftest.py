from __future__ import annotations

from collections.abc import Iterator

import pytest
from served_archive import Served, Server, write_archive

import mmindex


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    from mmindex.serve import application

    folder = tmp_path_factory.mktemp("served")
    write_archive(folder)
    mmindex.build(folder)
    server = Server(application(folder))
    yield Served(folder, server.url)
    server.stop()
