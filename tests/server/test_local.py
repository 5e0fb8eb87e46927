"""What a node says of itself: CONFIG GET, INFO, RAFT.SNAPSHOT."""

from __future__ import annotations

from typing import Any

import pytest

from resplock import limits
from resplock.server.snapshotting import SnapshotTaken
from tests.server.fakes import FakeClient, FakeServer


@pytest.fixture
def client(server: FakeServer) -> FakeClient:
    return server.connect()


def ask(server: FakeServer, client: FakeClient, *argv: bytes) -> Any:
    client.call(*argv)
    server.loop.run()  # each slow command ends its turn
    [reply] = client.take()
    return reply


def test_maxclients_is_what_holds_and_not_what_was_wished(
    server: FakeServer, client: FakeClient
) -> None:
    server.clients.maxclients = 77
    assert ask(server, client, b"CONFIG", b"GET", b"maxclients") == [b"maxclients", b"77"]
    assert b"maxclients:77\r\n" in ask(server, client, b"INFO", b"clients")


@pytest.mark.parametrize(
    "parameters",
    [
        [b"port"] * limits.CONFIG_PATTERNS_MAX,
        [b"*" * 1_024] * (limits.CONFIG_PATTERNS_BYTES_MAX // 1_024),
    ],
)
def test_config_get_takes_many_patterns(
    server: FakeServer, client: FakeClient, parameters: list[bytes]
) -> None:
    assert b"port" in ask(server, client, b"CONFIG", b"GET", *parameters)


@pytest.mark.parametrize(
    "parameters",
    [
        [b"port"] * (limits.CONFIG_PATTERNS_MAX + 1),
        [b"*" * 1_024] * (limits.CONFIG_PATTERNS_BYTES_MAX // 1_024) + [b"*"],
    ],
)
def test_config_get_takes_no_flood_of_patterns(
    server: FakeServer, client: FakeClient, parameters: list[bytes]
) -> None:
    reply = ask(server, client, b"CONFIG", b"GET", *parameters)
    assert str(reply) == "ERR CONFIG GET: at most 64 parameters, together of at most 4096 bytes"


def test_a_snapshot_of_what_one_has_already_is_not_taken(
    server: FakeServer, client: FakeClient
) -> None:
    server.engine.node.core.applied_index = 7
    client.call(b"RAFT.SNAPSHOT")
    [then] = server.engine.snapshot_waiters
    server.engine.snapshots.last = SnapshotTaken(7, 1, 123, 4)
    then(server.engine.snapshots.last)
    server.loop.run()
    [first] = client.take()
    assert first == [b"index", 7, b"term", 1, b"bytes", 123, b"duration_ms", 4]
    assert ask(server, client, b"RAFT.SNAPSHOT") == first
    assert len(server.engine.snapshot_waiters) == 1
    server.engine.node.core.applied_index = 8
    client.call(b"RAFT.SNAPSHOT")
    server.loop.run()
    assert client.take() == []
    assert len(server.engine.snapshot_waiters) == 2
