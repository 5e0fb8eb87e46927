"""What several tests of the server use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.redis_process import RedisProcess
from tests.server.fakes import FakeServer


@pytest.fixture
def server() -> FakeServer:
    """A server whose engine answers when it is told to."""
    return FakeServer()


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisProcess]:
    """A real redis-server to compare with."""
    server = RedisProcess()
    yield server
    server.stop()
