"""The Python client: locks over redis-py.

    locks.py             Lock and AsyncLock, thin: each method runs a rule
    kinds.py             Semaphore, RWLock, MultiLock
    elections.py         Election
    core.py              what they have in common: the hold, its renewal, `lost`
    acquiring.py         taking a lock, through lost replies, failovers and long waits   (pure)
    keeping.py           renewing, extending and releasing                               (pure)
    hold.py              until when a hold certainly lasts                               (pure)
    target.py trouble.py pauses.py options.py settings.py asking.py effects.py           (pure)
    threads.py links.py  carrying the rules out by blocking
    tasks.py             carrying them out with asyncio

A rule is a generator that yields effects ("send this", "sleep so long") and is resumed with what came
of them. So sync and asyncio share the rules, and tests need neither a server nor a clock.

It knows nothing of the server but its commands. Programs use `resplock.Lock` and its like, which import
this, and redis-py with it, at the first use.
"""

from redis.exceptions import LockError, LockNotOwnedError

from resplock.client.acquiring import DeadlockError
from resplock.client.elections import AsyncElection, Election, Leader
from resplock.client.kinds import (
    AsyncMultiLock,
    AsyncRWLock,
    AsyncSemaphore,
    MultiLock,
    RWLock,
    Semaphore,
)
from resplock.client.locks import AsyncLock, Lock
from resplock.client.options import LockOptions
from resplock.client.tasks import AsyncLost
from resplock.client.threads import Lost

__all__ = [
    "AsyncElection",
    "AsyncLock",
    "AsyncLost",
    "AsyncMultiLock",
    "AsyncRWLock",
    "AsyncSemaphore",
    "DeadlockError",
    "Election",
    "Leader",
    "Lock",
    "LockError",
    "LockNotOwnedError",
    "LockOptions",
    "Lost",
    "MultiLock",
    "RWLock",
    "Semaphore",
]
