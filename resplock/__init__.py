"""resplock: a distributed lock server that speaks the Redis protocol.

Any Redis client connects to it; every grant is decided by Raft, is on the disks of a majority before
it is told, and carries a fencing version. A guided tour of the files:

    cli/, config.py      the `resplock` command and its settings
    server/              sockets, RocksDB, the event loop: runs what a node asks for
    server/peers/        the links to the other nodes
    node/                one node: raft + lock table + the clients that wait      (pure)
    raft/                consensus                                               (pure)
    state/               the replicated lock table                               (pure)
    resp/                RESP bytes <-> typed operations and replies             (pure)
    operations.py        the vocabulary between resp and state                   (pure)
    client/              resplock.Lock and its like, over redis-py
    types.py errors.py limits.py glob.py addresses.py    what all of them share  (pure)

Follow one LOCK.ACQUIRE: server/connection.py takes the bytes, resp/parser.py cuts them into
commands, resp/commands binds the arguments to an Acquire, node/ gathers it into one entry of the
turn, raft/core.py hands out what is to be sent and made durable, server/storage.py syncs it,
state/table.py applies it once a majority has it, and resp/replies.py turns the outcome into the reply.
On a follower node/ forwards it to the leader instead, and passes the outcome on. One that has to wait
in line is answered by node/waits.py, when its own node applies what ends the wait; and whoever
subscribes is told by server/events.py what was applied.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resplock.client import (
        AsyncElection,
        AsyncLock,
        AsyncMultiLock,
        AsyncRWLock,
        AsyncSemaphore,
        DeadlockError,
        Election,
        Lock,
        LockError,
        LockNotOwnedError,
        MultiLock,
        RWLock,
        Semaphore,
    )

__version__ = "0.1.0"
__all__ = [
    "AsyncElection",
    "AsyncLock",
    "AsyncMultiLock",
    "AsyncRWLock",
    "AsyncSemaphore",
    "DeadlockError",
    "Election",
    "Lock",
    "LockError",
    "LockNotOwnedError",
    "MultiLock",
    "RWLock",
    "Semaphore",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """The client's names. They bring redis-py with them, which the server does without."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("resplock.client"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
