"""Semaphores, readers and writers, and several locks at once: what they add to the command."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar, Unpack

from resplock.client.locks import AsyncLockBase, SyncLock
from resplock.client.options import LockOptions
from resplock.client.target import Name, Several, Target

AnyLock = TypeVar("AnyLock", SyncLock, AsyncLockBase)


class Semaphore(SyncLock):
    """A lock with `limit` permits, of which each hold takes some.

        with resplock.Semaphore(client, "gpu", limit=4) as permit:
            ...

    One object is for one holder at a time, as a Lock is: each thread may use the same, for it has a
    hold of its own; make one for each holder otherwise. All who use the name give the same limit.
    """

    def __init__(
        self,
        redis: Any,
        name: Name,
        limit: int,
        permits: int = 1,
        ttl: float | None = 30.0,
        **options: Unpack[LockOptions],
    ) -> None:
        """permits: how many a hold takes, all at once. ttl, options: as those of Lock."""
        super().__init__(redis, _semaphore(name, limit, permits), ttl, options)


class AsyncSemaphore(AsyncLockBase):
    """Semaphore for asyncio. Make one object for each task that holds permits at the same time."""

    def __init__(
        self,
        redis: Any,
        name: Name,
        limit: int,
        permits: int = 1,
        ttl: float | None = 30.0,
        **options: Unpack[LockOptions],
    ) -> None:
        """See Semaphore."""
        super().__init__(redis, _semaphore(name, limit, permits), ttl, options)


class _ReadersAndWriters(Generic[AnyLock]):
    """What RWLock and AsyncRWLock share: all but the kind of lock that they make."""

    _lock: Callable[..., AnyLock]

    def __init__(
        self, redis: Any, name: Name, ttl: float | None = 30.0, **options: Unpack[LockOptions]
    ) -> None:
        """ttl, options: as those of Lock, for readers and writers alike."""
        self._name = name
        self._of: Callable[[Target], AnyLock] = partial(
            type(self)._lock, redis, ttl=ttl, options=options
        )

    def reader(self) -> AnyLock:
        """A new lock that readers hold together."""
        return self._of(_shared(self._name))

    def writer(self) -> AnyLock:
        """A new lock that one writer holds alone."""
        return self._of(Target(self._name))


class RWLock(_ReadersAndWriters[SyncLock]):
    """A lock that many readers or one writer hold.

        library = resplock.RWLock(client, "catalogue")
        with library.reader() as lock:
            ...
        with library.writer() as lock:
            write(entry, version=lock.version)

    A writer that waits is not passed by readers that come later.
    """

    _lock = SyncLock


class AsyncRWLock(_ReadersAndWriters[AsyncLockBase]):
    """RWLock for asyncio: `async with library.reader() as lock`."""

    _lock = AsyncLockBase


class MultiLock(SyncLock):
    """Several locks, all or none, under one version.

        with resplock.MultiLock(client, ["account/1", "account/2"]) as locks:
            transfer(version=locks.version)

    They are taken at once, in whichever order they are named: no two of these wait for each other.
    """

    def __init__(
        self,
        redis: Any,
        names: list[Name] | tuple[Name, ...],
        ttl: float | None = 30.0,
        **options: Unpack[LockOptions],
    ) -> None:
        """ttl, options: as those of Lock; `delay` and `metadata` are not for several. Raises ValueError
        when there are no names, or one twice."""
        super().__init__(redis, _several(names), ttl, options)


class AsyncMultiLock(AsyncLockBase):
    """MultiLock for asyncio."""

    def __init__(
        self,
        redis: Any,
        names: list[Name] | tuple[Name, ...],
        ttl: float | None = 30.0,
        **options: Unpack[LockOptions],
    ) -> None:
        """See MultiLock."""
        super().__init__(redis, _several(names), ttl, options)


def _shared(name: Name) -> Target:
    return Target(name, ("SHARED",), is_shared=True)


def _semaphore(name: Name, limit: int, permits: int) -> Target:
    if not 1 <= permits <= limit:
        raise ValueError(f"permits must be 1 to the limit, which is {limit}, got {permits}")
    return Target(name, ("LIMIT", limit, "PERMITS", permits), is_shared=True)


def _several(names: list[Name] | tuple[Name, ...]) -> Several:
    if not names or len(set(names)) < len(names):
        raise ValueError(f"names must be different ones, at least one, got {names!r}")
    return Several(tuple(names))
