"""Semaphores, readers and writers, several locks at once, elections: over a real server, with threads and
with asyncio."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
import redis
from redis.exceptions import LockError, LockNotOwnedError

import resplock
from resplock.client import Leader
from tests.client.programs import Adapter, Program, here
from tests.e2e.process import ServerProcess
from tests.e2e.waiting import DEADLINE_S, eventually
from tests.e2e.wire import by_field

pytestmark = pytest.mark.e2e


class TestSemaphore:
    async def test_as_many_as_there_are_permits(self, program: Program, r: Any, name: str) -> None:
        holders = [program.lock(r, name, 2, kind="Semaphore") for _ in range(3)]
        got = [await each.acquire(blocking=False) for each in holders]
        assert got == [True, True, False]
        versions = {each.version for each in holders[:2]}
        assert len(versions) == 2
        assert [await each.owned() for each in holders] == [True, True, False]
        await holders[0].release()
        assert await holders[2].acquire(blocking=False)
        assert await holders[1].locked()
        for each in holders[1:]:
            await each.release()
        assert not await holders[1].locked()

    async def test_several_permits_at_once(self, program: Program, r: Any, name: str) -> None:
        large = program.lock(r, name, 3, 2, kind="Semaphore")
        other = program.lock(r, name, 3, 2, kind="Semaphore", blocking=False)
        small = program.lock(r, name, 3, kind="Semaphore", blocking=False)
        async with large, small:
            assert not await other.acquire()
        assert await other.acquire()
        await other.release()

    async def test_permits_are_renewed(self, program: Program, r: Any, name: str) -> None:
        holders = [program.lock(r, name, 2, ttl=0.3, kind="Semaphore") for _ in range(2)]
        async with holders[0], holders[1]:
            await asyncio.sleep(0.8)
            assert not holders[0].lost
            assert await holders[1].owned()

    async def test_one_object_is_one_holder(self, program: Program, r: Any, name: str) -> None:
        permit = program.lock(r, name, 2, kind="Semaphore")
        async with permit:
            with pytest.raises(LockError, match="has a hold already"):
                await permit.acquire()

    def test_permits_that_there_are_not(self, r: Any, name: str) -> None:
        with pytest.raises(ValueError, match="permits must be 1 to the limit, which is 2, got 3"):
            resplock.Semaphore(r, name, 2, 3)


class TestReadersAndWriters:
    async def test_many_readers_or_one_writer(self, program: Program, r: Any, name: str) -> None:
        kind = resplock.AsyncRWLock if program.is_async else resplock.RWLock
        both = kind(r, name, blocking=False)
        reader, other, writer = (
            Adapter(each) for each in (both.reader(), both.reader(), both.writer())
        )
        assert await reader.acquire()
        assert await other.acquire()
        assert not await writer.acquire()
        await reader.release()
        await other.release()
        assert await writer.acquire()
        assert not await reader.acquire()
        assert writer.version > 0
        await writer.release()

    async def test_a_writer_that_waits_is_not_passed(
        self, program: Program, r: Any, name: str, server: ServerProcess
    ) -> None:
        kind = resplock.AsyncRWLock if program.is_async else resplock.RWLock
        both = kind(r, name)
        reader, late, writer = (
            Adapter(each) for each in (both.reader(), both.reader(), both.writer())
        )
        await reader.acquire()
        waiting = asyncio.create_task(in_background(writer.lock.acquire))
        await waiters(server, name, 1)
        assert not await late.acquire(blocking=False)
        await reader.release()
        assert await waiting
        # With threads the hold is of the thread that took it.
        await here(r.execute_command("LOCK.BREAK", name))


class TestSeveral:
    async def test_all_or_none(self, program: Program, r: Any, name: str) -> None:
        names = [f"{name}/{number}" for number in range(3)]
        both = program.lock(r, names[:2], kind="MultiLock", blocking=False)
        other = program.lock(r, names[1:], kind="MultiLock", blocking=False)
        async with both:
            assert both.version > 0
            assert not await other.acquire()
            assert await here(r.execute_command("LOCK.GET", names[2])) is None
            assert await both.owned()
        async with other:
            assert await other.locked()
        assert [await here(r.execute_command("LOCK.GET", each)) for each in names] == [None] * 3

    async def test_one_that_is_broken_is_the_loss_of_all(
        self, program: Program, r: Any, name: str
    ) -> None:
        names = [f"{name}/{number}" for number in range(2)]
        locks = program.lock(r, names, 0.3, kind="MultiLock")
        await locks.acquire()
        await here(r.execute_command("LOCK.BREAK", names[1]))
        await here(locks.lost.wait())
        with pytest.raises(LockNotOwnedError, match=re.escape(f"lost {name}/1")):
            await locks.release()
        assert await here(r.execute_command("LOCK.GET", names[0])) is None

    @pytest.mark.parametrize("names", [[], ["a", "a"]])
    def test_names_that_are_none(self, r: Any, names: list[str]) -> None:
        with pytest.raises(ValueError, match="names must be different ones"):
            resplock.MultiLock(r, names)


class TestElection:
    async def test_one_leads_and_the_next_follows(
        self, program: Program, r: Any, name: str, server: ServerProcess
    ) -> None:
        one, two = (
            program.lock(r, name, candidate, kind="Election", thread_local=False)
            for candidate in ("one", "two")
        )
        assert await one.leader() is None
        assert await one.campaign()
        assert one.is_leader
        assert not two.is_leader
        assert await two.leader() == Leader("one", one.version)
        assert not await two.campaign(blocking_timeout=0.05)
        waiting = asyncio.create_task(in_background(two.lock.campaign))
        await waiters(server, name, 1)
        term = one.version
        await one.resign()
        assert await waiting
        assert two.is_leader
        assert two.version > term
        assert await one.leader() == Leader("two", two.version)
        await two.resign()

    async def test_a_leader_that_is_deposed_knows(
        self, program: Program, r: Any, name: str
    ) -> None:
        leader = program.lock(r, name, "one", 0.3, kind="Election")
        await leader.campaign()
        await here(r.execute_command("LOCK.BREAK", name))
        await here(leader.lost.wait())
        assert not leader.is_leader
        with pytest.raises(LockNotOwnedError):
            await leader.resign()

    async def test_one_without_a_name_is_its_owner(
        self, program: Program, r: Any, name: str
    ) -> None:
        await here(r.execute_command("LOCK.ACQUIRE", name, "somebody"))
        leader = await program.lock(r, name, "one", kind="Election").leader()
        assert leader.candidate == "somebody"

    def test_observers_see_each_change(self, server: ServerProcess, name: str) -> None:
        with redis.Redis(port=server.port) as r:
            changes = resplock.Election(r, name, "observer").observe()
            assert next(changes) is None
            for candidate in ("one", "two"):
                with resplock.Election(r, name, candidate) as election:
                    assert next(changes) == Leader(candidate, election.version)
                assert next(changes) is None
            changes.close()

    async def test_asynchronous_ones_do_too(self, server: ServerProcess, name: str) -> None:
        program = Program("asyncio")
        r = program.client(server.port)
        changes = resplock.AsyncElection(r, name, "observer").observe()
        assert await anext(changes) is None
        election = resplock.AsyncElection(r, name, "one")
        await election.campaign()
        async with asyncio.timeout(DEADLINE_S):
            assert await anext(changes) == Leader("one", election.version)
            await election.resign()
            assert await anext(changes) is None
        await changes.aclose()
        await program.close()


async def in_background(method: Any) -> Any:
    """A sync method in a thread, an asyncio one in this task."""
    if asyncio.iscoroutinefunction(method):
        return await method()
    return await asyncio.to_thread(method)


async def waiters(server: ServerProcess, name: str, count: int) -> None:
    """Until so many wait for the lock; the event loop goes on."""

    def look() -> bool:
        info = server.call("LOCK.GET", name)
        return info is not None and by_field(info)["waiter_count"] == count

    await asyncio.to_thread(eventually, look)
