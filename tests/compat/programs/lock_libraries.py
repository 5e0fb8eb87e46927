"""What programs do with lock libraries that bring no tests: python lock_libraries.py NAME.

Each library is described by a class: how its lock is taken once, released and extended.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Coroutine
from typing import Any

import redis
from telling import RUN, ask, end, judge

HOST, PORT = RUN["host"], RUN["port"]
URL = f"redis://{HOST}:{PORT}/0"
TTL_S = 30


class Library:
    """One user of a library, with at most one lock of each name."""

    extends = True
    knows_owner = True
    """Whether its release is the owner's alone."""

    def __init__(self) -> None:
        self.locks: dict[str, Any] = {}

    def key(self, name: str) -> str:
        """The key that the library uses for this lock."""
        return name

    def take(self, name: str, ttl_s: float = TTL_S) -> bool:
        """Try once."""
        raise NotImplementedError

    def release(self, name: str) -> None:
        """Give it back. Any error will do when it is not ours."""
        raise NotImplementedError

    def extend(self, name: str, ttl_s: float) -> None:
        """Move its end."""
        raise NotImplementedError


class Sherlock(Library):
    def __init__(self) -> None:
        super().__init__()
        import sherlock

        self._sherlock = sherlock
        self._client = redis.StrictRedis(HOST, PORT)

    def take(self, name: str, ttl_s: float = TTL_S) -> bool:
        # It knows whole seconds only.
        lock = self._sherlock.RedisLock(name, client=self._client, expire=max(1, round(ttl_s)))
        if not lock._acquire():
            return False
        self.locks[name] = lock
        return True

    def release(self, name: str) -> None:
        self.locks.pop(name)._release()

    def extend(self, name: str, ttl_s: float) -> None:
        lock = self.locks[name]
        lock.expire = round(ttl_s)
        assert lock._renew()


class _Asynchronous(Library):
    """Each user has an event loop."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)

    def run(self, what: Coroutine[Any, Any, Any]) -> Any:
        """The result of a coroutine of the library's."""
        return self._loop.run_until_complete(what)


class RedlockNg(Library):
    def __init__(self) -> None:
        super().__init__()
        import redlock

        config = redlock.RedlockConfig(masters=[URL], socket_timeout=10)
        self._redlock = redlock.Redlock(config, retry_count=0)

    def take(self, name: str, ttl_s: float = TTL_S) -> bool:
        lock = self._redlock.acquire(name, ttl=round(ttl_s * 1000))
        if lock is None:
            return False
        self.locks[name] = lock
        return True

    def release(self, name: str) -> None:
        self._redlock.release(self.locks.pop(name))

    def extend(self, name: str, ttl_s: float) -> None:
        assert self._redlock.extend(self.locks[name], round(ttl_s * 1000))


class Aioredlock(_Asynchronous):
    def __init__(self) -> None:
        super().__init__()
        from aioredlock import Aioredlock, LockError

        self._error = LockError
        self._manager = Aioredlock([(HOST, PORT)], retry_count=1)

    def take(self, name: str, ttl_s: float = TTL_S) -> bool:
        try:
            self.locks[name] = self.run(self._manager.lock(name, lock_timeout=ttl_s))
        except self._error:
            return False
        return True

    def release(self, name: str) -> None:
        self.run(self._manager.unlock(self.locks.pop(name)))

    def extend(self, name: str, ttl_s: float) -> None:
        self.run(self._manager.extend(self.locks[name], lock_timeout=ttl_s))


class CeleryOnce(Library):
    extends = False
    knows_owner = False

    def __init__(self) -> None:
        super().__init__()
        from celery_once import AlreadyQueued
        from celery_once.backends.redis import Redis

        self._error = AlreadyQueued
        self._backend = Redis({"url": URL, "default_timeout": TTL_S})

    def take(self, name: str, ttl_s: float = TTL_S) -> bool:
        try:
            self._backend.raise_or_lock(name, timeout=ttl_s)
        except self._error:
            return False
        self.locks[name] = name
        return True

    def release(self, name: str) -> None:
        self._backend.clear_lock(self.locks.pop(name))


class PythonRedisLock(Library):
    def __init__(self) -> None:
        super().__init__()
        self._client = redis.StrictRedis(HOST, PORT)

    def key(self, name: str) -> str:
        return f"lock:{name}"

    def take(self, name: str, ttl_s: float = TTL_S) -> bool:
        import redis_lock

        lock = redis_lock.Lock(self._client, name, expire=max(1, round(ttl_s)))
        if not lock.acquire(blocking=False):
            return False
        self.locks[name] = lock
        return True

    def release(self, name: str) -> None:
        self.locks.pop(name).release()

    def extend(self, name: str, ttl_s: float) -> None:
        self.locks[name].extend(expire=round(ttl_s))


LIBRARIES: dict[str, type[Library]] = {
    "aioredlock": Aioredlock,
    "celery-once": CeleryOnce,
    "python-redis-lock": PythonRedisLock,
    "redlock-ng": RedlockNg,
    "sherlock": Sherlock,
}

# --- the cases ------------------------------------------------------------------------------------


class Cases:
    """What every lock library promises."""

    def __init__(self, library: type[Library]) -> None:
        self._library = library
        self._look = redis.Redis(HOST, PORT, protocol=3)

    def take(self) -> None:
        me, you = self._library(), self._library()
        assert me.take("try")
        assert not you.take("try")
        assert self._look.get(me.key("try")) is not None
        assert 0 < self._look.pttl(me.key("try")) <= TTL_S * 1000 + 1000
        me.release("try")
        assert self._look.get(me.key("try")) is None
        assert you.take("try")

    def version(self) -> None:
        me = self._library()
        assert me.take("versions")
        first = self.version_of(me.key("versions"))
        me.release("versions")
        assert me.take("versions")
        assert self.version_of(me.key("versions")) > first > 0

    def ends(self) -> None:
        me, you = self._library(), self._library()
        self._outlive(me, you, "brief")

    def lose(self) -> None:
        me, you = self._library(), self._library()
        self._outlive(me, you, "lost")
        mine = self._look.get(you.key("lost"))
        # Some say that it is lost, each in its own way, and some say nothing.
        with contextlib.suppress(Exception):
            me.release("lost")
        assert self._look.get(you.key("lost")) == mine, "somebody else's lock was released"

    def _outlive(self, me: Library, you: Library, name: str) -> None:
        assert me.take(name, 0.2)
        until = time.monotonic() + 10
        while not you.take(name):
            assert time.monotonic() < until, "it does not end"
            time.sleep(0.02)

    def extend(self) -> None:
        me = self._library()
        assert me.take("extend", 2)
        me.extend("extend", 60)
        assert self._look.pttl(me.key("extend")) > 10_000
        me.release("extend")

    def survive(self) -> None:
        me, you = self._library(), self._library()
        assert me.take("kept", 600)
        before = self.version_of(me.key("kept"))
        ask("kill leader")
        assert not you.take("kept")
        assert self.version_of(me.key("kept")) == before
        me.release("kept")
        assert you.take("kept")
        ask("restore")

    def version_of(self, key: str) -> int:
        """The fencing version of the hold."""
        return int(self._look.execute_command("LOCK.GET", key)[b"version"])


def main() -> None:
    """Run every case that this library and this server allow."""
    library = LIBRARIES[sys.argv[1]]
    cases = Cases(library)
    judge("takes a free lock, is refused a held one, releases it", cases.take)
    judge("each hold has a version, above the last one's", cases.version)
    judge("a lock ends with its TTL", cases.ends)
    if library.knows_owner:
        judge("who has lost a lock does not release the next one's", cases.lose)
    if library.extends:
        judge("extends a lock", cases.extend)
    if RUN["nodes"] > 1:
        judge(
            "the leader is killed: a lock that was held still is, with its version", cases.survive
        )
    end()


main()
