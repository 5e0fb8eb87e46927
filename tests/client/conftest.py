"""The real servers of the end-to-end tests, and a program of each kind that uses them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.client.programs import Program
from tests.e2e.conftest import (
    cluster,
    make_cluster,
    make_server,
    own_server,
    pytest_runtest_makereport,
    server,
    shared_cluster,
)
from tests.e2e.process import ServerProcess

__all__ = [
    "cluster",
    "make_cluster",
    "make_server",
    "own_server",
    "pytest_runtest_makereport",
    "server",
    "shared_cluster",
]


@pytest.fixture(params=["sync", "asyncio"])
async def program(request: pytest.FixtureRequest) -> AsyncIterator[Program]:
    """With threads, and with asyncio."""
    made = Program(request.param)
    yield made
    await made.close()


@pytest.fixture
def r(program: Program, server: ServerProcess) -> Any:
    """The program's client of the shared server."""
    return program.client(server.port)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Of a lock that no other test uses."""
    return f"{request.module.__name__}/{request.node.name}"
