"""Real servers for the end-to-end tests.

    server        one that the tests of a module share: they use keys of their own and leave it be
    make_server   makes one of the test's own, to kill and restart
    make_cluster  makes a cluster of the test's own
    cluster       three nodes that the tests of a module share, whole again after each of them

A test that fails shows the logs of the servers that it used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.process import ServerProcess

_SERVERS = pytest.StashKey[list[ServerProcess]]()
_FAILED = pytest.StashKey[bool]()
_LOG_CHARACTERS_MAX = 8_000

MakeServer = Callable[..., ServerProcess]
MakeCluster = Callable[..., Cluster]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here starts the real server."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[_FAILED] = True
        shared = getattr(item, "funcargs", {}).get("server")
        for server in [*([shared] if shared else []), *item.stash.get(_SERVERS, [])]:
            title = f"log of the server in {server.directory}"
            report.sections.append((title, server.log()[-_LOG_CHARACTERS_MAX:]))
    return report


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that a module's tests share."""
    shared = ServerProcess(tmp_path_factory.mktemp("server"))
    try:
        yield shared.start()
        assert shared.terminate() == 0
        shared.assert_clean_log()
    finally:
        shared.discard()


@pytest.fixture
def make_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeServer]:
    """Makes a server that is not started yet; see ServerProcess for the arguments."""
    made: list[ServerProcess] = []
    request.node.stash[_SERVERS] = made

    def make(*options: str, **more: object) -> ServerProcess:
        made.append(ServerProcess(tmp_path / f"server{len(made)}", *options, **more))
        return made[-1]

    yield make
    for server in made:
        server.discard()
    for server in made:
        server.assert_clean_log()


@pytest.fixture
def own_server(make_server: MakeServer) -> ServerProcess:
    """A running server of the test's own, with the usual settings."""
    return make_server().start()


@pytest.fixture
def make_cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeCluster]:
    """Makes a cluster that is not started yet; see Cluster for the arguments."""
    made: list[Cluster] = []
    shown = request.node.stash.setdefault(_SERVERS, [])

    def make(*arguments: object, **more: object) -> Cluster:
        made.append(Cluster(tmp_path / f"cluster{len(made)}", *arguments, **more))
        shown.extend(made[-1])
        return made[-1]

    yield make
    for cluster in made:
        cluster.discard()
    for cluster in made:
        cluster.assert_clean_logs()


class SharedCluster:
    """A cluster for a module's tests. One that a test has failed on is given up for a new one."""

    def __init__(self, directories: pytest.TempPathFactory) -> None:
        self._directories = directories
        self._cluster: Cluster | None = None

    def take(self) -> Cluster:
        if self._cluster is None:
            self._cluster = Cluster(self._directories.mktemp("cluster"))
        return self._cluster

    def give_up(self) -> None:
        if self._cluster is not None:
            self._cluster.discard()
            self._cluster = None


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedCluster]:
    shared = SharedCluster(tmp_path_factory)
    yield shared
    shared.give_up()


@pytest.fixture
def cluster(request: pytest.FixtureRequest, shared_cluster: SharedCluster) -> Iterator[Cluster]:
    """Three nodes, whole at the beginning."""
    taken = shared_cluster.take()
    request.node.stash[_SERVERS] = list(taken)
    try:
        yield taken.start()
        taken.assert_clean_logs()
    finally:
        if request.node.stash.get(_FAILED, False):
            shared_cluster.give_up()
