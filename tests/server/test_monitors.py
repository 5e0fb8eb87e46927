"""MONITOR: who is told what, and when."""

from __future__ import annotations

import re

import pytest

from resplock.server import connection as connection_module
from tests.server.fakes import FakeClient, FakeServer, array

SET = array(b"SET", b"k", b"v", b"PX", b"5000")


@pytest.fixture
def monitor(server: FakeServer) -> FakeClient:
    client = server.connect()
    client.call(b"MONITOR")
    server.loop.run()
    assert client.take() == [b"OK"]
    return client


def told(server: FakeServer, monitor: FakeClient) -> list[str]:
    """The lines since the last call, without their times."""
    server.loop.run()
    lines = [line.decode() for line in monitor.take()]
    assert all(re.match(r"\d{10}\.\d{6} \[\d+ \S+:\d+\] \"", line) for line in lines), lines
    return [line.partition(" ")[2] for line in lines]


def test_it_is_told_of_every_command_and_its_words(server: FakeServer, monitor: FakeClient) -> None:
    other = server.connect(peer=("127.0.0.1", 1234))
    other.send(SET * 3, array(b"get", b'a"\\\n\xff'), b"PING\r\nSELECT 3\r\nPING\r\n")
    server.settle()
    set_ = '[0 127.0.0.1:1234] "SET" "k" "v" "PX" "5000"'
    assert told(server, monitor) == [
        *(set_, set_, set_),
        r'[0 127.0.0.1:1234] "get" "a\"\\\n\xff"',
        '[0 127.0.0.1:1234] "PING"',
        '[0 127.0.0.1:1234] "SELECT" "3"',
        '[3 127.0.0.1:1234] "PING"',
    ]


def test_commands_alike_and_alone_are_told_too(server: FakeServer, monitor: FakeClient) -> None:
    other = server.connect()
    for _ in range(40):  # long enough for a likeness to be learned, were it allowed
        other.send(SET)
        server.engine.answer()
    assert len(told(server, monitor)) == 40


def test_what_waits_is_told_once_it_is_run(server: FakeServer, monitor: FakeClient) -> None:
    other = server.connect()
    other.send(SET + b"PING\r\n" + SET)
    assert len(told(server, monitor)) == 1
    server.engine.answer()
    words = [line.split()[2] for line in told(server, monitor)]
    assert words == ['"PING"', '"SET"']


def test_it_is_told_no_passwords_and_nothing_of_operators(monitor: FakeClient) -> None:
    guarded = FakeServer(requirepass="secret")
    first = guarded.connect()
    first.call(b"AUTH", b"secret")
    first.call(b"MONITOR")
    guarded.loop.run()
    first.take()
    other = guarded.connect()
    other.call(b"GET", b"k")  # it may not
    other.call(b"AUTH", b"default", b"secret")
    other.call(b"HELLO", b"3", b"auth", b"default", b"secret", b"SETNAME", b"me")
    other.call(b"CONFIG", b"GET", b"port")
    guarded.loop.run()
    other.call(b"NOTHING")
    other.call(b"ECHO")
    other.call(b"PING")
    lines = [line.partition("] ")[2] for line in told(guarded, first)]
    assert lines == [
        '"AUTH" "(redacted)" "(redacted)"',
        '"HELLO" "3" "auth" "(redacted)" "(redacted)" "SETNAME" "me"',
        '"PING"',
    ]


def test_it_sees_its_own_commands_until_it_is_reset(
    server: FakeServer, monitor: FakeClient
) -> None:
    monitor.call(b"PING")
    server.loop.run()
    pong, line = monitor.take()
    assert (pong, line.split(b"] ")[1]) == (b"PONG", b'"PING"')
    monitor.call(b"RESET")
    server.loop.run()
    assert monitor.take() == [b"RESET"]
    server.connect().call(b"PING")
    assert told(server, monitor) == []


def test_nobody_pays_when_the_last_one_has_gone(server: FakeServer, monitor: FakeClient) -> None:
    other = server.connect()
    assert not other.connection._direct
    monitor.transport.lose()
    assert other.connection._direct
    assert server.connect().connection._direct


def test_one_that_does_not_read_is_closed(
    server: FakeServer, monitor: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "PUSHED_BYTES_MAX", 2_000)
    monitor.transport.stalled = True
    other = server.connect()
    for _ in range(3):
        other.call(b"PING", b"x" * 1_000)
        server.loop.run()
    assert not monitor.open
    assert other.open


def test_client_list_marks_it(server: FakeServer, monitor: FakeClient) -> None:
    other = server.connect()
    other.call(b"CLIENT", b"LIST")
    server.loop.run()
    [lines] = other.take()
    assert [b"flags=O " in line for line in lines.splitlines()] == [True, False]
