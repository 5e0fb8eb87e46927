"""Holds end with their TTL: never early, never seen after, and without anybody asking."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import pytest

from tests.e2e.conftest import MakeServer
from tests.e2e.process import ServerProcess
from tests.e2e.waiting import eventually, now_ms
from tests.e2e.wire import Wire, by_field

LATE_MS_MAX = 100
"""How long after its end a hold may still be in the table, on a machine that is not busy."""


class Watch:
    """One hold, looked at until it is gone: when it was seen last, and when it was seen gone.

    Times are of this process: a reply tells the server's state at some moment between `asked` and
    `answered`, so only what cannot be otherwise is concluded from them.
    """

    def __init__(self, wire: Wire, key: str, ttl_ms: int) -> None:
        self.asked = now_ms()
        granted = wire.map("LOCK.ACQUIRE", key, "me", "TTL", ttl_ms)
        self.answered = now_ms()
        assert granted["status"] == b"granted"
        self.version = granted["version"]
        self.seen_ms: list[int] = []
        self.last_seen = self.answered

        def gone() -> bool:
            asked = now_ms()
            info = wire.call("LOCK.GET", key)
            if info is None:
                return True
            self.last_seen = asked
            self.seen_ms.append(by_field(info)["ttl_ms"])
            return False

        eventually(gone, "the end of a hold")
        self.gone = now_ms()


@pytest.mark.parametrize("ttl_ms", [1, 50, 300])
def test_a_hold_is_seen_for_its_ttl_and_not_longer(server: ServerProcess, ttl_ms: int) -> None:
    with server.wire(protocol=3) as wire:
        for number in range(5):
            watch = Watch(wire, f"seen/{ttl_ms}/{number}", ttl_ms)
            assert watch.gone - watch.asked >= ttl_ms - 1, "it ended early"
            assert watch.last_seen - watch.answered <= ttl_ms, "it was shown when it was over"
            assert all(0 < seen <= ttl_ms for seen in watch.seen_ms), "0 says that it never ends"
            assert watch.seen_ms == sorted(watch.seen_ms, reverse=True)


SHOWS: dict[str, Callable[[Wire, str, int], bool]] = {
    "LOCK.GET": lambda wire, key, _: wire.call("LOCK.GET", key) is not None,
    "LOCK.CHECK": lambda wire, key, version: wire.call("LOCK.CHECK", key, version) == 1,
    "LOCK.BACKOFF": lambda wire, key, _: wire.map("LOCK.BACKOFF", key)["retry_after_ms"] > 0,
    "LOCK.LIST": lambda wire, key, _: wire.call("LOCK.LIST", "MATCH", key)[1] != [],
}
"""Whether a read shows a hold."""
LIST_LATE_MS = 20
"""A listing shows what the log says; the clock gets there with the next tick."""


@pytest.mark.parametrize("read", SHOWS)
def test_no_read_shows_it_when_it_is_over(server: ServerProcess, read: str) -> None:
    ttl_ms, key = 60, f"over/{read}"
    with server.wire(protocol=3) as wire:
        for _ in range(5):
            version = wire.map("LOCK.ACQUIRE", key, "me", "TTL", ttl_ms)["version"]
            answered = asked = now_ms()
            while SHOWS[read](wire, key, version):
                assert asked - answered <= ttl_ms + (LIST_LATE_MS if read == "LOCK.LIST" else 0)
                asked = now_ms()
            assert now_ms() - answered >= ttl_ms - 50


def test_holds_end_without_anybody_asking(server: ServerProcess) -> None:
    """The table's own count, which no read brings about, follows soon after the end."""
    late_ms = []
    with server.wire(protocol=3) as wire:
        wire.call("SELECT", 9)
        for number in range(7):
            asked = now_ms()
            wire.call("LOCK.ACQUIRE", f"alone/{number}", "me", "TTL", 100)
            answered = now_ms()
            assert wire.call("DBSIZE") == 1
            eventually(lambda: wire.call("DBSIZE") == 0, "an end that nobody asked for")
            late_ms.append(now_ms() - answered - 100)
            assert now_ms() - asked >= 99
    assert statistics.median(late_ms) <= LATE_MS_MAX, late_ms


def test_many_that_end_together(server: ServerProcess) -> None:
    count = 3_000
    with server.wire(protocol=3) as wire:
        wire.call("SELECT", 10)
        expired = wire.map("LOCK.STATS")["expired"]
        keys = [f"together/{number}" for number in range(count)]
        wire.pipeline(*[("LOCK.ACQUIRE", key, "me", "TTL", 1_000) for key in keys])
        eventually(lambda: wire.call("DBSIZE") == 0, "the end of them all")
        assert wire.map("LOCK.STATS")["expired"] - expired >= count


class TestChanging:
    def test_renew_sets_the_end_exactly(self, server: ServerProcess) -> None:
        with server.wire(protocol=3) as wire:
            version = wire.map("LOCK.ACQUIRE", "renew", "me", "TTL", 60_000)["version"]
            assert wire.map("LOCK.RENEW", "renew", "me", "TTL", 80) == {
                "version": version,
                "ttl_ms": 80,
            }
            renewed = now_ms()
            eventually(lambda: wire.call("LOCK.GET", "renew") is None, "its earlier end")
            assert now_ms() - renewed >= 79
            assert wire.call("LOCK.RENEW", "renew", "me").code == "NOTHELD"

    def test_renew_without_a_ttl_takes_the_holds_own(self, server: ServerProcess) -> None:
        with server.wire(protocol=3) as wire:
            wire.call("LOCK.ACQUIRE", "own", "me", "TTL", 7_000)
            assert wire.map("LOCK.RENEW", "own", "me")["ttl_ms"] == 7_000
            assert wire.map("LOCK.RENEW", "own", "me", "TTL", 0)["ttl_ms"] == 0
            assert wire.map("LOCK.GET", "own")["expires_at"] == 0
            assert wire.map("LOCK.RENEW", "own", "me")["ttl_ms"] == 0

    def test_the_owner_asking_again_extends_and_never_shortens(self, server: ServerProcess) -> None:
        with server.wire(protocol=3) as wire:
            first = wire.map("LOCK.ACQUIRE", "again", "me", "TTL", 5_000)
            shorter = wire.map("LOCK.ACQUIRE", "again", "me", "TTL", 10)
            longer = wire.map("LOCK.ACQUIRE", "again", "me", "TTL", 9_000)
            assert first["version"] == shorter["version"] == longer["version"]
            assert 10 < shorter["ttl_ms"] <= 5_000
            assert longer["ttl_ms"] == 9_000
            assert wire.map("LOCK.ACQUIRE", "again", "me", "TTL", 0)["ttl_ms"] == 0
            assert wire.map("LOCK.ACQUIRE", "again", "me", "TTL", 10)["ttl_ms"] == 0

    def test_keepalive_carries_all_holds_of_an_owner_on(self, server: ServerProcess) -> None:
        with server.wire(protocol=3) as wire:
            versions = [
                wire.map("LOCK.ACQUIRE", f"alive/{n}", "alive", "TTL", 250)["version"]
                for n in range(3)
            ]
            began = now_ms()
            renewals = 0

            def kept_long_enough() -> bool:
                nonlocal renewals
                assert wire.call("LOCK.KEEPALIVE", "alive") == 3
                renewals += 1
                return now_ms() - began > 750

            eventually(kept_long_enough, "three times the TTL")
            assert renewals >= 3
            for number, version in enumerate(versions):
                assert wire.call("LOCK.CHECK", f"alive/{number}", version) == 1
            wire.call("LOCK.RELEASE", "alive/1", "alive")
            pairs = [word for n in range(3) for word in (f"alive/{n}", versions[n])]
            lost = wire.call("LOCK.KEEPALIVE", "alive", "TTL", 5_000, "VERSIONS", 3, *pairs)
            assert lost == [b"alive/1"]
            assert wire.map("LOCK.GET", "alive/0")["ttl_ms"] > 250
            assert wire.call("LOCK.KEEPALIVE", "alive", "TTL", 1) == 2
            eventually(lambda: wire.call("LOCK.KEEPALIVE", "alive") == 0, "the end of both")

    def test_break_ends_it_for_its_owner_too(self, server: ServerProcess) -> None:
        with server.wire(protocol=3) as wire:
            version = wire.map("LOCK.ACQUIRE", "break", "me")["version"]
            assert wire.call("LOCK.BREAK", "break", "VERSION", version + 1).code == "STALE"
            assert wire.call("LOCK.BREAK", "break", "VERSION", version, "REASON", "tests") == 1
            assert wire.call("LOCK.RENEW", "break", "me").code == "NOTHELD"
            assert wire.call("LOCK.CHECK", "break", version) == 0
            assert wire.map("LOCK.ACQUIRE", "break", "me")["version"] > version


class TestAfterTheEnd:
    def test_the_next_owner_has_a_higher_version(self, server: ServerProcess) -> None:
        with server.wire(protocol=3) as wire:
            first = wire.map("LOCK.ACQUIRE", "next", "a", "TTL", 30)["version"]
            take = ("LOCK.ACQUIRE", "next", "b", "TTL", 0)
            eventually(lambda: wire.map(*take)["status"] == b"granted", "the first one's end")
            info = wire.map("LOCK.GET", "next")
            assert info["owner"] == b"b"
            assert info["version"] > first
            assert wire.call("LOCK.RELEASE", "next", "a", "VERSION", first).code == "NOTOWNER"
            assert wire.call("LOCK.RENEW", "next", "a").code == "NOTOWNER"

    def test_the_owner_that_comes_back_has_a_new_version(self, server: ServerProcess) -> None:
        with server.wire(protocol=3) as wire:
            first = Watch(wire, "back", 20).version
            assert wire.map("LOCK.ACQUIRE", "back", "me")["version"] > first
            assert wire.call("LOCK.RELEASE", "back", "me", "VERSION", first).code == "STALE"

    def test_a_request_whose_hold_has_ended_is_lost(self, server: ServerProcess) -> None:
        words = ("LOCK.ACQUIRE", "request", "me", "TTL", 30, "REQUEST", "once")
        with server.wire(protocol=3) as wire:
            granted = wire.map(*words)
            assert wire.map(*words) in (
                granted,
                {"status": b"lost", "version": granted["version"]},
            )
            eventually(lambda: wire.call("LOCK.GET", "request") is None, "its end")
            assert wire.map(*words) == {"status": b"lost", "version": granted["version"]}
            assert wire.call("LOCK.GET", "request") is None

    def test_across_a_restart(self, make_server: MakeServer) -> None:
        server = make_server().start()
        with server.wire(protocol=3) as wire:
            version = wire.map("LOCK.ACQUIRE", "a", "me", "TTL", 300)["version"]
            wire.call("LOCK.ACQUIRE", "b", "me", "TTL", 0)
        server.restart()
        eventually(lambda: server.call("DBSIZE") == 1, "its end, asked by nobody")
        assert server.call("LOCK.CHECK", "a", version) == 0
        assert by_field(server.call("LOCK.ACQUIRE", "a", "you"))["version"] > version
