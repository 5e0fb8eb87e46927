"""Stopping in good order: exit status 0, everybody told what was decided, nothing lost."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable

import pytest

from tests.e2e.conftest import MakeServer
from tests.e2e.history import History, check
from tests.e2e.load import Load, holds_of
from tests.e2e.process import ServerProcess
from tests.e2e.waiting import now_ms
from tests.e2e.wire import Closed, by_field, command

KEYS = [f"key/{number}" for number in range(30)]


def by_signal(number: signal.Signals) -> Callable[[ServerProcess], None]:
    return lambda server: server.signal(number)


def by_command(*words: str) -> Callable[[ServerProcess], None]:
    def shut_down(server: ServerProcess) -> None:
        with server.wire() as wire:
            wire.send(*words)
            with pytest.raises(Closed):
                wire.receive()

    return shut_down


WAYS = {
    "SIGTERM": by_signal(signal.SIGTERM),
    "SIGINT": by_signal(signal.SIGINT),
    "SHUTDOWN": by_command("SHUTDOWN"),
    "SHUTDOWN NOSAVE": by_command("SHUTDOWN", "NOSAVE"),
    "shutdown save now force": by_command("shutdown", "save", "now", "force"),
}


@pytest.mark.parametrize("way", WAYS)
def test_at_rest(make_server: MakeServer, way: str) -> None:
    server = make_server().start()
    granted = by_field(server.call("LOCK.ACQUIRE", "a", "me", "TTL", 0))
    with server.wire() as idle:
        WAYS[way](server)
        assert idle.receive_until_closed() == []
    assert server.wait() == 0
    assert "stopping" in server.log()
    assert "stopped" in server.log()
    assert by_field(server.start().call("LOCK.GET", "a"))["version"] == granted["version"]


@pytest.mark.parametrize("way", list(WAYS)[:3])
@pytest.mark.parametrize("snapshot_entries", [1, 1_000_000])
def test_under_load(make_server: MakeServer, way: str, snapshot_entries: int) -> None:
    """Every client has the replies of what was decided up to some command, then the end."""
    server = make_server(f"--snapshot-entries={snapshot_entries}").start()
    load = Load(server, KEYS, random.Random(1))
    load.run_until_answered(500)
    statuses: list[int] = []

    def stop() -> None:
        WAYS[way](server)
        statuses.append(server.wait())

    life = History(before={}, commands=load.end(stop), after={})
    assert statuses == [0]
    server.start()
    life.after = holds_of(server)
    check(life)


def test_a_deep_pipeline_gets_whole_replies(make_server: MakeServer) -> None:
    """Whatever was answered took effect, whole and in order; what was not answered may have."""
    server = make_server().start()
    asked = [command("LOCK.ACQUIRE", f"k{n}", "me", "TTL", 0) for n in range(20_000)]
    with server.wire() as wire:
        wire.send_bytes(b"".join(asked[:1_000]))
        wire.receive()
        server.signal(signal.SIGTERM)
        try:
            wire.send_bytes(b"".join(asked[1_000:]))
        except ConnectionError:
            pass
        replies = [by_field(reply) for reply in wire.receive_until_closed()]
    assert server.wait() == 0
    assert len(replies) >= 1
    versions = [reply["version"] for reply in replies]
    assert versions == sorted(set(versions))
    held = holds_of(server.start())
    for number, version in enumerate(versions, 1):
        assert held[f"k{number}"].version == version


def test_while_a_snapshot_is_taken(make_server: MakeServer) -> None:
    server = make_server().start()
    with server.wire() as wire:
        for start in range(0, 20_000, 1_000):
            wire.pipeline(
                *[("LOCK.ACQUIRE", f"k{n}", "me", "TTL", 0) for n in range(start, start + 1_000)]
            )
        wire.send("RAFT.SNAPSHOT")
        assert server.terminate() == 0
        assert len(wire.receive_until_closed()) <= 1
    assert server.start().call("DBSIZE") == 20_000


def test_a_second_signal_changes_nothing(make_server: MakeServer) -> None:
    server = make_server().start()
    server.signal(signal.SIGTERM)
    server.signal(signal.SIGTERM)
    server.signal(signal.SIGINT)
    assert server.wait() == 0


def test_a_client_that_does_not_read_does_not_hold_it_up(make_server: MakeServer) -> None:
    server = make_server().start()
    with server.wire() as wire:
        wire.send_bytes(command("ECHO", "x" * 60_000) * 60)
        server.call("PING")
        began = now_ms()
        assert server.terminate() == 0
        assert now_ms() - began < 10_000


def test_the_port_is_free_at_once(make_server: MakeServer) -> None:
    server = make_server().start()
    for _ in range(3):
        with server.wire() as wire:
            wire.call("PING")
            server.terminate()
            server.start()
    assert server.call("PING") == "PONG"


def test_a_signal_during_the_start(make_server: MakeServer) -> None:
    server = make_server().start()
    server.call("LOCK.ACQUIRE", "a", "me", "TTL", 0)
    server.kill9()
    for tenths in range(6):
        server.begin()
        server.ends_within(tenths / 10)
        assert server.terminate() in (0, -signal.SIGTERM)
    assert server.start().call("DBSIZE") == 1
