"""Lock and AsyncLock: what programs use. All that they decide is decided in `core`."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Literal, Self, Unpack

from redis.exceptions import LockError

from resplock.client.core import Core
from resplock.client.options import LockOptions, read_options
from resplock.client.target import AnyTarget, Name, Target
from resplock.client.tasks import AsyncLost, Tasks
from resplock.client.threads import Lost, Threads

_NOT_IN_TIME = "Unable to acquire lock within the time specified"


class SyncLock(Core[Lost]):
    """The methods of every lock over a sync client."""

    def __init__(
        self, redis: Any, target: AnyTarget, ttl: float | None, options: LockOptions
    ) -> None:
        """redis: a redis.Redis, Sentinel's among them, or a redis.RedisCluster; or several, one for each
        node, of which any one will do."""
        self._threads = Threads(redis)
        super().__init__(self._threads, target, read_options(ttl, options))

    def acquire(
        self,
        blocking: bool | None = None,
        blocking_timeout: float | None = None,
        token: str | bytes | None = None,
    ) -> bool:
        """Take the lock; whether it was had.

        blocking, blocking_timeout: as those of the lock, for this call. blocking_timeout: seconds.
        token: the owner to be, instead of a random one; nobody else may use it.

        Raises LockError when the wait was ended by an operator, its subclass DeadlockError when waiting
        would close a cycle, and redis-py's errors when the server refuses or nobody answers.
        """
        return self._threads.run(self._acquire(blocking, blocking_timeout, token))

    def release(self) -> None:
        """Give the lock back. Raises LockNotOwnedError when it was lost before, LockError without a
        hold."""
        self._threads.run(self._release())

    def extend(self, additional_time: float, replace_ttl: bool = False) -> Literal[True]:
        """Add seconds to the time that is left, or with `replace_ttl` put them in its place.

        Automatic renewal never makes that shorter, and goes on when it has nearly passed. Raises
        LockNotOwnedError when the lock was lost, LockError without a hold or without a TTL.
        """
        return self._threads.run(self._extend(additional_time, replace_ttl))

    def reacquire(self) -> Literal[True]:
        """Put the lock's whole TTL in the place of the time that is left. Raises as `extend`."""
        return self._threads.run(self._reacquire())

    def locked(self) -> bool:
        """Whether anybody holds the lock, as the server says now."""
        return self._threads.run(self._locked())

    def owned(self) -> bool:
        """Whether this lock's hold is the one that counts, as the server says now."""
        return self._threads.run(self._owned())

    def info(self) -> dict[str, Any] | None:
        """What LOCK.GET says of the lock, by field: who holds it, with which version, for how long;
        None when nobody holds it or waits for it. Of several locks, the first."""
        return self._threads.run(self._info())

    def __enter__(self) -> Self:
        if self.acquire():
            return self
        raise LockError(_NOT_IN_TIME, self.title)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._threads.run(self._leave())


class AsyncLockBase(Core[AsyncLost]):
    """The methods of every lock over an asyncio client: those of SyncLock, awaited."""

    def __init__(
        self, redis: Any, target: AnyTarget, ttl: float | None, options: LockOptions
    ) -> None:
        """redis: as that of SyncLock, from redis.asyncio."""
        self._tasks = Tasks(redis)
        super().__init__(self._tasks, target, read_options(ttl, options))

    async def acquire(
        self,
        blocking: bool | None = None,
        blocking_timeout: float | None = None,
        token: str | bytes | None = None,
    ) -> bool:
        """As SyncLock.acquire. A task that is cancelled while it waits gives its place up first."""
        return await self._tasks.run(self._acquire(blocking, blocking_timeout, token))

    async def release(self) -> None:
        """As SyncLock.release."""
        await self._tasks.run(self._release())

    async def extend(self, additional_time: float, replace_ttl: bool = False) -> Literal[True]:
        """As SyncLock.extend."""
        return await self._tasks.run(self._extend(additional_time, replace_ttl))

    async def reacquire(self) -> Literal[True]:
        """As SyncLock.reacquire."""
        return await self._tasks.run(self._reacquire())

    async def locked(self) -> bool:
        """As SyncLock.locked."""
        return await self._tasks.run(self._locked())

    async def owned(self) -> bool:
        """As SyncLock.owned."""
        return await self._tasks.run(self._owned())

    async def info(self) -> dict[str, Any] | None:
        """As SyncLock.info."""
        return await self._tasks.run(self._info())

    async def __aenter__(self) -> Self:
        if await self.acquire():
            return self
        raise LockError(_NOT_IN_TIME, self.title)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._tasks.run(self._leave())


class Lock(SyncLock):
    """A lock that one client holds at a time.

        with resplock.Lock(redis.Redis(port=7379), "orders/42", ttl=30.0) as lock:
            write(order, version=lock.version)

    It reads like redis-py's Lock, and can be had from it: `client.lock(name, timeout=30,
    lock_class=resplock.Lock)`. What it adds: `version` fences writes; waiting is in the server's queue;
    a hold is renewed until it is released; `lost` and `on_lost` tell of its loss.
    """

    def __init__(
        self, redis: Any, name: Name, ttl: float | None = 30.0, **options: Unpack[LockOptions]
    ) -> None:
        """ttl: seconds that a hold lasts without a renewal; None for a hold that lasts until it is
        released. options: see LockOptions. Raises ValueError."""
        super().__init__(redis, Target(name), ttl, options)


class AsyncLock(AsyncLockBase):
    """A lock that one client holds at a time, for asyncio: `async with`, and methods are awaited.

    Its arguments, properties and rules are those of Lock.
    """

    def __init__(
        self, redis: Any, name: Name, ttl: float | None = 30.0, **options: Unpack[LockOptions]
    ) -> None:
        """See Lock."""
        super().__init__(redis, Target(name), ttl, options)
