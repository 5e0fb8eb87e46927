"""Waiting in the server's queue, with threads and with asyncio, over one node."""

from __future__ import annotations

import asyncio
import re
import threading
from typing import Any

import pytest
import redis
from redis.exceptions import LockError

import resplock
from resplock.client import acquiring
from tests.client.programs import Program
from tests.e2e.conftest import MakeServer
from tests.e2e.process import ServerProcess
from tests.e2e.waiting import DEADLINE_S, eventually, now_ms
from tests.e2e.wire import by_field

pytestmark = pytest.mark.e2e


def waiter_count(server: ServerProcess, name: str) -> int:
    info = server.call("LOCK.GET", name)
    return by_field(info)["waiter_count"] if info is not None else 0


async def background(program: Program, lock: Any) -> bool:
    """`acquire` while this task goes on."""
    if program.is_async:
        return await lock.lock.acquire()
    return await asyncio.to_thread(lock.lock.acquire)


async def until_waiting(server: ServerProcess, name: str, count: int = 1) -> None:
    await asyncio.to_thread(eventually, lambda: waiter_count(server, name) == count)


async def test_the_release_grants_the_next(
    server: ServerProcess, program: Program, name: str
) -> None:
    r = program.client(server.port)
    first, second = (program.lock(r, name, thread_local=False) for _ in range(2))
    await first.acquire()
    waiting = asyncio.create_task(background(program, second))
    await until_waiting(server, name)
    version = first.version
    await first.release()
    assert await waiting
    assert second.version > version
    await second.release()


async def test_a_wait_is_longer_than_the_clients_socket_timeout(
    server: ServerProcess, program: Program, name: str
) -> None:
    r = program.client(server.port, socket_timeout=0.2)
    first, second = (program.lock(r, name, thread_local=False) for _ in range(2))
    await first.acquire()
    waiting = asyncio.create_task(background(program, second))
    await asyncio.sleep(0.6)
    assert waiter_count(server, name) == 1
    await first.release()
    assert await waiting
    await second.release()


async def test_a_wait_of_several_slices_keeps_its_place(
    server: ServerProcess, program: Program, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes later is behind it, although it comes back on other connections."""
    monkeypatch.setattr(acquiring, "SLICE_S", 0.1)
    r = program.client(server.port)
    holder, early, late = (program.lock(r, name, thread_local=False) for _ in range(3))
    await holder.acquire()
    tasks = [asyncio.create_task(background(program, early))]
    await until_waiting(server, name)
    await asyncio.sleep(0.25)
    tasks.append(asyncio.create_task(background(program, late)))
    await until_waiting(server, name, 2)
    await asyncio.sleep(0.35)
    assert waiter_count(server, name) == 2
    await holder.release()
    assert await tasks[0]
    assert not tasks[1].done()
    await early.release()
    assert await tasks[1]
    await late.release()


async def test_time_runs_out(server: ServerProcess, program: Program, name: str) -> None:
    server.call("LOCK.ACQUIRE", name, "somebody", "TTL", 0)
    lock = program.lock(program.client(server.port), name, blocking_timeout=0.3)
    began = now_ms()
    assert not await lock.acquire()
    assert 300 <= now_ms() - began < 3_000
    assert waiter_count(server, name) == 0
    with pytest.raises(LockError, match="within the time specified"):
        async with lock:
            pytest.fail("it is held by somebody else")


async def test_an_operator_ends_the_wait(
    server: ServerProcess, program: Program, name: str
) -> None:
    server.call("LOCK.ACQUIRE", name, "somebody", "TTL", 0)
    client = program.client(server.port, client_name="waits")
    lock = program.lock(client, name)
    waiting = asyncio.create_task(background(program, lock))
    await until_waiting(server, name)
    lines = server.call("CLIENT", "LIST").decode().splitlines()
    (mine,) = (line for line in lines if "name=waits" in line)
    client_id = re.search(r"id=(\d+)", mine)[1]
    assert server.call("CLIENT", "UNBLOCK", client_id, "ERROR") == 1
    with pytest.raises(LockError, match="CLIENT UNBLOCK"):
        await waiting


async def test_a_task_that_is_cancelled_gives_its_place_up(
    server: ServerProcess, name: str
) -> None:
    program = Program("asyncio")
    r = program.client(server.port)
    server.call("LOCK.ACQUIRE", name, "somebody", "TTL", 0)
    lock = resplock.AsyncLock(r, name)
    waiting = asyncio.create_task(lock.acquire())
    await until_waiting(server, name)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert waiting.cancelled()
    assert waiter_count(server, name) == 0
    assert server.call("LOCK.RELEASE", name, "somebody")
    assert await lock.acquire(blocking=False), "nobody has it, and nobody is in the way"
    await lock.release()
    await program.close()


def test_a_server_that_restarts_keeps_the_place(make_server: MakeServer, name: str) -> None:
    server = make_server().start()
    with redis.Redis(port=server.port) as r:
        holder = resplock.Lock(r, name)
        holder.acquire()
        waiting = resplock.Lock(r, name, thread_local=False)
        got: list[bool] = []
        thread = threading.Thread(target=lambda: got.append(waiting.acquire()))
        thread.start()
        eventually(lambda: waiter_count(server, name) == 1)
        server.restart()
        version = holder.version
        holder.release()
        thread.join(DEADLINE_S)
        assert got == [True]
        assert waiting.version > version
        waiting.release()


def test_many_threads_take_turns(server: ServerProcess, name: str) -> None:
    """One holder at a time, each served once, versions in the order of the grants."""
    served: list[int] = []
    inside = threading.Lock()
    with redis.Redis(port=server.port) as r:
        lock = resplock.Lock(r, name)

        def work() -> None:
            for _ in range(5):
                with lock:
                    assert inside.acquire(blocking=False), "two holders"
                    served.append(lock.version or 0)
                    inside.release()

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
    assert len(served) == 40
    assert served == sorted(set(served))
    assert server.call("LOCK.GET", name) is None
