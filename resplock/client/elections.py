"""Elections: one of several candidates leads, for as long as it holds a lock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from typing import Any, Generic, TypeVar, Unpack

import msgspec

from resplock.client.core import Core
from resplock.client.effects import Heed, Mailbox, Steps
from resplock.client.locks import AsyncLockBase, SyncLock
from resplock.client.options import LockOptions
from resplock.client.target import Fields, Name, Target, fields, text

_CANDIDATE = "candidate"
"""The field of the hold's metadata that names who leads."""
_LOOK_EVERY_S = 5.0
"""How often an observer looks without an event: those of a failover may be missing."""

LostT = TypeVar("LostT")


class Leader(msgspec.Struct, frozen=True):
    """Who leads. `version` is the fencing version of its leadership: a later leader has a higher one."""

    candidate: str
    version: int


class _Candidacy(Core[LostT], Generic[LostT]):
    """What Election and AsyncElection have in common."""

    candidate: str

    @property
    def is_leader(self) -> bool:
        """Whether this candidate leads, as far as it can know by itself: no server is asked."""
        return self.remaining > 0

    def _leader(self) -> Steps[Leader | None]:
        info = yield from self._info()
        return None if info is None else _leader_of(info)

    def _next_leader(
        self, mailbox: Mailbox, known: Leader | None | msgspec.UnsetType
    ) -> Steps[Any]:
        """Wait until somebody else leads than the one that is known."""
        while True:
            yield Heed(mailbox, _LOOK_EVERY_S)
            leader = yield from self._leader()
            if leader != known:
                return leader

    @property
    def _channel(self) -> bytes:
        name = self.name
        return b"__lock__:" + (name.encode() if isinstance(name, str) else name)


class Election(_Candidacy[Any], SyncLock):
    """One of several candidates leads.

        with resplock.Election(client, "scheduler", candidate="web-1") as election:
            while not election.lost:
                schedule(version=election.version)

    It is a Lock, and has its properties: `version` fences what the leader does, `lost` and `on_lost`
    tell that it leads no more.
    """

    def __init__(
        self,
        redis: Any,
        name: Name,
        candidate: str,
        ttl: float | None = 10.0,
        **options: Unpack[LockOptions],
    ) -> None:
        """candidate: who stands here, for the observers. ttl: seconds until another may lead when this
        candidate is gone without a word. options: as those of Lock."""
        super().__init__(redis, Target(name), ttl, _with_candidate(options, candidate))
        self.candidate = candidate

    def campaign(self, blocking_timeout: float | None = None) -> bool:
        """Stand for election, and wait for at most so many seconds to lead; whether it leads now."""
        return self.acquire(blocking_timeout=blocking_timeout)

    def resign(self) -> None:
        """Lead no more. The candidate that has waited longest leads at once."""
        self.release()

    def leader(self) -> Leader | None:
        """Who leads, as the server says now."""
        return self._threads.run(self._leader())

    def observe(self) -> Iterator[Leader | None]:
        """Who leads now, and then each change that is noticed; without end. None: nobody leads."""
        known: Any = msgspec.UNSET
        with closing(self._threads.mailbox(self._channel)) as mailbox:
            while True:
                known = self._threads.run(self._next_leader(mailbox, known))
                yield known


class AsyncElection(_Candidacy[Any], AsyncLockBase):
    """Election for asyncio: its methods are awaited, and `observe` is an asynchronous iterator."""

    def __init__(
        self,
        redis: Any,
        name: Name,
        candidate: str,
        ttl: float | None = 10.0,
        **options: Unpack[LockOptions],
    ) -> None:
        """See Election."""
        super().__init__(redis, Target(name), ttl, _with_candidate(options, candidate))
        self.candidate = candidate

    async def campaign(self, blocking_timeout: float | None = None) -> bool:
        """As Election.campaign."""
        return await self.acquire(blocking_timeout=blocking_timeout)

    async def resign(self) -> None:
        """As Election.resign."""
        await self.release()

    async def leader(self) -> Leader | None:
        """As Election.leader."""
        return await self._tasks.run(self._leader())

    async def observe(self) -> AsyncIterator[Leader | None]:
        """As Election.observe."""
        known: Any = msgspec.UNSET
        async with aclosing(self._tasks.mailbox(self._channel)) as mailbox:
            while True:
                known = await self._tasks.run(self._next_leader(mailbox, known))
                yield known


def _with_candidate(options: LockOptions, candidate: str) -> LockOptions:
    return {**options, "metadata": {**options.get("metadata", {}), _CANDIDATE: candidate}}


def _leader_of(info: Fields) -> Leader | None:
    """Who holds the lock, by the name that it gave; by its owner if it gave none."""
    owner = info.get("owner")
    if owner is None:
        return None
    metadata = fields(info["metadata"])
    return Leader(text(metadata.get(_CANDIDATE, owner)), int(info["version"]))
