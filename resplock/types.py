"""Ids and numbers that every layer shares.

Pure. These are NewTypes: they cost nothing at run time and keep a term from being passed where an
index is meant.
"""

from binascii import crc_hqx
from typing import Annotated, NewType

from msgspec import Meta

from resplock.limits import INTEGER_MAX, SLOTS

Term = NewType("Term", int)
"""A Raft term, 0 before the first election (Raft paper, section 5.1)."""

Index = NewType("Index", int)
"""A position in the Raft log, counted in commands. The first command has index 1; 0 is "nothing"."""

NodeId = NewType("NodeId", str)
"""A node's name within its cluster, such as `n1`. Never used again once it was removed."""

StampMs = NewType("StampMs", int)
"""A moment on the replicated clock, in milliseconds. It has no relation to wall-clock time."""

UnixMs = NewType("UnixMs", int)
"""A moment in milliseconds since the epoch, for people to read. Nothing is decided by it."""

LockName = NewType("LockName", bytes)
"""A lock's full name: one byte for the database (0..15), then the key as the client wrote it."""

Natural = Annotated[int, Meta(ge=0, le=INTEGER_MAX)]
"""What a peer, a log or a file may give for any count, term, index or time: msgspec checks it."""


def lock_name(db: int, key: bytes) -> LockName:
    """Join a database number and a key into the name that the lock table uses."""
    return LockName(DB_PREFIXES[db] + key)


def key_of(name: LockName) -> bytes:
    """The key as the client wrote it."""
    return name[1:]


def hash_slot(name: LockName) -> int:
    """The Redis Cluster hash slot of a lock: CRC16 of the key, or of its {tag} when it has one.

    The database's byte comes first, and a leading zero byte leaves this CRC unchanged: in database
    0, the only one a Redis Cluster has, this is the client's own slot of the key.
    Redis documentation: "Redis cluster specification", Hash tags.
    """
    opened = name.find(b"{")
    if opened > 0:
        closed = name.find(b"}", opened + 1)
        if closed > opened + 1:
            return crc_hqx(name[:1] + name[opened + 1 : closed], 0) % SLOTS
    return crc_hqx(name, 0) % SLOTS


DB_PREFIXES = tuple(bytes([db]) for db in range(16))
"""The first byte of a lock's name, by database number."""
