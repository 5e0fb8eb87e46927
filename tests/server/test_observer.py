"""SLOWLOG, LATENCY and DEBUG: what is noted of how long things take."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from resplock.server.latency_events import LatencyEvents
from resplock.server.observer import Observer
from resplock.server.slowlog import SlowLog
from tests.server.fakes import FakeClient, FakeServer

MS = 1_000_000


def words_kept(*words: bytes) -> tuple[bytes, ...]:
    log = SlowLog()
    log.note(1, 20_000, words, "a:1", b"me")
    return log.latest(1)[0].words


class TestSlowLog:
    def test_the_newest_are_kept(self) -> None:
        log = SlowLog()
        for number in range(200):
            log.note(number, 20_000, [b"GET"], "a:1", b"")
        assert len(log) == 128
        assert [entry.id for entry in log.latest(3)] == [199, 198, 197]
        assert len(log.latest(-1)) == 128
        log.entries_max = 2
        assert [entry.id for entry in log.latest(-1)] == [199, 198]
        log.entries_max = 3
        log.reset()
        log.note(0, 20_000, [b"GET"], "a:1", b"")
        assert [entry.id for entry in log.latest(-1)] == [200]

    def test_long_commands_are_shortened_as_in_redis(self) -> None:
        assert words_kept(b"SET", b"x" * 128) == (b"SET", b"x" * 128)
        assert words_kept(b"x" * 130) == (b"x" * 128 + b"... (2 more bytes)",)
        assert words_kept(*[b"w"] * 32) == (b"w",) * 32
        assert words_kept(*[b"w"] * 33) == (*[b"w"] * 31, b"... (2 more arguments)")


class TestLatencyEvents:
    def test_one_sample_a_second_the_longest(self) -> None:
        events = LatencyEvents()
        for unix_s, taken_ms in ((1, 5), (1, 9), (1, 7), (2, 3)):
            events.note("command", unix_s, taken_ms)
        assert events.history("command") == [(1, 9), (2, 3)]
        [(name, event)] = events.latest()
        assert (name, event.longest_ms) == ("command", 9)

    def test_the_oldest_are_forgotten(self) -> None:
        events = LatencyEvents()
        for second in range(200):
            events.note("command", second, 1)
        assert len(events.history("command")) == 160
        assert events.history("command")[0] == (40, 1)

    def test_reset(self) -> None:
        events = LatencyEvents()
        for name in ("command", "commit", "event-loop"):
            events.note(name, 1, 1)
        assert events.reset(("commit", "commit", "nothing")) == 1
        assert events.reset(()) == 2
        assert events.latest() == []


def asker(command: str) -> Any:
    return SimpleNamespace(address="a:1", name=b"me", last_command=command)


class TestObserver:
    def test_a_slow_turn_names_one_of_its_commands(self) -> None:
        observer = Observer()
        link = object()  # another node, which asks for its own clients
        answers = [(None, [1]), (link, [1]), (asker("lock.acquire"), [1]), (asker("set"), [1, 2])]
        observer.turned(15 * MS, 25 * MS, answers)
        [entry] = observer.slow_log.latest(-1)
        assert entry.words == (b"LOCK.ACQUIRE", b"... (4 more commands in this turn)")
        assert (entry.taken_us, entry.address, entry.client_name) == (25_000, "a:1", b"me")
        observer.turned(15 * MS, 0, [(asker("lock.list"), [1])])
        assert observer.slow_log.latest(1)[0].words == (b"LOCK.LIST",)
        observer.turned(15 * MS, 0, [])
        assert len(observer.slow_log) == 2
        assert observer.latency.latest() == []

    def test_what_is_slow_enough_to_be_told(self) -> None:
        observer = Observer()
        assert observer.slow_ns == 10 * MS
        observer.threshold_ms = 5
        assert observer.slow_ns == 5 * MS - 1
        observer.turned(5 * MS, 6 * MS, [])
        assert [(name, event.longest_ms) for name, event in observer.latency.latest()] == [
            ("commit", 6),
            ("event-loop", 5),
        ]
        observer.slower_than_us = 0
        assert observer.slow_ns == 0
        observer.slower_than_us, observer.threshold_ms = -1, 0
        assert observer.slow_ns > 10**18

    def test_times_of_commands(self) -> None:
        observer = Observer()
        for taken_us in (0, 1, 3, 3, 900):
            observer.ran("CLIENT LIST", [b"CLIENT", b"LIST"], asker(""), taken_us * 1_000)
        times = observer.times["CLIENT LIST"]
        assert (times.calls, times.total_ns) == (5, 907_000)
        assert times.histogram() == {1: 1, 2: 2, 4: 4, 1_024: 5}


@pytest.fixture
def client(server: FakeServer) -> FakeClient:
    return server.connect()


def ask(server: FakeServer, client: FakeClient, text: str) -> Any:
    client.call(*text.encode().split())
    server.loop.run()
    [reply] = client.take()
    return reply


def test_commands_that_this_node_answers_are_timed(server: FakeServer, client: FakeClient) -> None:
    ask(server, client, "CLIENT SETNAME me")
    settings = "slowlog-log-slower-than 0 slowlog-max-len 2 latency-monitor-threshold 1"
    ask(server, client, f"CONFIG SET {settings}")
    ask(server, client, "PING")  # FAST
    ask(server, client, "COMMAND COUNT")
    [[id_, unix_s, taken_us, words, address, name]] = ask(server, client, "SLOWLOG GET 1")
    assert (id_, words, name) == (1, [b"COMMAND", b"COUNT"], b"me")
    assert address == client.connection.address.encode()
    assert unix_s > 1_700_000_000
    assert 0 < taken_us < 1_000_000
    assert ask(server, client, "SLOWLOG LEN") == 2
    [name, times] = ask(server, client, "LATENCY HISTOGRAM command|count ping nothing")
    assert name == b"command|count"
    assert times[:3] == [b"calls", 1, b"histogram_usec"]
    assert b"cmdstat_command|count:calls=1,usec=" in ask(server, client, "INFO commandstats")
    ask(server, client, "CONFIG RESETSTAT")
    assert b"command|count" not in ask(server, client, "INFO commandstats")
    assert ask(server, client, "SLOWLOG RESET") == b"OK"


def test_what_latency_shows(server: FakeServer, client: FakeClient) -> None:
    assert b"CONFIG SET latency-monitor-threshold" in ask(server, client, "LATENCY DOCTOR")
    ask(server, client, "CONFIG SET latency-monitor-threshold 10")
    assert ask(server, client, "LATENCY DOCTOR") == b"Nothing took as long as 10 ms.\n"
    server.engine.observer.turned(20 * MS, 30 * MS, [])
    latest = ask(server, client, "LATENCY LATEST")
    assert [[name, last, most] for name, _, last, most in latest] == [
        [b"commit", 30, 30],
        [b"event-loop", 20, 20],
    ]
    [[_, taken_ms]] = ask(server, client, "LATENCY HISTORY commit")
    assert taken_ms == 30
    assert ask(server, client, "LATENCY HISTORY nothing") == []
    assert b"commit: 30 ms at most, 30 ms in the middle (samples: 1)" in ask(
        server, client, "LATENCY DOCTOR"
    )
    assert ask(server, client, "LATENCY RESET commit") == 1
    assert ask(server, client, "LATENCY RESET") == 1


def test_a_node_sleeps_only_where_that_is_allowed(server: FakeServer, client: FakeClient) -> None:
    refused = ask(server, client, "DEBUG SLEEP 0")
    assert (
        str(refused) == "ERR DEBUG command not allowed: start the node with --enable-debug-command"
    )
    allowed = FakeServer(enable_debug_command=True)
    client = allowed.connect()
    assert ask(allowed, client, "DEBUG SLEEP 0.001") == b"OK"
    for wrong in ("x", "-1", "10.1", "nan", "inf"):
        expected = "ERR DEBUG SLEEP: seconds must be a decimal from 0 to 10"
        assert str(ask(allowed, client, f"DEBUG SLEEP {wrong}")) == expected
