"""Threads: each has a hold of its own, alarms ring in order, and a fork has none."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import pytest
import redis

import resplock
from resplock.client.threads import Alarms, alarms
from tests.e2e.process import ServerProcess
from tests.e2e.waiting import DEADLINE_S, eventually


@pytest.fixture
def client(server: ServerProcess) -> Any:
    with redis.Redis(port=server.port) as made:
        yield made


def in_a_thread(work: Any) -> Any:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join(DEADLINE_S)
    return results[0]


class TestAlarms:
    def test_they_ring_in_their_order(self) -> None:
        rung: list[int] = []
        clock = Alarms()
        now = time.monotonic()
        for number in (3, 1, 2):
            clock.add(now + number / 100, lambda number=number: rung.append(number))
        eventually(lambda: len(rung) == 3)
        assert rung == [1, 2, 3]

    def test_an_earlier_one_is_not_kept_waiting(self) -> None:
        rung = threading.Event()
        clock = Alarms()
        clock.add(time.monotonic() + 3600, rung.clear)
        clock.add(time.monotonic(), rung.set)
        assert rung.wait(DEADLINE_S)

    def test_a_cancelled_one_does_not_ring(self) -> None:
        rung: list[str] = []
        clock = Alarms()
        now = time.monotonic()
        clock.add(now + 0.01, lambda: rung.append("cancelled")).cancel()
        clock.add(now + 0.02, lambda: rung.append("kept"))
        eventually(lambda: rung)
        assert rung == ["kept"]

    def test_cancelled_ones_take_no_memory_for_long(self) -> None:
        clock = Alarms()
        for _ in range(10_000):
            clock.add(time.monotonic() + 3600, lambda: None).cancel()
        assert len(clock._heap) < 1000

    def test_one_that_fails_does_not_stop_the_others(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        rung = threading.Event()
        clock = Alarms()
        clock.add(time.monotonic(), lambda: 1 // 0)
        clock.add(time.monotonic() + 0.01, rung.set)
        assert rung.wait(DEADLINE_S)
        assert "ZeroDivisionError" in caplog.text

    def test_there_is_one_thread_for_all(self) -> None:
        assert alarms() is alarms()


@pytest.mark.e2e
class TestLocks:
    def test_each_thread_has_its_own_hold(self, client: Any) -> None:
        lock = resplock.Lock(client, "threads/own", queue=False)
        with lock:
            assert in_a_thread(lambda: (lock.version, lock.token)) == (None, None)
            assert not in_a_thread(lambda: lock.acquire(blocking=False))

    def test_unless_it_is_told_otherwise(self, client: Any) -> None:
        lock = resplock.Lock(client, "threads/shared", queue=False, thread_local=False)
        lock.acquire()
        assert in_a_thread(lambda: lock.version) == lock.version
        in_a_thread(lock.release)
        assert lock.version is None

    def test_a_loss_wakes_who_waits_for_it(self, client: Any) -> None:
        lock = resplock.Lock(client, "threads/lost", ttl=0.3, queue=False)
        told: list[tuple[str, str]] = []
        lock.on_lost(lambda lost: told.append((lost.name, threading.current_thread().name)))
        lock.acquire()
        version = lock.version
        client.execute_command("LOCK.BREAK", "threads/lost")
        lost = lock.lost
        assert in_a_thread(lambda: lost.wait(DEADLINE_S))
        assert lost.version == version
        assert "NOTHELD" in lost.reason
        eventually(lambda: told)
        assert told == [("threads/lost", "resplock-lost")]
        with pytest.raises(resplock.LockNotOwnedError):
            lock.release()

    def test_a_wait_for_a_loss_ends(self, client: Any) -> None:
        with resplock.Lock(client, "threads/wait", queue=False) as lock:
            assert not lock.lost.wait(0.01)
            assert not lock.lost.is_set()

    def test_a_hold_that_is_short_starts_no_renewal(self, client: Any) -> None:
        before = set(threading.enumerate())
        with resplock.Lock(client, "threads/short", queue=False):
            pass
        started = {each.name for each in set(threading.enumerate()) - before}
        assert "resplock-renewal" not in started

    def test_renewals_go_on_for_longer_than_the_ttl(self, client: Any) -> None:
        with resplock.Lock(client, "threads/renewed", ttl=0.2, queue=False) as lock:
            assert not lock.lost.wait(1.0)
            assert lock.owned()

    def test_after_the_release_nothing_renews(self, client: Any) -> None:
        """The next hold of the same lock is its own."""
        lock = resplock.Lock(client, "threads/released", ttl=0.2, queue=False)
        with lock:
            token = lock.token
        client.execute_command("LOCK.ACQUIRE", "threads/released", token, "TTL", 300)
        gone = lambda: client.execute_command("LOCK.GET", "threads/released") is None  # noqa: E731
        eventually(gone)

    def test_a_fork_can_take_locks(self, server: ServerProcess, client: Any) -> None:
        """The thread of the alarms stays behind; the child begins one of its own."""
        with resplock.Lock(client, "threads/parent", ttl=0.3, queue=False):
            child = os.fork()
            if not child:
                own = redis.Redis(port=server.port)
                with resplock.Lock(own, "threads/child", ttl=0.3, queue=False) as lock:
                    status = 1 if lock.lost.wait(1.0) else 0
                os._exit(status)
            _, status = os.waitpid(child, 0)
        assert status == 0
