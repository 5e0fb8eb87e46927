"""What clients ask of the lock table, and what it answers: the vocabulary between `resp` and `state`.

`resp` turns a client's arguments into an Operation or a Query and an Outcome into a reply; `state`
turns an Operation into an Outcome and a Query into an answer. Neither imports the other.

Pure. Operations are the commands of the Raft log: a run of them is encoded as one msgpack array, so
their tags and field order are a durable format. Fields are only ever added at the end, with a
default that means "as before"; a test keeps bytes of every released version.

Times: `ttl_ms` is a duration in milliseconds, 0 means no expiry, KEEP_TTL (-1) means "the hold's own
TTL". A `version` of 0 means that none was given. Metadata is ((field, value), ...) as it was sent.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from resplock import limits
from resplock.types import LockName, Natural, StampMs, UnixMs

KEEP_TTL = -1

Metadata: TypeAlias = tuple[tuple[bytes, bytes], ...]
TtlOrKeep: TypeAlias = Annotated[int, Meta(ge=KEEP_TTL, le=limits.INTEGER_MAX)]


# --- operations: proposed, logged, applied -------------------------------------------------------


class Acquire(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=1):
    """Take the lock, or extend it when its owner asks again."""

    name: LockName
    owner: bytes
    ttl_ms: Natural = limits.TTL_MS_DEFAULT
    request: bytes = b""
    metadata: Metadata = ()


class Release(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=2):
    """Give the lock back."""

    name: LockName
    owner: bytes
    version: Natural = 0


class Renew(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=3):
    """Set the hold's end to `ttl_ms` from now, exactly; its version stays."""

    name: LockName
    owner: bytes
    version: Natural = 0
    ttl_ms: TtlOrKeep = KEEP_TTL


class KeepAlive(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=4):
    """Renew every hold of an owner. With `versions`, also learn which of those holds were lost."""

    owner: bytes
    ttl_ms: TtlOrKeep = KEEP_TTL
    versions: tuple[tuple[LockName, Natural], ...] = ()


class Break(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=5):
    """An operator takes the lock away from whoever holds it."""

    name: LockName
    version: Natural = 0
    reason: bytes = b""


class Settle(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=6):
    """End what is overdue on these locks. The leader proposes it for a read that met such a hold."""

    names: tuple[LockName, ...]


class SetUnixOffset(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=7):
    """Unix time minus the replicated clock, in milliseconds."""

    offset_ms: Annotated[int, Meta(ge=-limits.INTEGER_MAX, le=limits.INTEGER_MAX)]


Operation: TypeAlias = Acquire | Release | Renew | KeepAlive | Break | Settle | SetUnixOffset


# --- queries: answered from applied state --------------------------------------------------------


class GetLock(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=1):
    """Everything about one lock. Answer: LockInfo, or None when nobody holds it or waits for it."""

    name: LockName
    waiters: bool = False


class ListLocks(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=2):
    """One page of the locks of a database. Answer: LockPage.

    `cursor` is what the last page gave, 0 to begin. `match` and `owner` are globs (b"" = any).
    `expires_before` and `expires_after` are unix milliseconds (0 = any).
    """

    db: int
    cursor: bytes = b"0"
    match: bytes = b""
    owner: bytes = b""
    held: bool = False
    contested: bool = False
    expires_before: int = 0
    expires_after: int = 0
    metadata: Metadata = ()
    count: int = limits.LIST_COUNT_DEFAULT


class CheckVersion(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=3):
    """Is this version the lock's current grant? Answer: 1 or 0."""

    name: LockName
    version: int


class GetBackoff(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=4):
    """When to try again. Answer: Advice."""

    name: LockName


class GetStats(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=5):
    """Totals of the lock table. Answer: Stats."""


class CountLocks(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=6):
    """How many locks of a database are held (DBSIZE). Answer: an int."""

    db: int


Query: TypeAlias = GetLock | ListLocks | CheckVersion | GetBackoff | GetStats | CountLocks


# --- outcomes of operations ----------------------------------------------------------------------


class Advice(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """When and how to try again: wait `retry_after_ms`, then back off as described.

    Multiplier and jitter are in hundredths, because apply knows no floats: 150 is 1.5.
    """

    retry_after_ms: int
    initial_ms: int = 50
    max_ms: int = 1000
    multiplier_pct: int = 150
    jitter_pct: int = 20


class Granted(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=1):
    """The owner has the lock."""

    version: int
    ttl_ms: int
    waiters: int = 0


class Held(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=2):
    """Somebody else has the lock."""

    owner: bytes
    version: int
    ttl_ms: int
    waiters: int
    advice: Advice


class Lost(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=3):
    """The answer to a repeated REQUEST whose grant has ended since."""

    version: int


class Released(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=4):
    """The hold was given back. `holds`: how many are left (re-entrant); `promoted`: the next owner."""

    holds: int = 0
    promoted: bytes | None = None


class Renewed(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=5):
    """The hold ends `ttl_ms` from now (0: never)."""

    version: int
    ttl_ms: int


class Kept(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=6):
    """How many holds were renewed; `lost` is None unless versions were given."""

    renewed: int
    lost: tuple[LockName, ...] | None = None


class Broken(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=7):
    """The lock was taken away from `owner`."""

    owner: bytes
    version: int


class NotHeld(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=8):
    """Nobody holds the lock."""

    name: LockName


class NotOwner(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=9):
    """Somebody else holds the lock."""

    name: LockName
    holder: bytes
    version: int


class Stale(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=10):
    """The VERSION that was given is not the hold's."""

    name: LockName
    given: int
    current: int


class Done(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=11):
    """An internal operation (Settle, SetUnixOffset) took effect."""


class InDoubt(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=12):
    """It was proposed and its fate is unknown."""


class NoLeader(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=13):
    """There is no leader, and it was certainly not proposed."""


class Busy(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=14):
    """A bound was reached and nothing was done. `what` names the bound."""

    what: str


class Moved(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=15):
    """Another node leads, and clients are to go there: `address` is its host:port."""

    slot: int
    address: str


Outcome: TypeAlias = (
    Granted | Held | Lost | Released | Renewed | Kept | Broken | NotHeld | NotOwner | Stale | Done
)
"""What `apply` answers."""

Unapplied: TypeAlias = InDoubt | NoLeader | Busy | Moved
"""What the node answers for an operation whose outcome it does not have."""


# --- answers to queries --------------------------------------------------------------------------


class LockInfo(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=20):
    """A lock as LOCK.GET and LOCK.LIST show it. Moments are unix milliseconds; 0 is never."""

    name: LockName
    owner: bytes | None
    mode: str
    version: int
    acquired_at: UnixMs
    expires_at: UnixMs
    last_modified: UnixMs
    ttl_ms: int
    limit: int
    waiter_count: int
    metadata: Metadata


class LockPage(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=21):
    """One page of LOCK.LIST; `cursor` is b"0" after the last one."""

    cursor: bytes
    locks: tuple[LockInfo, ...]


class Stats(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=22):
    """Totals since the cluster began, and the present. Rates are over the last seconds, whole numbers."""

    active_locks: int
    waiters: int
    contested_locks: int
    average_hold_ms: int
    acquisitions_per_s: int
    releases_per_s: int
    acquisitions: int
    refusals: int
    releases: int
    renewals: int
    expired: int
    broken: int
    last_version: int
    clock_ms: StampMs


Answer: TypeAlias = LockInfo | None | LockPage | int | Advice | Stats


def encode_run(operations: list[Operation]) -> bytes:
    """Encode the commands of one entry."""
    return _encoder.encode(operations)


def decode_run(payload: bytes) -> list[Operation]:
    """Decode the commands of one entry. Raises msgspec.DecodeError when they are not a run."""
    return _decoder.decode(payload)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Operation])
