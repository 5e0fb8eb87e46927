"""What redis-py's own tests ask of its Lock, asked of ours: a program that changes nothing but the class
finds what it knows. (After tests/test_lock.py of redis-py; polls where it sleeps.)"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.exceptions import LockError, LockNotOwnedError

import resplock
from tests.client.programs import Program, here
from tests.e2e.waiting import now_ms
from tests.e2e.wire import by_field

pytestmark = pytest.mark.e2e

# With redis-py's defaults: nothing renews a lock, and it polls.
AS_THERE = {"ttl": None, "auto_renew": False, "queue": False, "sleep": 0.01}


async def ttl_ms(r: Any, name: str) -> int:
    return by_field(await here(r.execute_command("LOCK.GET", name)))["ttl_ms"]


async def gone(r: Any, name: str) -> None:
    for _ in range(1000):
        if await here(r.execute_command("LOCK.GET", name)) is None:
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"{name} does not end")


async def test_lock(program: Program, r: Any, name: str) -> None:
    lock = program.lock(r, name, **AS_THERE)
    assert await lock.acquire(blocking=False)
    info = by_field(await here(r.execute_command("LOCK.GET", name)))
    assert info["owner"] == lock.token
    assert info["ttl_ms"] == 0
    await lock.release()
    assert await here(r.execute_command("LOCK.GET", name)) is None


async def test_lock_token(program: Program, r: Any, name: str) -> None:
    lock = program.lock(r, name, **AS_THERE)
    for token in (b"test", "test"):
        assert await lock.acquire(blocking=False, token=token)
        assert by_field(await here(r.execute_command("LOCK.GET", name)))["owner"] == b"test"
        assert lock.token == b"test"
        await lock.release()
    assert lock.token is None


async def test_locked(program: Program, r: Any, name: str) -> None:
    lock = program.lock(r, name, **AS_THERE)
    assert not await lock.locked()
    await lock.acquire(blocking=False)
    assert await lock.locked()
    await lock.release()
    assert not await lock.locked()


async def test_owned(program: Program, r: Any, name: str) -> None:
    lock, lock2 = (program.lock(r, name, **AS_THERE) for _ in range(2))
    assert not await lock.owned()
    await lock.acquire(blocking=False)
    assert await lock.owned()
    assert not await lock2.owned()
    await lock.release()
    assert not await lock.owned()
    await lock2.acquire(blocking=False)
    assert not await lock.owned()
    assert await lock2.owned()
    await lock2.release()


async def test_competing_locks(program: Program, r: Any, name: str) -> None:
    lock1, lock2 = (program.lock(r, name, **AS_THERE) for _ in range(2))
    assert await lock1.acquire(blocking=False)
    assert not await lock2.acquire(blocking=False)
    await lock1.release()
    assert await lock2.acquire(blocking=False)
    assert not await lock1.acquire(blocking=False)
    await lock2.release()


@pytest.mark.parametrize("ttl", [10, 9.5])
async def test_timeout(program: Program, r: Any, name: str, ttl: float) -> None:
    lock = program.lock(r, name, timeout=ttl, queue=False)
    assert await lock.acquire(blocking=False)
    assert 8_000 < await ttl_ms(r, name) <= ttl * 1000
    await lock.release()


async def test_blocking_timeout(program: Program, r: Any, name: str) -> None:
    lock1 = program.lock(r, name, **AS_THERE)
    assert await lock1.acquire(blocking=False)
    lock2 = program.lock(r, name, **AS_THERE, blocking_timeout=0.2)
    began = now_ms()
    assert not await lock2.acquire()
    assert 100 < now_ms() - began < 2_000
    await lock1.release()


async def test_context_manager(program: Program, r: Any, name: str) -> None:
    async with program.lock(r, name, **AS_THERE) as lock:
        assert by_field(await here(r.execute_command("LOCK.GET", name)))["owner"] == lock.token
    assert await here(r.execute_command("LOCK.GET", name)) is None


async def test_context_manager_reraises_the_bodys_error(
    program: Program, r: Any, name: str
) -> None:
    lock = program.lock(r, name, **AS_THERE)
    with pytest.raises(ZeroDivisionError):
        async with lock:
            raise ZeroDivisionError
    assert not await lock.locked()


async def test_context_manager_blocking_timeout(program: Program, r: Any, name: str) -> None:
    async with program.lock(r, name, **AS_THERE):
        lock2 = program.lock(r, name, **AS_THERE, blocking_timeout=0.1)
        with pytest.raises(LockError, match="within the time specified"):
            async with lock2:
                pytest.fail("it is held by somebody else")


async def test_context_manager_not_raise_on_release_error(
    program: Program, r: Any, name: str
) -> None:
    quiet = program.lock(r, name, 0.05, auto_renew=False, queue=False, raise_on_release_error=False)
    async with quiet:
        await gone(r, name)
    loud = program.lock(r, name, 0.05, auto_renew=False, queue=False)
    with pytest.raises(LockNotOwnedError):
        async with loud:
            await gone(r, name)


async def test_high_sleep_small_blocking_timeout(program: Program, r: Any, name: str) -> None:
    lock1 = program.lock(r, name, **AS_THERE)
    assert await lock1.acquire(blocking=False)
    lock2 = program.lock(r, name, ttl=None, queue=False, sleep=60, blocking_timeout=0.3)
    began = now_ms()
    assert not await lock2.acquire()
    assert now_ms() - began < 2_000
    await lock1.release()


async def test_releasing_unlocked_lock_raises_error(program: Program, r: Any, name: str) -> None:
    with pytest.raises(LockError):
        await program.lock(r, name, **AS_THERE).release()


async def test_releasing_lock_no_longer_owned_raises_error(
    program: Program, r: Any, name: str
) -> None:
    lock = program.lock(r, name, **AS_THERE)
    await lock.acquire(blocking=False)
    await here(r.execute_command("LOCK.BREAK", name))
    await here(r.execute_command("LOCK.ACQUIRE", name, "somebody else"))
    with pytest.raises(LockNotOwnedError):
        await lock.release()
    assert lock.token is None, "even if the hold was lost, the lock is free of it"


async def test_extend_lock(program: Program, r: Any, name: str) -> None:
    lock = program.lock(r, name, 10, queue=False)
    assert await lock.acquire(blocking=False)
    assert 8_000 < await ttl_ms(r, name) <= 10_000
    assert await lock.extend(10)
    assert 16_000 < await ttl_ms(r, name) <= 20_000
    await lock.release()


async def test_extend_lock_replace_ttl(program: Program, r: Any, name: str) -> None:
    lock = program.lock(r, name, 10, queue=False)
    assert await lock.acquire(blocking=False)
    assert await lock.extend(10, replace_ttl=True)
    assert 8_000 < await ttl_ms(r, name) <= 10_000
    await lock.release()


async def test_extend_lock_float(program: Program, r: Any, name: str) -> None:
    lock = program.lock(r, name, 10.5, queue=False)
    assert await lock.acquire(blocking=False)
    assert await lock.extend(10.5)
    assert 17_000 < await ttl_ms(r, name) <= 21_000
    await lock.release()


async def test_extending_unlocked_lock_raises_error(program: Program, r: Any, name: str) -> None:
    with pytest.raises(LockError):
        await program.lock(r, name, 10, queue=False).extend(10)


async def test_extending_lock_with_no_timeout_raises_error(
    program: Program, r: Any, name: str
) -> None:
    lock = program.lock(r, name, **AS_THERE)
    assert await lock.acquire(blocking=False)
    with pytest.raises(LockError):
        await lock.extend(10)
    await lock.release()


async def test_extending_lock_no_longer_owned_raises_error(
    program: Program, r: Any, name: str
) -> None:
    lock = program.lock(r, name, 10, queue=False)
    assert await lock.acquire(blocking=False)
    await here(r.execute_command("LOCK.BREAK", name))
    with pytest.raises(LockNotOwnedError):
        await lock.extend(10)


async def test_reacquire_lock(program: Program, r: Any, name: str) -> None:
    lock = program.lock(r, name, 10, queue=False)
    assert await lock.acquire(blocking=False)
    await here(r.execute_command("LOCK.RENEW", name, lock.token, "TTL", 5_000))
    assert await lock.reacquire()
    assert 8_000 < await ttl_ms(r, name) <= 10_000
    await lock.release()


async def test_reacquiring_unlocked_and_lost_locks(program: Program, r: Any, name: str) -> None:
    lock = program.lock(r, name, 10, queue=False)
    with pytest.raises(LockError):
        await lock.reacquire()
    assert await lock.acquire(blocking=False)
    await here(r.execute_command("LOCK.BREAK", name))
    with pytest.raises(LockNotOwnedError):
        await lock.reacquire()


async def test_the_lock_of_the_client_itself(program: Program, r: Any, name: str) -> None:
    """`client.lock(..., lock_class=...)` passes what redis-py's Lock takes."""
    kind = resplock.AsyncLock if program.is_async else resplock.Lock
    lock = r.lock(name, timeout=10, blocking=False, blocking_timeout=3, lock_class=kind)
    assert await here(lock.acquire())
    assert lock.version > 0
    assert 8_000 < await ttl_ms(r, name) <= 10_000
    assert not await here(r.lock(name, blocking=False, lock_class=kind).acquire())
    await here(lock.release())
    forever = r.lock(name, blocking=False, lock_class=kind)
    assert await here(forever.acquire())
    assert await ttl_ms(r, name) == 0, "without a timeout it does not expire, as there"
    await here(forever.release())
