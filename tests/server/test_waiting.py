"""A connection that waits in line: what is behind it waits, and whoever leaves gives up the place.

The lock table is not asked here: the engine answers what a test says.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from resplock import limits
from resplock.operations import (
    Acquire,
    AcquireAll,
    Advice,
    Cancelled,
    ClientId,
    Granted,
    InDoubt,
    Release,
    TimedOut,
    Unblock,
    Unblocked,
)
from resplock.server import clients as clients_module
from resplock.types import NodeId
from tests.server.fakes import FakeClient, FakeServer, array

SECOND_MS = 1_000
ACQUIRE = array(b"LOCK.ACQUIRE", b"a", b"me")
WAIT = array(b"LOCK.ACQUIRE", b"a", b"me", b"WAIT", b"5000", b"REQUEST", b"r1")
ONCLOSE = array(b"LOCK.ACQUIRE", b"b", b"me", b"ONCLOSE", b"RELEASE")
RELEASE = array(b"LOCK.RELEASE", b"a", b"me")
PING = array(b"PING")
GRANTED = Granted(7, 30_000)
TIMED_OUT = TimedOut(b"you", 3, 100, 1, Advice(10))


@pytest.fixture(autouse=True)
def log() -> Iterator[list[Any]]:
    with capture_logs() as entries:
        yield entries


@pytest.fixture
def server() -> FakeServer:
    return FakeServer(timeout=30)


@pytest.fixture
def client(server: FakeServer) -> FakeClient:
    return server.connect()


@pytest.fixture
def clock(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(server)
    monkeypatch.setattr(clients_module, "now_ms", clock)
    server.clients.start()
    return clock


class Clock:
    """This process's monotonic clock."""

    def __init__(self, server: FakeServer) -> None:
        self.now_ms = 1_000_000
        self._server = server

    def __call__(self) -> int:
        return self.now_ms

    def sweep(self, seconds: int) -> None:
        """Let time pass, with about a sweep each second."""
        for _ in range(10 * seconds):
            self.now_ms += SECOND_MS // 10
            self._server.loop.fire()
            self._server.loop.run()


def granted(version: int) -> list[object]:
    return [b"status", b"granted", b"version", version, b"ttl_ms", 30_000, b"waiters", 0]


def asked(server: FakeServer) -> list[Any]:
    """What the engine has not answered."""
    return [command for _, command, _ in server.engine.waiting]


def id_of(client: FakeClient) -> ClientId:
    return ClientId(NodeId("n1"), 1, client.connection.id)


def flags(server: FakeServer, client: FakeClient) -> str:
    other = server.connect()
    other.call(b"CLIENT", b"LIST", b"ID", b"%d" % client.connection.id)
    server.loop.run()
    [line] = other.take()
    other.transport.lose()
    return dict(field.split("=") for field in line.decode().split())["flags"]


# --- what is behind it waits ---------------------------------------------------------------------


def test_a_wait_names_the_connection_and_blocks_it(server: FakeServer, client: FakeClient) -> None:
    client.send(WAIT)
    client.send(RELEASE, PING)
    [wait] = asked(server)
    assert isinstance(wait, Acquire)
    assert wait.options is not None
    assert (wait.request, wait.options.wait_ms) == (b"r1", 5_000)
    assert wait.options.client == id_of(client)
    assert client.connection.blocked
    server.engine.deliver([GRANTED])
    assert not client.connection.blocked
    assert client.take() == [granted(7)]
    [release] = asked(server)
    assert isinstance(release, Release)
    server.settle()
    assert client.take()[1:] == [b"PONG"]


@pytest.mark.parametrize("size", [7, 100, 1_000])
def test_in_a_pipeline_it_stands_behind_what_is_ahead_of_it(
    server: FakeServer, client: FakeClient, size: int
) -> None:
    """However the bytes are cut: what is ahead is answered, what is behind is not begun."""
    data = ACQUIRE + ACQUIRE + WAIT + ACQUIRE + PING
    client.send(*(data[at : at + size] for at in range(0, len(data), size)))
    assert len(asked(server)) == 3
    server.engine.answer(2)
    assert client.take() == [granted(1), granted(1)]
    assert client.connection.blocked
    server.engine.deliver([TIMED_OUT])
    assert not client.connection.blocked
    [timeout] = client.take()
    assert timeout[:2] == [b"status", b"timeout"]
    server.settle()
    assert client.take() == [granted(1), b"PONG"]


def test_two_waits_in_a_pipeline_are_one_after_the_other(
    server: FakeServer, client: FakeClient
) -> None:
    client.send(WAIT + WAIT)
    assert len(asked(server)) == 1
    server.engine.deliver([GRANTED])
    assert len(asked(server)) == 1
    server.engine.deliver([TIMED_OUT])
    first, second = client.take()
    assert (first[1], second[1]) == (b"granted", b"timeout")


def test_a_wait_for_several_locks_blocks_as_well(server: FakeServer, client: FakeClient) -> None:
    client.send(
        array(b"LOCK.MACQUIRE", b"2", b"a", b"b", b"me", b"WAIT", b"5", b"ONCLOSE", b"RELEASE")
    )
    [wait] = asked(server)
    assert isinstance(wait, AcquireAll)
    assert wait.options is not None
    assert wait.options.client == id_of(client)
    assert client.connection.blocked
    client.transport.lose()
    assert server.engine.gone == [id_of(client)]


def test_each_wait_is_named_however_often_it_is_sent(
    server: FakeServer, client: FakeClient
) -> None:
    """What is like an earlier command takes a shorter way, which must not be taken here."""
    for _ in range(50):
        client.send(WAIT)
        [wait] = asked(server)
        assert wait.options.client == id_of(client)
        server.engine.deliver([GRANTED])


@pytest.mark.parametrize(
    "options",
    [(b"WAIT", b"0"), (b"PRIORITY", b"5"), (b"SHARED",), (b"ONCLOSE", b"KEEP"), (b"REENTRANT",)],
)
def test_what_neither_waits_nor_ends_with_the_connection_is_not_attached_to_it(
    server: FakeServer, client: FakeClient, options: tuple[bytes, ...]
) -> None:
    client.call(b"LOCK.ACQUIRE", b"a", b"me", *options)
    [acquire] = asked(server)
    assert acquire.options is None or acquire.options.client is None
    assert not client.connection.blocked
    client.transport.lose()
    assert server.engine.gone == []


def test_a_place_in_the_queue_that_nobody_is_blocked_for(
    server: FakeServer, client: FakeClient
) -> None:
    client.send(array(b"LOCK.ENQUEUE", b"a", b"me", b"WAIT", b"5000") + ACQUIRE)
    assert len(asked(server)) == 2
    assert not client.connection.blocked


# --- how it is seen ------------------------------------------------------------------------------


def test_client_list_and_info_show_who_waits(server: FakeServer, client: FakeClient) -> None:
    assert flags(server, client) == "N"
    client.send(array(b"CLIENT", b"NO-EVICT", b"ON") + WAIT)
    assert flags(server, client) == "be"
    other = server.connect()
    other.call(b"INFO", b"clients")
    server.loop.run()
    assert b"blocked_clients:1\r\n" in other.received
    server.engine.deliver([TIMED_OUT])
    assert flags(server, client) == "e"


def test_it_is_not_idle_and_begins_no_command(
    server: FakeServer, client: FakeClient, clock: Clock
) -> None:
    idle = server.connect()
    client.send(WAIT + b"*1\r\n$4\r\nPI")
    clock.sweep(60)
    assert not idle.open
    assert client.open
    server.engine.deliver([GRANTED])
    client.send(b"NG\r\n")
    assert client.take() == [granted(7), b"PONG"]


def test_a_subscriber_may_not_wait(server: FakeServer, client: FakeClient) -> None:
    client.call(b"SUBSCRIBE", b"x")
    client.send(WAIT)
    server.loop.run()
    _, refusal = client.take()
    assert str(refusal).startswith("ERR Can't execute 'lock.acquire'")
    assert not asked(server)


def test_a_subscriber_that_speaks_resp3_may(server: FakeServer, client: FakeClient) -> None:
    client.send(array(b"HELLO", b"3") + array(b"SUBSCRIBE", b"x"))
    server.loop.run()
    before = len(client.received)
    client.send(WAIT)
    server.engine.deliver([GRANTED])
    assert client.received[before:].startswith(b"%4\r\n$6\r\nstatus\r\n$7\r\ngranted")


def test_replies_that_are_off_stay_off(server: FakeServer, client: FakeClient) -> None:
    client.send(array(b"CLIENT", b"REPLY", b"OFF") + WAIT + array(b"CLIENT", b"REPLY", b"ON"))
    server.loop.run()
    server.engine.deliver([GRANTED])
    server.settle()
    assert client.take() == [b"OK"]


# --- CLIENT UNBLOCK ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "error"), [((), False), ((b"TIMEOUT",), False), ((b"error",), True)]
)
def test_unblock_is_proposed_for_whoever_waits(
    server: FakeServer, client: FakeClient, words: tuple[bytes, ...], error: bool
) -> None:
    other = server.connect()
    client.send(WAIT)
    other.send(array(b"CLIENT", b"UNBLOCK", b"%d" % client.connection.id, *words) + PING)
    _, unblock = asked(server)
    assert unblock == Unblock(id_of(client), error)
    server.engine.waiting.rotate(-1)
    server.engine.deliver([Cancelled(1)])
    server.loop.run()
    assert other.take() == [1, b"PONG"]
    server.engine.deliver([Unblocked("unblocked")])
    [refusal] = client.take()
    assert str(refusal).startswith("UNBLOCKED ")


def test_unblock_finds_nobody_who_waits(server: FakeServer, client: FakeClient) -> None:
    client.send(ACQUIRE)
    client.call(b"CLIENT", b"UNBLOCK", b"99")
    client.call(b"CLIENT", b"UNBLOCK", b"%d" % server.connect().connection.id)
    server.settle()
    assert client.take()[1:] == [0, 0]


def test_unblock_says_when_its_fate_is_unknown(server: FakeServer, client: FakeClient) -> None:
    other = server.connect()
    client.send(WAIT)
    other.call(b"CLIENT", b"UNBLOCK", b"%d" % client.connection.id)
    server.engine.waiting.rotate(-1)
    server.engine.deliver([InDoubt()])
    [doubt] = other.take()
    assert str(doubt).startswith("INDOUBT ")


def test_unblock_comes_too_late(server: FakeServer, client: FakeClient) -> None:
    other = server.connect()
    client.send(WAIT)
    other.call(b"CLIENT", b"UNBLOCK", b"%d" % client.connection.id)
    server.engine.deliver([GRANTED])
    server.engine.deliver([Cancelled(0)])
    assert (client.take(), other.take()) == ([granted(7)], [0])


def test_whoever_asks_to_unblock_may_leave_meanwhile(
    server: FakeServer, client: FakeClient
) -> None:
    other = server.connect()
    client.send(WAIT)
    other.call(b"CLIENT", b"UNBLOCK", b"%d" % client.connection.id)
    other.transport.lose()
    server.engine.waiting.rotate(-1)
    server.engine.deliver([Cancelled(1)])
    assert other.take() == []


# --- leaving -------------------------------------------------------------------------------------


def test_a_client_that_vanishes_gives_up_its_place(server: FakeServer, client: FakeClient) -> None:
    client.send(WAIT + PING)
    assert client.transport.reading, "else it would not be noticed"
    client.transport.lose()
    assert server.engine.gone == [id_of(client)]


def test_what_is_sent_behind_a_wait_is_bounded(server: FakeServer, client: FakeClient) -> None:
    client.send(WAIT + PING)
    for _ in range(20):
        client.send(array(b"ECHO", b"x" * 30_000))
    assert not client.transport.reading
    assert client.connection.parser.buffered <= limits.QUERY_BUFFER_BYTES_MAX + 2 * 30_100
    server.engine.deliver([GRANTED])
    server.settle()
    assert client.transport.reading
    assert len(client.take()) == 22


def test_a_client_that_shuts_its_side_has_left(server: FakeServer, client: FakeClient) -> None:
    """Nobody can tell it from one that has closed."""
    client.send(WAIT)
    client.shut()
    assert server.engine.gone == [id_of(client)]
    server.loop.run()
    assert client.transport.closed
    assert client.take() == []


def test_a_client_that_shuts_its_side_is_answered_what_was_ahead(
    server: FakeServer, client: FakeClient
) -> None:
    client.send(ACQUIRE + WAIT + PING)
    client.shut()
    assert server.engine.gone == []
    server.engine.answer(1)
    assert client.take() == [granted(1)]
    assert server.engine.gone == [id_of(client)]
    server.loop.run()
    assert client.transport.closed


def test_a_wait_that_had_its_turn_after_the_end_is_not_waited_for(
    server: FakeServer, client: FakeClient
) -> None:
    client.send(array(b"LOCK.GET", b"a") + WAIT)
    client.shut()
    server.engine.answer(1)
    server.loop.run()
    assert client.take() == [None]
    assert server.engine.gone == [id_of(client)]


def test_a_grant_that_comes_too_late_is_given_back(server: FakeServer, client: FakeClient) -> None:
    """It is killed in the very turn whose answers have its grant."""
    other = server.connect()
    client.send(WAIT)
    [wait] = asked(server)
    other.call(b"CLIENT", b"KILL", b"ID", b"%d" % client.connection.id)
    assert server.engine.gone == [id_of(client)]
    server.engine.deliver([GRANTED])
    assert server.engine.given_back == [(wait, GRANTED)]
    server.loop.run()
    assert client.take() == []
    assert server.engine.gone == [id_of(client)], "once"


def test_only_a_grant_that_was_waited_for_is_given_back(
    server: FakeServer, client: FakeClient
) -> None:
    """A hold that was tried for, or that it had, is left to its TTL, as ever."""
    client.send(WAIT)
    server.engine.deliver([GRANTED])
    client.send(ACQUIRE)
    client.connection.abort()
    server.engine.deliver([GRANTED])
    other = server.connect()
    other.send(WAIT)
    other.connection.abort()
    server.engine.deliver([TIMED_OUT])
    assert server.engine.given_back == []


def test_quit_behind_a_wait_has_its_turn(server: FakeServer, client: FakeClient) -> None:
    client.send(WAIT + array(b"QUIT"))
    server.loop.run()
    assert client.open
    server.engine.deliver([GRANTED])
    server.loop.run()
    assert client.take() == [granted(7), b"OK"]
    assert client.transport.closed


def test_reset_ends_what_is_attached_and_begins_anew(
    server: FakeServer, client: FakeClient
) -> None:
    client.send(ONCLOSE)
    server.engine.deliver([GRANTED])
    client.send(array(b"RESET") + ONCLOSE)
    assert server.engine.gone == [id_of(client)]
    [second] = asked(server)
    assert second.options.client not in (None, id_of(client)), "the old name is gone for good"
    third = server.connect()
    assert third.connection.id != second.options.client.serial


# --- holds that end with the connection ----------------------------------------------------------


def test_onclose_names_the_connection_and_does_not_block_it(
    server: FakeServer, client: FakeClient
) -> None:
    client.send(ONCLOSE + RELEASE + ONCLOSE)
    first, _, last = asked(server)
    assert first.options.client == last.options.client == id_of(client)
    assert not client.connection.blocked
    client.transport.lose()
    assert server.engine.gone == [id_of(client)]


def test_holds_are_not_left_to_another_when_there_is_no_leader(
    server: FakeServer, client: FakeClient, clock: Clock
) -> None:
    """The leader may believe that this node is gone, and has ended them by now."""
    other = server.connect()
    client.send(ONCLOSE)
    server.engine.deliver([GRANTED])
    other.send(WAIT)
    clock.sweep(3)
    assert client.open
    server.engine.node.is_cut_off = True
    clock.sweep(3)
    assert not client.open
    assert other.open


@pytest.mark.parametrize("command", [WAIT, ONCLOSE])
def test_no_more_are_attached_than_can_be_detached(
    server: FakeServer, client: FakeClient, command: bytes
) -> None:
    server.engine.node.departing = limits.DISCONNECTS_QUEUED_MAX
    client.send(command + PING)
    busy, pong = client.take()
    assert str(busy).startswith("BUSY ")
    assert pong == b"PONG"
    assert not asked(server)


# --- shutting down -------------------------------------------------------------------------------


def test_a_node_that_shuts_down_turns_its_waiting_clients_away(
    server: FakeServer, client: FakeClient
) -> None:
    holder, plain, piping = server.connect(), server.connect(), server.connect()
    holder.send(ONCLOSE)
    server.engine.deliver([GRANTED])
    client.send(WAIT)
    piping.send(ACQUIRE + WAIT)
    server.clients.turn_away()
    [refusal] = client.take()
    assert str(refusal).startswith("UNBLOCKED this node is shutting down")
    assert sorted(server.engine.gone) == sorted(map(id_of, (holder, client, piping)))
    assert not client.open
    assert piping.take() == [], "a reply out of order would be worse than none"
    assert holder.open
    assert plain.open
    server.clients.stop()
    server.loop.run()
    assert len(server.engine.gone) == 3
