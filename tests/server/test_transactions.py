"""MULTI, EXEC, DISCARD, WATCH and UNWATCH on a connection: as in Redis, and what Redis has not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from resplock import limits
from resplock.operations import Busy, Execute, InDoubt, Watch
from tests.redis_process import RedisProcess
from tests.server.fakes import FakeClient, FakeServer, array, ask

budget = settings(max_examples=max(150, settings().max_examples))


@pytest.fixture(autouse=True)
def log() -> Iterator[None]:
    with capture_logs():
        yield


def call(server: FakeServer, client: FakeClient, line: str) -> Any:
    """The reply to one command."""
    [reply] = ask(server, client, *line.encode().split(b" "))
    return reply


def replies(calls: list[str], *, at_once: bool = False) -> bytes:
    """All that a server of ours replies."""
    server = FakeServer()
    client = server.connect()
    requests = [array(*line.encode().split(b" ")) for line in calls]
    for request in [b"".join(requests)] if at_once else requests:
        client.send(request)
        server.settle()
    return client.received


# --- as in Redis -----------------------------------------------------------------------------------


CALLS = [
    *("MULTI", "MULTI", "EXEC", "EXEC", "DISCARD", "WATCH a", "WATCH a b", "UNWATCH"),
    *("SET a 1", "SET a 2 NX", "SET b 1 EX 100", "SET a x WRONG", "SET a", "GET a", "GET b"),
    *("DEL a", "DEL a b", "PERSIST b", "EXPIRE b 100", "EXPIRE b x", "EXISTS a b a", "GETDEL a"),
    *("NOSUCH", "PING", "PING x", "ECHO hi", "SELECT 1", "SELECT 0", "SELECT 99"),
    *("CLIENT GETNAME", "CLIENT SETNAME joe", "CLIENT NOSUCH", "RESET"),
    *("MULTI x", "DISCARD x", "WATCH", "UNWATCH x", "EVALSHA abc 0", "EVAL return_1 x"),
]


@budget
@given(calls=st.lists(st.sampled_from(CALLS), max_size=16))
def test_the_replies_are_those_of_redis(redis: RedisProcess, calls: list[str]) -> None:
    redis.answer(array(b"FLUSHALL"))
    expected = redis.answer(b"".join(array(*line.encode().split(b" ")) for line in calls))
    assert replies(calls) == expected
    assert replies(calls, at_once=True) == expected


@pytest.mark.parametrize(
    "calls",
    [
        ["MULTI", "PING", "QUIT", "EXEC"],
        ["MULTI", "AUTH x", "EXEC"],
        ["EXEC x", "MULTI", "GET a", "EXEC x", "EXEC"],
        ["MULTI", "SHUTDOWN", "EXEC"],
        ["MULTI", "UNWATCH", "GET a", "EXEC"],
        ["WATCH a", "SET a 1", "MULTI", "UNWATCH", "EXEC"],
        ["WATCH a", "SET a 1", "DEL a", "MULTI", "PING", "EXEC", "GET a"],
        ["WATCH a", "SET a 1", "MULTI", "NOSUCH", "EXEC", "MULTI", "PING", "EXEC"],
        ["SET a 1", "WATCH a", "EXPIRE a -1", "MULTI", "EXEC"],
        ["SET a 1", "WATCH a", "GETEX a", "PERSIST a", "SET a 2 NX", "MULTI", "EXEC"],
        ["MULTI", "SELECT 3", "SET a 5", "SELECT 99", "EXEC", "GET a", "SELECT 0", "GET a"],
        ["WATCH a", "SELECT 1", "SET a 1", "MULTI", "EXEC"],
        ["CLIENT REPLY SKIP", "MULTI", "PING", "EXEC"],
        ["MULTI", "PING", "EXEC", "PING", "MULTI", "ECHO x", "EXEC"],
    ],
)
def test_what_redis_does_with(redis: RedisProcess, calls: list[str]) -> None:
    redis.answer(array(b"FLUSHALL"))
    expected = redis.answer(b"".join(array(*line.encode().split(b" ")) for line in calls))
    assert replies(calls) == expected
    assert replies(calls, at_once=True) == expected


def test_the_nil_of_exec_in_resp3_is_that_of_redis(redis: RedisProcess) -> None:
    redis.answer(array(b"FLUSHALL"))
    calls = ["HELLO 3", "WATCH a", "SET a 1", "MULTI", "PING", "EXEC", "MULTI", "GET b", "EXEC"]
    expected = redis.answer(b"".join(array(*line.encode().split(b" ")) for line in calls))
    _, _, after = expected.partition(b"$7\r\nmodules\r\n*0\r\n")
    assert replies(calls).endswith(b"$7\r\nmodules\r\n*0\r\n" + after)
    assert after.endswith(b"*1\r\n_\r\n")


# --- one command of the log ------------------------------------------------------------------------


def test_a_transaction_is_one_command_of_the_log(server: FakeServer) -> None:
    client = server.connect()
    client.send(*(array(*line.split(b" ")) for line in (b"MULTI", b"SET a 1", b"LOCK.GET a")))
    assert not server.engine.waiting
    client.call(b"EXEC")
    [(_, command, is_operation)] = server.engine.waiting
    assert is_operation
    assert isinstance(command, Execute)
    assert len(command.steps) == 2
    server.settle()
    assert client.take()[-1][0] == b"OK"


def test_what_is_discarded_or_reset_reaches_nobody(server: FakeServer) -> None:
    client = server.connect()
    for end in ("DISCARD", "RESET"):
        for line in ("MULTI", "SET a 1", end, "MULTI"):
            call(server, client, line)
        assert call(server, client, "EXEC") == []
        assert call(server, client, "GET a") is None


def test_a_watch_ends_with_exec_discard_unwatch_and_reset(server: FakeServer) -> None:
    client, other = server.connect(), server.connect()
    for ends in (["MULTI", "EXEC"], ["MULTI", "DISCARD"], ["UNWATCH"], ["RESET"]):
        call(server, client, "WATCH a")
        for line in ends:
            call(server, client, line)
        call(server, other, f"SET a {len(ends)}{ends[-1]}")
        call(server, client, "MULTI")
        assert call(server, client, "EXEC") == []


def test_a_watch_notices_what_other_connections_do(server: FakeServer) -> None:
    client, other = server.connect(), server.connect()
    changes = [
        "LOCK.ACQUIRE a me",
        "LOCK.RENEW a me",
        "EXPIRE a 100",
        "LOCK.RELEASE a me",
        "SET a 1",
    ]
    for change in [*changes, "DEL a", "LOCK.ACQUIRE a me SHARED", "LOCK.BREAK a"]:
        call(server, client, "WATCH a b")
        call(server, other, change)
        call(server, client, "MULTI")
        assert call(server, client, "SET b 1") == b"QUEUED"
        assert call(server, client, "EXEC") is None, change
    assert call(server, client, "EXISTS b") == 0


def test_who_watches_twice_keeps_the_first_watch(server: FakeServer) -> None:
    client, other = server.connect(), server.connect()
    call(server, client, "WATCH a")
    call(server, other, "SET a 1")
    call(server, client, "WATCH a")
    call(server, client, "MULTI")
    assert call(server, client, "EXEC") is None


@pytest.mark.parametrize("result", [InDoubt(), Busy("the bound")])
def test_an_exec_that_has_no_outcome_runs_nothing_locally(
    server: FakeServer, result: InDoubt | Busy
) -> None:
    client = server.connect()
    for line in ("WATCH a", "MULTI", "SET a 1", "SELECT 5", "CLIENT SETNAME x"):
        call(server, client, line)
    client.call(b"EXEC")
    server.engine.deliver([result])
    [reply] = client.take()
    assert str(reply).startswith("INDOUBT" if isinstance(result, InDoubt) else "BUSY")
    assert client.connection.db == 0
    assert client.connection.name == b""
    assert not client.connection.watched
    assert client.connection.transaction is None


def test_a_watch_that_has_no_outcome_watches_nothing(server: FakeServer) -> None:
    client = server.connect()
    client.call(b"WATCH", b"a")
    assert isinstance(server.engine.waiting[0][1], Watch)
    server.engine.deliver([InDoubt()])
    assert str(client.take()[0]).startswith("INDOUBT")
    assert not client.connection.watched


def test_what_is_behind_exec_waits_for_it(server: FakeServer) -> None:
    client = server.connect()
    calls = (b"MULTI", b"SELECT 2", b"SET a 1", b"EXEC", b"GET a", b"SELECT 0", b"GET a")
    client.send(b"".join(array(*line.split(b" ")) for line in calls))
    server.settle()
    assert client.take()[3:] == [[b"OK", b"OK"], b"1", b"OK", None]


def test_hello_changes_the_protocol_from_its_place_on(server: FakeServer) -> None:
    client = server.connect()
    for line in ("MULTI", "GET a", "HELLO 3", "GET a"):
        call(server, client, line)
    client.call(b"EXEC")
    server.settle()
    assert b"*3\r\n$-1\r\n%7\r\n" in client.received
    assert client.received.endswith(b"_\r\n")


def test_a_hold_tied_to_the_connection_may_be_taken(server: FakeServer) -> None:
    client = server.connect()
    for line in ("MULTI", "LOCK.ACQUIRE a me ONCLOSE RELEASE"):
        call(server, client, line)
    client.call(b"EXEC")
    [(_, command, _)] = server.engine.waiting
    assert command.steps[0].options.client == client.connection.log_id is not None


# --- what may not be queued ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("LOCK.ACQUIRE a me WAIT 5", "ERR a transaction does not wait"),
        ("LOCK.MACQUIRE 1 a me WAIT 5", "ERR a transaction does not wait"),
        ("LOCK.ENQUEUE a me", "ERR a transaction does not wait"),
        ("SUBSCRIBE a", "ERR Command not allowed inside a transaction"),
        ("LOCK.WATCH me", "ERR Command not allowed inside a transaction"),
        ("CLIENT REPLY OFF", "ERR Command not allowed inside a transaction"),
        ("CLIENT UNBLOCK 1", "ERR Command not allowed inside a transaction"),
        ("RAFT.SNAPSHOT", "ERR Command not allowed inside a transaction"),
    ],
)
def test_is_refused_at_once(server: FakeServer, line: str, text: str) -> None:
    client = server.connect()
    call(server, client, "MULTI")
    assert str(call(server, client, line)).startswith(text)
    assert call(server, client, "SET a 1") == b"QUEUED"
    assert str(call(server, client, "EXEC")).startswith("EXECABORT")
    assert call(server, client, "GET a") is None


def queue_until_refused(server: FakeServer, client: FakeClient, line: str) -> tuple[int, str]:
    """How many were queued, and what the next one was told."""
    call(server, client, "MULTI")
    for count in range(10_000):
        reply = call(server, client, line)
        if reply != b"QUEUED":
            return count, str(reply)
    raise AssertionError("there is no end")


def test_a_transaction_is_bounded(server: FakeServer) -> None:
    client = server.connect()
    large = f"SET a {'x' * 60_000}"
    most = limits.TRANSACTION_BYTES_MAX // 60_300
    cases = [
        ("GET a", limits.TRANSACTION_COMMANDS_MAX, "1024 commands at most"),
        (
            "LOCK.KEEPALIVE me",
            limits.TRANSACTION_SLOW_MAX,
            "64 commands like LOCK.KEEPALIVE at most",
        ),
        (large, most, "1048576 bytes at most"),
    ]
    for line, count, text in cases:
        queued, error = queue_until_refused(server, client, line)
        assert queued == count
        assert text in error
        assert client.connection.queued_bytes == 0
        assert str(call(server, client, "EXEC")).startswith("EXECABORT")


def test_the_keys_that_are_watched_are_bounded(server: FakeServer) -> None:
    client = server.connect()
    for part in range(2):
        names = " ".join(f"{part}-{number}" for number in range(limits.WATCHED_PER_CONNECTION // 2))
        assert call(server, client, f"WATCH {names}") == b"OK"
    assert (
        str(call(server, client, "WATCH one-more"))
        == "ERR a connection may watch 1024 keys at most"
    )
    assert call(server, client, "WATCH 0-1") == b"OK"
    assert client.connection.queued_bytes > limits.WATCHED_PER_CONNECTION


def test_client_list_shows_it(server: FakeServer) -> None:
    client, other = server.connect(), server.connect()
    for line in ("MULTI", "GET a", "GET b"):
        call(server, client, line)
    line = call(server, other, "CLIENT LIST").split(b"\n")[0]
    assert b" flags=x " in line
    assert b" multi=2 " in line
    assert b" multi-mem=0 " not in line
