"""Real servers for the end-to-end tests.

    server        one that the tests of a module share: they use keys of their own and leave it be
    make_server   makes one of the test's own, to kill and restart

A test that fails shows the logs of the servers that it used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.process import ServerProcess

_SERVERS = pytest.StashKey[list[ServerProcess]]()
_LOG_CHARACTERS_MAX = 8_000

MakeServer = Callable[..., ServerProcess]


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
