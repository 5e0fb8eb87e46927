"""What a node says of itself: CONFIG, INFO, RAFT.SNAPSHOT."""

from __future__ import annotations

import re
from typing import Any

import pytest

from resplock import limits
from resplock.resp.commands.server_commands import SETTABLE
from resplock.server.local.config import SETTINGS
from resplock.server.local.context import Rate
from resplock.server.local.info import SECTIONS
from resplock.server.snapshotting import SnapshotTaken
from tests.redis_process import RedisProcess
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


def test_config_set_changes_what_can_be_changed(server: FakeServer, client: FakeClient) -> None:
    assert ask(server, client, b"CONFIG", b"SET", b"TimeOut", b"7", b"maxclients", b"99") == b"OK"
    reply = ask(server, client, b"CONFIG", b"GET", b"timeout", b"maxc*")
    assert reply == [b"maxclients", b"99", b"timeout", b"7"]


@pytest.mark.parametrize("name", list(SETTINGS))
def test_config_set_takes_what_a_setting_is_already(
    server: FakeServer, client: FakeClient, name: str
) -> None:
    [_, value] = ask(server, client, b"CONFIG", b"GET", name.encode())
    assert ask(server, client, b"CONFIG", b"SET", name.encode(), value) == b"OK"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("timeout -1", "argument must be between 0 and 2147483647 inclusive"),
        ("timeout x", "argument couldn't be parsed into an integer"),
        ("timeout 1_0", "argument couldn't be parsed into an integer"),
        ("timeout 5 timeout 6", "duplicate parameter"),
        ("timeout 5 port x", "can't set immutable config"),
        ("notify-keyspace-events XYZ", "Invalid event class character. Use 'Ag$lshzxeKEtmdn'."),
    ],
)
def test_config_set_changes_nothing_when_one_is_wrong(
    server: FakeServer, client: FakeClient, words: str, reason: str
) -> None:
    reply = ask(server, client, b"CONFIG", b"SET", *words.encode().split())
    name = words.split()[-2]
    assert str(reply) == f"ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}"
    assert ask(server, client, b"CONFIG", b"GET", b"timeout") == [b"timeout", b"0"]


def test_config_set_of_what_there_is_not(server: FakeServer, client: FakeClient) -> None:
    reply = ask(server, client, b"CONFIG", b"SET", b"fl\ny", b"me")
    assert str(reply) == "ERR Unknown option or number of arguments for CONFIG SET - 'fl\\ny'"


def test_the_table_says_what_can_be_changed() -> None:
    able = {name for name, setting in SETTINGS.items() if setting.prepare is not None}
    assert able == {*SETTABLE, "notify-keyspace-events"}


def test_counters_begin_anew(server: FakeServer, client: FakeClient) -> None:
    server.connect().transport.close()
    ask(server, client, b"PING")
    assert ask(server, client, b"CONFIG", b"RESETSTAT") == b"OK"
    stats = fields(ask(server, client, b"INFO", b"stats"))
    assert stats["total_connections_received"] == "0"
    assert stats["total_commands_processed"] == "1"  # CONFIG RESETSTAT itself, or this one


# --- INFO ----------------------------------------------------------------------------------------


def fields(text: bytes) -> dict[str, str]:
    """The fields of INFO."""
    return dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)


def titles(text: bytes) -> list[str]:
    return [line[2:] for line in text.decode().splitlines() if line.startswith("# ")]


def test_info_shows_the_sections_that_are_named(server: FakeServer, client: FakeClient) -> None:
    assert titles(ask(server, client, b"INFO", b"LOCKS", b"server")) == ["Server", "Locks"]
    assert titles(ask(server, client, b"INFO", b"nothing")) == []
    usual = titles(ask(server, client, b"INFO"))
    assert {"Server", "Memory", "Raft", "Keyspace"} <= set(usual)
    assert titles(ask(server, client, b"INFO", b"default", b"nothing")) == usual
    for every in (b"all", b"everything"):
        assert titles(ask(server, client, b"INFO", every)) == list(SECTIONS)


TOOLS_READ = """
redis_version redis_mode os arch_bits process_id run_id tcp_port uptime_in_seconds uptime_in_days
executable config_file hz connected_clients maxclients blocked_clients used_memory used_memory_human
used_memory_rss used_memory_peak used_memory_peak_human total_system_memory maxmemory maxmemory_policy
mem_fragmentation_ratio loading rdb_bgsave_in_progress rdb_last_save_time rdb_last_bgsave_status
rdb_changes_since_last_save aof_enabled aof_rewrite_in_progress aof_last_write_status
total_connections_received total_commands_processed instantaneous_ops_per_sec rejected_connections
expired_keys evicted_keys keyspace_hits keyspace_misses pubsub_channels pubsub_patterns role
connected_slaves master_replid master_repl_offset used_cpu_sys used_cpu_user cluster_enabled
"""
"""By `redis-cli --stat`, browsers, exporters and clients."""


def test_info_has_the_fields_that_tools_read(
    server: FakeServer, client: FakeClient, redis: RedisProcess
) -> None:
    theirs = fields(redis.answer(b"INFO\r\n"))
    ours = fields(ask(server, client, b"INFO"))
    for name in TOOLS_READ.split():
        assert form(ours[name]) == form(theirs[name]), name


def form(value: str) -> str:
    """An id, a number, a number with something behind it, or a word."""
    if re.fullmatch("[0-9a-f]{40}", value):
        return "id"
    return re.sub(r"[0-9.]+", "N", value.rstrip("KMG")) if value[:1].isdigit() else "word"


def test_a_rate_is_the_mean_since_an_earlier_look() -> None:
    rate = Rate(10_000)
    assert rate.look(10_500, 50) == 100
    assert rate.look(12_000, 300) == 150
    assert rate.look(12_001, 300) == 149  # who looks again at once sees about the same
    assert rate.look(13_000, 500) == 200
    assert rate.look(14_000, 0) == 0  # counted anew meanwhile


# --- snapshots -----------------------------------------------------------------------------------


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
