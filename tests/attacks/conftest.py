"""Servers to attack. One for all tests of a module, unless a test needs its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attacks.server import Server

PASSWORD = b"correct horse"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a password."""
    with Server(tmp_path_factory.mktemp("guarded"), password=PASSWORD) as server:
        yield server
