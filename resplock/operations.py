"""What clients ask of the lock table, and what it answers: the vocabulary between `resp` and `state`.

`resp` turns a client's arguments into an Operation or a Query and an Outcome into a reply; `state`
turns an Operation into an Outcome and a Query into an answer. Neither imports the other.

Pure. Operations are the commands of the Raft log: a run of them is encoded as one msgpack array, so
their tags and field order are a durable format. Fields are only ever added at the end, with a
default that means "as before"; a test keeps bytes of every released version.

Times: `ttl_ms` is a duration in milliseconds, 0 means no expiry, KEEP_TTL (-1) means "the hold's own
TTL". A `version` of 0 means that none was given. Metadata is ((field, value), ...) as it was sent.

Waiting: an Acquire that has to wait is answered `Blocked`, and later ends exactly once, with an
`Ended` that names the same ticket. What happens to locks besides is told in `Event`s.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from resplock import limits
from resplock.types import LockName, Natural, NodeId, StampMs, UnixMs

KEEP_TTL = -1
ALL_DATABASES = -1

Metadata: TypeAlias = tuple[tuple[bytes, bytes], ...]
TtlOrKeep: TypeAlias = Annotated[int, Meta(ge=KEEP_TTL, le=limits.INTEGER_MAX)]
Database: TypeAlias = Annotated[int, Meta(ge=ALL_DATABASES, lt=limits.DATABASES)]
Signed: TypeAlias = Annotated[int, Meta(ge=-limits.INTEGER_MAX - 1, le=limits.INTEGER_MAX)]
Priority: TypeAlias = Annotated[int, Meta(ge=limits.PRIORITY_MIN, le=limits.PRIORITY_MAX)]


class ClientId(msgspec.Struct, frozen=True, order=True, gc=False, array_like=True):
    """A connection, in the log: what it waits for and what it holds ends with it.

    `incarnation` tells one life of the node's process from the next; `serial` counts within it.
    """

    node: NodeId
    incarnation: Natural
    serial: Natural


class Options(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What only some acquisitions ask for. The defaults are a try for an exclusive hold.

    `wait_ms` 0 is a try; of a place that nobody is blocked for (`blocking` False: LOCK.ENQUEUE) it
    is the lifetime, limits.WAIT_MS_MAX when none is given. `limit` 0 is no semaphore. `on_close`
    ends the hold with `client`. For `delay_ms` after an involuntary end, nobody is granted the lock.
    """

    wait_ms: Natural = 0
    priority: Priority = 0
    shared: bool = False
    limit: Natural = 0
    permits: Natural = 1
    reentrant: bool = False
    on_close: bool = False
    delay_ms: Natural = 0
    blocking: bool = True
    client: ClientId | None = None


# --- operations: proposed, logged, applied -------------------------------------------------------


class Acquire(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=1):
    """Take the lock, or extend it when its owner asks again."""

    name: LockName
    owner: bytes
    ttl_ms: Natural = limits.TTL_MS_DEFAULT
    request: bytes = b""
    metadata: Metadata = ()
    options: Options | None = None


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


class AcquireAll(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=8):
    """Take all of these locks, or none: one grant with one version. Exclusive holds only."""

    names: tuple[LockName, ...]
    owner: bytes
    ttl_ms: Natural = limits.TTL_MS_DEFAULT
    request: bytes = b""
    metadata: Metadata = ()
    options: Options | None = None


class Cancel(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=9):
    """Give up the owner's place in the lock's queue."""

    name: LockName
    owner: bytes


class Disconnect(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=10):
    """These connections have closed: what is still attached to them ends."""

    clients: tuple[ClientId, ...]


class NodeGone(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=11):
    """The connections of a node are gone: all but those of `incarnation` (0: every one)."""

    node: NodeId
    incarnation: Natural = 0


class Unblock(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=12):
    """End the wait that this connection is blocked in: as timed out, or with `error`."""

    client: ClientId
    error: bool = False


class Undelivered(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=13):
    """The grant that ended a wait could not be told: its client has gone meanwhile.

    It is released; if it was asked for with a `request`, only when nobody has asked again with the
    same id for limits.WAITER_GRACE_MS. The fields are those of the `Ended`.
    """

    names: tuple[LockName, ...]
    owner: bytes
    version: Natural
    request: bytes = b""


class AddRefusals(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=14):
    """So many tries were refused by reads, of which the log does not know: for the totals."""

    count: Natural


# Redis's commands on string keys. A key is a lock and its value the owner: `resplock.state.strings`.


class SetString(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=20):
    """SET, SETNX, SETEX, PSETEX, GETSET. Answer: Done, or Number 1 with `counts`; Bulk of the value
    before with `gives_old`. When the condition does not hold: Bulk of nothing, or Number 0.

    Until `at_ms` (unix milliseconds) if it is not 0, else for `ttl_ms`. `condition`: NX (only a key
    that is not there), XX (only one that is), or empty.
    """

    name: LockName
    value: bytes
    ttl_ms: TtlOrKeep = 0
    condition: str = ""
    at_ms: Natural = 0
    gives_old: bool = False
    counts: bool = False


class Delete(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=21):
    """DEL or UNLINK of one key. Answer: Number of the keys deleted."""

    name: LockName


class DeleteAll(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=22):
    """DEL or UNLINK of several keys. Answer: Number of the keys deleted."""

    names: tuple[LockName, ...]


class DeleteIf(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=23):
    """DELIFEQ, DELEX: delete the key if its value equals this, or else if it does not. Answer: Number."""

    name: LockName
    value: bytes
    is_equal: bool = True


class GetDelete(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=24):
    """GETDEL. Answer: Bulk of the value."""

    name: LockName


class GetExpire(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=25):
    """GETEX: the times are those of SetString. Answer: Bulk of the value."""

    name: LockName
    ttl_ms: TtlOrKeep = KEEP_TTL
    at_ms: Natural = 0


class Expire(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=26):
    """EXPIRE, PEXPIRE, EXPIREAT, PEXPIREAT: `ms` from now, or in unix time. A time that is past
    deletes the key. Answer: Number 1, or 0 when there is no key or the conditions do not hold.

    `conditions`, of NX, XX, GT and LT, must hold together.
    """

    name: LockName
    ms: Annotated[int, Meta(ge=-limits.INTEGER_MAX, le=limits.INTEGER_MAX)]
    is_unix: bool = False
    conditions: tuple[str, ...] = ()


class Persist(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=27):
    """PERSIST: the key ends with time no longer. Answer: Number 1, or 0 when it never did."""

    name: LockName


class SetAll(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=28):
    """MSET, MSETNX: `values[i]` is for `names[i]`; all are set, or none. Answer: Done; with
    `if_absent`, which needs all keys to be absent, Number 1 or 0.
    """

    names: tuple[LockName, ...]
    values: tuple[bytes, ...]
    if_absent: bool = False


class Increment(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=29):
    """INCR, DECR, INCRBY, DECRBY: add to the number that the value is, 0 when there is no key; its
    end stays. Answer: Number of the sum, or Refused."""

    name: LockName
    by: Signed


class Append(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=30):
    """APPEND: add to the end of the value; its end in time stays. Answer: Number of its bytes, or
    Refused."""

    name: LockName
    value: bytes


class Flush(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=31):
    """FLUSHDB, FLUSHALL (`db` ALL_DATABASES): delete all keys. Answer: Done, or Busy when they are
    too many for one entry."""

    db: Database = ALL_DATABASES


# Scripts, by their source or its SHA1. `resplock.state.scripting` runs them.


class Evaluate(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=40):
    """EVAL, EVALSHA and their _RO forms. `script` is the source, or with `by_sha` its SHA1 in hex.

    It may touch the locks that are named, and no others. Answer: Scripted.
    """

    script: bytes
    names: tuple[LockName, ...] = ()
    arguments: tuple[bytes, ...] = ()
    by_sha: bool = False
    read_only: bool = False


class LoadScript(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=41):
    """SCRIPT LOAD. Answer: Scripted, with the SHA1."""

    script: bytes


class FlushScripts(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=42):
    """SCRIPT FLUSH: no script is known any more. Answer: Done."""


# Transactions. `resplock.state.transactions` carries them out.


class Look(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=80):
    """A query as a step of a transaction: it sees what the steps before it have done."""

    query: Query


class Watch(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=81):
    """WATCH. Answer: Watched."""

    names: tuple[LockName, ...]


class Execute(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=82):
    """EXEC: all of the steps, with nothing between them, if none of the `watched` has changed.

    Each of those has the number that Watched gave. Steps do not wait in line. Answer: Executed.
    """

    steps: tuple[Operation, ...] = ()
    watched: tuple[tuple[LockName, Natural], ...] = ()

    @property
    def name(self) -> LockName:
        """The first key that is named: of one slot, where a cluster's client is sent with it."""
        for step in self.steps:
            what = step.query if isinstance(step, Look) else step
            for name in (getattr(what, "name", None), *getattr(what, "names", ())):
                if name is not None:
                    return LockName(name)
        return self.watched[0][0] if self.watched else LockName(b"\0")


Operation: TypeAlias = (
    Acquire
    | Release
    | Renew
    | KeepAlive
    | Break
    | Settle
    | SetUnixOffset
    | AcquireAll
    | Cancel
    | Disconnect
    | NodeGone
    | Unblock
    | Undelivered
    | AddRefusals
    | SetString
    | Delete
    | DeleteAll
    | DeleteIf
    | GetDelete
    | GetExpire
    | Expire
    | Persist
    | SetAll
    | Increment
    | Append
    | Flush
    | Evaluate
    | LoadScript
    | FlushScripts
    | Look
    | Watch
    | Execute
)


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


class GetString(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=20):
    """GET. Answer: Bulk."""

    name: LockName


class GetLength(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=21):
    """STRLEN. Answer: Number."""

    name: LockName


class GetType(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=22):
    """TYPE. Answer: Status, `string` or `none`."""

    name: LockName


class GetTtl(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=23):
    """TTL, PTTL, EXPIRETIME, PEXPIRETIME. Answer: Number; -1 when it never ends, -2 without a key.

    `unit_ms` is 1000 or 1; `is_unix`: when it ends, not how long it lasts.
    """

    name: LockName
    unit_ms: Natural
    is_unix: bool = False


class CountKeys(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=24):
    """EXISTS, TOUCH: how many of these are there, each as often as it is named. Answer: Number."""

    names: tuple[LockName, ...]


class GetRange(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=25):
    """GETRANGE: from one byte of the value to another, both included; below 0 they count from its
    end. Answer: Bulk."""

    name: LockName
    first: Signed
    last: Signed


class GetStrings(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=26):
    """MGET. Answer: Values; what has no one value has none. Refused when they are too long."""

    names: tuple[LockName, ...]


class ListKeys(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=27):
    """KEYS: the keys of a database that match a glob. Answer: Values. Refused when it would take too
    long."""

    db: Database
    pattern: bytes


class ScanKeys(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=28):
    """SCAN: some keys of a database, or of all. Answer: KeyPage.

    `cursor` is what the last page gave, 0 to begin. Only those that match, and of the kind `string`
    or, of another `kind`, none.
    """

    db: Database
    cursor: Natural = 0
    pattern: bytes = b"*"
    count: Natural = limits.SCAN_COUNT_DEFAULT
    kind: bytes = b""


class RandomKey(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=29):
    """RANDOMKEY. Answer: Bulk."""

    db: Database


class DescribeKey(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=30):
    """OBJECT and MEMORY USAGE: encoding, freq, idletime, refcount or memory. Answer: Bulk or Number."""

    name: LockName
    aspect: str


class ScriptsExist(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=40):
    """SCRIPT EXISTS: which of these SHA1s are known. Answer: Scripted, with 1 or 0 for each."""

    digests: tuple[bytes, ...]


StringQuery: TypeAlias = (
    GetString | GetLength | GetType | GetTtl | CountKeys | GetRange | GetStrings
)
KeyspaceQuery: TypeAlias = ListKeys | ScanKeys | RandomKey
Query: TypeAlias = (
    GetLock
    | ListLocks
    | CheckVersion
    | GetBackoff
    | GetStats
    | CountLocks
    | StringQuery
    | DescribeKey
    | KeyspaceQuery
    | ScriptsExist
)


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
    """Somebody else has the lock, or comes first.

    `owner`, `version` and `ttl_ms` are those of the hold in the way. When none is: of the waiter in
    front, with version 0 and what is left of its wait; or None, 0 and what is left of the delay.
    """

    owner: bytes | None
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


class Queued(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=40):
    """The owner has a place in the queue, with `position` places ahead. Nobody is blocked for it."""

    position: int
    estimated_wait_ms: int


class Blocked(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=41):
    """No answer yet: it comes with the end of `ticket`, the log index of this command."""

    ticket: int


class TimedOut(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=42):
    """The wait ran out. The fields are those of `Held`."""

    owner: bytes | None
    version: int
    ttl_ms: int
    waiters: int
    advice: Advice


class Unblocked(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=43):
    """The wait was ended by somebody else. `reason`: unblocked (CLIENT UNBLOCK), cancelled
    (LOCK.CANCEL), replaced (the owner asked again), disconnected."""

    reason: str = "unblocked"


class NotWaiting(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=44):
    """The owner has no place in this lock's queue."""

    name: LockName


class QueueFull(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=45):
    """So many wait for the lock already (limits.WAITERS_PER_LOCK)."""

    name: LockName
    waiters: int


class Deadlock(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=46):
    """Waiting would close a cycle. Each step names a lock and whom the one before waits for there:
    the first is what the asker wanted, and the last names the asker."""

    cycle: tuple[tuple[LockName, bytes], ...]


class Cancelled(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=47):
    """So many places were given up, or waits ended: 0 or 1."""

    count: int


class Refused(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=48):
    """The command contradicts what the table holds, as `text` says."""

    text: str


class Bulk(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=60):
    """A value, or that there is none."""

    value: bytes | None


class Number(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=61):
    """An integer of 64 bits."""

    value: int


class Status(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=62):
    """A word, such as `string`."""

    text: str


class WrongType(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=63):
    """A string command on a shared lock or a semaphore. Nothing was done."""


class Scripted(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=64):
    """What a script answers, as it is sent. `resp3` is empty when it is the same in RESP3."""

    resp2: bytes
    resp3: bytes = b""


class Advised(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=31):
    """An Advice that is an answer by itself, among others."""

    advice: Advice


class Watched(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=81):
    """The numbers of the changes that these keys have had last, in the order of the Watch."""

    numbers: tuple[Natural, ...]


class Executed(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=82):
    """What came of each step of a transaction; None: a watched key has changed, nothing was done."""

    results: tuple[Told, ...] | None


class Values(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=66):
    """Several values, in the order in which they were asked for; None where there is none."""

    values: tuple[bytes | None, ...]


Replied: TypeAlias = Bulk | Number | Status | WrongType | Values
"""What string commands are answered, besides Done."""


Outcome: TypeAlias = (
    Granted
    | Held
    | Lost
    | Released
    | Renewed
    | Kept
    | Broken
    | NotHeld
    | NotOwner
    | Stale
    | Done
    | Queued
    | Blocked
    | TimedOut
    | Unblocked
    | NotWaiting
    | QueueFull
    | Deadlock
    | Cancelled
    | Refused
    | Busy
    | Replied
    | Scripted
    | Watched
    | Executed
)
"""What `apply` answers."""

Unapplied: TypeAlias = InDoubt | NoLeader | Busy | Moved
"""What the node answers for an operation whose outcome it does not have. (Busy may be an outcome too:
then a bound of the whole table was reached.)"""


# --- what else an entry brings -------------------------------------------------------------------


class Ended(msgspec.Struct, frozen=True, gc=False):
    """The end of a wait that was answered `Blocked(ticket)`; there is exactly one.

    `client` is whom its node answers with `outcome`. The rest says what was asked for.
    """

    ticket: int
    client: ClientId | None
    outcome: Outcome
    names: tuple[LockName, ...]
    owner: bytes
    request: bytes


class Event(msgspec.Struct, frozen=True, gc=False):
    """What happened to a lock, for those who watch it.

    `kind`: acquired, released, expired, renewed, broken, deleted, queued, cancelled. `version` is the
    hold's, 0 for queued and cancelled. `reason` of broken is the operator's; of cancelled: timeout,
    cancelled, disconnected, unblocked; of released: empty when its owner did it, disconnected
    (ONCLOSE), or unclaimed (nobody came back for the grant); of deleted: empty, or replaced (another
    value was set).
    """

    kind: str
    name: LockName
    owner: bytes
    version: int
    reason: bytes = b""


# --- answers to queries --------------------------------------------------------------------------


class HoldInfo(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One hold of a lock, as people see it. `holds` counts a re-entrant owner's acquisitions."""

    owner: bytes
    version: int
    acquired_at: UnixMs
    expires_at: UnixMs
    ttl_ms: int
    permits: int
    holds: int
    metadata: Metadata


class WaiterInfo(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One place in a lock's queue. `client` is None when nobody is attached to it."""

    owner: bytes
    client: ClientId | None
    enqueued_at: UnixMs
    timeout_at: UnixMs
    priority: int
    position: int
    mode: str
    permits: int


class LockInfo(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=20):
    """A lock as LOCK.GET and LOCK.LIST show it. Moments are unix milliseconds; 0 is never.

    `mode`: exclusive, shared, semaphore. `owner` is None when the lock is shared or a semaphore, or
    when nobody holds it; then `version` and the moments are the oldest hold's, or 0. `limit` is how
    many permits there are: 1 when it is exclusive, 0 when it is shared. `waiters` is None unless
    asked for, and has the first of them, at most limits.WAITERS_LISTED_MAX. `holders` has the oldest
    first, and is empty when it is exclusive; both end early when a reply would be too long.
    """

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
    holders: tuple[HoldInfo, ...] = ()
    waiters: tuple[WaiterInfo, ...] | None = None


class LockPage(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=21):
    """One page of LOCK.LIST; `cursor` is b"0" after the last one."""

    cursor: bytes
    locks: tuple[LockInfo, ...]


class KeyPage(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=67):
    """One page of SCAN; `cursor` is 0 after the last one."""

    cursor: Natural
    names: tuple[LockName, ...]


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


Answer: TypeAlias = LockInfo | None | LockPage | int | Advice | Stats | Replied | Scripted | KeyPage


Told: TypeAlias = Outcome | LockInfo | LockPage | KeyPage | Stats | Advised | int | None
"""Outcomes and answers, side by side."""


def encode_run(operations: list[Operation]) -> bytes:
    """Encode the commands of one entry."""
    return _encoder.encode(operations)


def decode_run(payload: bytes) -> list[Operation]:
    """Decode the commands of one entry. Raises msgspec.DecodeError when they are not a run."""
    return _decoder.decode(payload)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Operation])
